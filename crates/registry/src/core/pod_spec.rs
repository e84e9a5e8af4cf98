//! What is wrong with a pod's spec, in a pod or in a template.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, dns1123_label, dns1123_subdomain, qualified_name};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::pod_security;
use crate::tree::{at, entries, is_true, items, number, text};

/// Checks the spec.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let volumes = validate_volumes(spec, path, errors);
    let claims = super::pod_claims::validate(spec, path, errors);
    let containers = path.child("containers");
    if items(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(&containers, ""));
    }
    pod_security::validate_pod(spec, path, errors);
    pod_security::validate_containers(spec, path, errors);
    let mut seen = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let at = at.index(index);
            let name = text(container, &["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            validate_container(container, list, &volumes, &at, errors);
            super::pod_claims::validate_container(container, &claims, &at, errors);
            super::pod_restart::validate(container, list, text(spec, &["restartPolicy"]), &at, errors);
        }
    }
    super::pod_ephemeral::validate_list(spec, path, errors);
    one_of(spec, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    one_of(spec, "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], path, errors);
    validate_names(spec, path, errors);
    let grace = "terminationGracePeriodSeconds";
    super::template::not_negative(spec, &[grace], &path.child(grace), errors);
    if let Some(seconds) = number(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, why));
    }
    validate_tolerations(spec, path, errors);
    validate_host_ports(spec, path, errors);
    validate_host_users(spec, path, errors);
}

/// A pod with users of its own has no other namespace of the host's.
fn validate_host_users(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if spec.get("hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if is_true(spec, &[field]) {
            errors.push(FieldError::forbidden(&path.child(field), "when `hostUsers` is false"));
        }
    }
}

/// A field that must hold one of a few words, if it is there.
pub(crate) fn one_of(
    tree: &Value,
    field: &str,
    words: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match text(tree, &[field]) {
        "" => {}
        word if words.contains(&word) => {}
        other => errors.push(FieldError::not_supported(&path.child(field), other, words)),
    }
}

fn validate_names(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let check = |field: &str, rule: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>| {
        let name = text(spec, &[field]);
        if !name.is_empty() {
            for why in rule(name) {
                errors.push(FieldError::invalid(&path.child(field), name, why));
            }
        }
    };
    check("serviceAccountName", dns1123_subdomain, errors);
    check("nodeName", dns1123_subdomain, errors);
    check("hostname", dns1123_label, errors);
    check("subdomain", dns1123_label, errors);
    check("priorityClassName", dns1123_subdomain, errors);
    check("runtimeClassName", dns1123_subdomain, errors);
    let labels = path.child("nodeSelector");
    for (key, value) in entries(spec, &["nodeSelector"]) {
        for why in qualified_name(key) {
            errors.push(FieldError::invalid(&labels, key.as_str(), why));
        }
        let value = value.as_str().unwrap_or_default();
        for why in apimachinery::meta::names::label_value(value) {
            errors.push(FieldError::invalid(&labels, value, why));
        }
    }
    for (index, secret) in items(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(secret, &["name"]).is_empty() {
            let at = path.child("imagePullSecrets");
            errors.push(FieldError::required(&at.index(index).child("name"), ""));
        }
    }
}

/// The names of a spec's volumes.
pub(crate) fn volume_names(spec: &Value) -> BTreeSet<&str> {
    items(spec, &["volumes"]).iter().map(|volume| text(volume, &["name"])).collect()
}

/// Checks the volumes; gives their names.
fn validate_volumes<'a>(spec: &'a Value, path: &Path<'_>, errors: &mut Vec<FieldError>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    let at = path.child("volumes");
    for (index, volume) in items(spec, &["volumes"]).iter().enumerate() {
        let at = at.index(index);
        let name = text(volume, &["name"]);
        check_label(name, &at.child("name"), errors);
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let mut sources = volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
        let Some((kind, source)) = sources.next() else {
            errors.push(FieldError::required(&at, "must specify a volume type"));
            continue;
        };
        for (more, _) in sources {
            errors.push(FieldError::forbidden(&at.child(more), "may not specify more than 1 volume type"));
        }
        if kind == "image" {
            one_of(source, "pullPolicy", &["Always", "IfNotPresent", "Never"], &at.child(kind), errors);
        }
        let required = match kind.as_str() {
            "hostPath" => "path",
            "secret" => "secretName",
            "configMap" => "name",
            "persistentVolumeClaim" => "claimName",
            _ => continue,
        };
        if text(source, &[required]).is_empty() {
            errors.push(FieldError::required(&at.child(kind).child(required), ""));
        }
    }
    names
}

fn check_label(name: &str, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        errors.extend(dns1123_label(name).into_iter().map(|why| FieldError::invalid(at, name, why)));
    }
}

pub(crate) fn validate_container(
    container: &Value,
    list: &str,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    check_label(text(container, &["name"]), &path.child("name"), errors);
    let image = text(container, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, why));
    }
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    one_of(container, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"], path, errors);
    validate_ports(container, path, errors);
    validate_env(container, path, errors);
    validate_mounts(container, volumes, path, errors);
    validate_resources(container, path, errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let at = path.child(probe);
        match container.get(probe) {
            Some(_) if list == "initContainers" && text(container, &["restartPolicy"]) != "Always" => {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&at, why));
            }
            Some(found) => validate_probe(found, probe, &at, errors),
            None => {}
        }
    }
    let lifecycle = path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(found) = at(container, &["lifecycle", hook]) {
            validate_action(
                found,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &lifecycle.child(hook),
                errors,
            );
        }
    }
}

fn validate_ports(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("ports");
    let mut names_seen = BTreeSet::new();
    for (index, port) in items(container, &["ports"]).iter().enumerate() {
        let at = at.index(index);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            let faults = names::port_name(name);
            if faults.is_empty() && !names_seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            errors.extend(faults.into_iter().map(|why| FieldError::invalid(&at.child("name"), name, why)));
        }
        match number(port, &["containerPort"]).unwrap_or_default() {
            0 => errors.push(FieldError::required(&at.child("containerPort"), "")),
            value => check_port(value, &at.child("containerPort"), errors),
        }
        if let Some(value) = number(port, &["hostPort"]).filter(|value| *value != 0) {
            check_port(value, &at.child("hostPort"), errors);
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &at, errors);
    }
}

fn check_port(port: i64, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for why in names::port_number(port) {
        errors.push(FieldError::invalid(at, port, why));
    }
}

fn validate_env(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_env = path.child("env");
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let at_one = at_env.index(index);
        let name = text(variable, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(&at_one.child("name"), ""));
        } else {
            let faults = names::environment_variable(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_one.child("name"), name, why)));
        }
        let Some(source) = variable.get("valueFrom") else { continue };
        let at_source = at_one.child("valueFrom");
        if !text(variable, &["value"]).is_empty() {
            let why = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid(&at_source, "", why));
        }
        match source.as_object().map_or(0, serde_json::Map::len) {
            0 => {
                let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
                errors.push(FieldError::invalid(&at_source, "", why));
            }
            1 => {}
            _ => errors.push(FieldError::invalid(
                &at_source,
                "",
                "may not have more than one field specified at a time",
            )),
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = source.get(kind)
                && text(reference, &["key"]).is_empty()
            {
                errors.push(FieldError::required(&at_source.child(kind).child("key"), ""));
            }
        }
        if let Some(reference) = source.get("fileKeyRef") {
            validate_file_key(reference, &at_source.child("fileKeyRef"), errors);
        }
    }
    let at_from = path.child("envFrom");
    for (index, source) in items(container, &["envFrom"]).iter().enumerate() {
        if at(source, &["configMapRef"]).is_none() && at(source, &["secretRef"]).is_none() {
            let why = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(FieldError::invalid(&at_from.index(index), "", why));
        }
    }
}

fn validate_file_key(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["key", "volumeName", "path"] {
        if text(reference, &[field]).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    let key = text(reference, &["key"]);
    if !key.is_empty() {
        let faults = names::environment_variable(key).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&path.child("key"), key, why)));
    }
    let file = text(reference, &["path"]);
    if file.starts_with('/') {
        errors.push(FieldError::invalid(&path.child("path"), file, "must be a relative path"));
    } else if file.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(&path.child("path"), file, "must not contain '..'"));
    }
}

fn validate_mounts(
    container: &Value,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let at = path.child("volumeMounts");
    let mut places = BTreeSet::new();
    for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let at = at.index(index);
        let (name, place) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        pod_security::validate_mount(mount, container, &at, errors);
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(&at.child("name"), name));
        }
        if place.is_empty() {
            errors.push(FieldError::required(&at.child("mountPath"), ""));
        } else if !places.insert(place) {
            errors.push(FieldError::invalid(&at.child("mountPath"), place, "must be unique"));
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = text(mount, &[field]);
            if sub.starts_with('/') {
                errors.push(FieldError::invalid(&at.child(field), sub, "must be a relative path"));
            } else if sub.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(&at.child(field), sub, "must not contain '..'"));
            }
        }
    }
}

fn validate_resources(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_resources = path.child("resources");
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    for kind in ["limits", "requests"] {
        let at_kind = at_resources.child(kind);
        for (name, value) in entries(container, &["resources", kind]) {
            let at_one = at_kind.key(name);
            let known = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-");
            if !known && !name.contains('/') {
                errors.push(FieldError::invalid(
                    &at_one,
                    name.as_str(),
                    "must be a standard resource for containers",
                ));
            }
            if amount(value).is_some_and(|amount| amount.signum() < 0) {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&at_one, value.clone(), why));
            }
        }
    }
    let at_requests = at_resources.child("requests");
    for (name, request) in entries(container, &["resources", "requests"]) {
        let limit = at(container, &["resources", "limits", name]).and_then(amount);
        if let (Some(request), Some(limit)) = (amount(request), limit)
            && request > limit
        {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(&at_requests, request.to_string(), why));
        }
    }
}

fn validate_probe(probe: &Value, name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    validate_action(probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        super::template::not_negative(probe, &[field], &path.child(field), errors);
    }
    let successes = number(probe, &["successThreshold"]).unwrap_or(1);
    if name != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
}

fn validate_action(action: &Value, kinds: &[&str], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut given = kinds.iter().filter(|kind| action.get(**kind).is_some());
    let Some(kind) = given.next() else {
        errors.push(FieldError::required(path, "must specify a handler type"));
        return;
    };
    for more in given {
        errors.push(FieldError::forbidden(&path.child(more), "may not specify more than 1 handler type"));
    }
    let at_kind = path.child(kind);
    match *kind {
        "exec" if items(action, &["exec", "command"]).is_empty() => {
            errors.push(FieldError::required(&at_kind.child("command"), ""));
        }
        "httpGet" | "tcpSocket" => match at(action, &[kind, "port"]) {
            Some(Value::String(name)) => {
                let faults = names::port_name(name).into_iter();
                errors.extend(
                    faults.map(|why| FieldError::invalid(&at_kind.child("port"), name.as_str(), why)),
                );
            }
            port => {
                check_port(port.and_then(Value::as_i64).unwrap_or_default(), &at_kind.child("port"), errors)
            }
        },
        _ => {}
    }
}

fn validate_tolerations(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("tolerations");
    for (index, toleration) in items(spec, &["tolerations"]).iter().enumerate() {
        let at = at.index(index);
        let (key, operator, value) =
            (text(toleration, &["key"]), text(toleration, &["operator"]), text(toleration, &["value"]));
        if !key.is_empty() {
            let faults = qualified_name(key).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at.child("key"), key, why)));
        }
        if key.is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at.child("operator"), operator, why));
        }
        if operator == "Exists" && !value.is_empty() {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(&at.child("operator"), value, why));
        }
        one_of(toleration, "operator", &["Equal", "Exists"], &at, errors);
        one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &at, errors);
        if toleration.get("tolerationSeconds").is_some() && text(toleration, &["effect"]) != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&at.child("effect"), text(toleration, &["effect"]), why));
        }
    }
}

/// No two containers of a pod take the same port of the host; with the host's network every port is one of the host.
fn validate_host_ports(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let host_network = is_true(spec, &["hostNetwork"]);
    let mut taken = BTreeSet::new();
    let at = path.child("containers");
    for (index, container) in items(spec, &["containers"]).iter().enumerate() {
        let at = at.index(index);
        let at_ports = at.child("ports");
        for (index, port) in items(container, &["ports"]).iter().enumerate() {
            let host = number(port, &["hostPort"]).unwrap_or_default();
            if host == 0 {
                continue;
            }
            let at_port = at_ports.index(index);
            if host_network && number(port, &["containerPort"]) != Some(host) {
                let why = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&at_port.child("containerPort"), host, why));
            }
            let key = format!("{}/{}/{host}", text(port, &["protocol"]), text(port, &["hostIP"]));
            if !taken.insert(key.clone()) {
                errors.push(FieldError::duplicate(&at_port.child("hostPort"), key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_of_its_own_and_namespaces_of_the_hosts_exclude_each_other() {
        let wrong = |users: Value, network: bool| {
            let spec = json!({
                "hostUsers": users, "hostNetwork": network, "hostPID": network, "hostIPC": network,
                "containers": [{ "name": "c", "image": "i", "terminationMessagePolicy": "File" }],
            });
            let mut errors = Vec::new();
            validate_host_users(&spec, &Path::new("spec"), &mut errors);
            errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        let expected = ["hostNetwork", "hostPID", "hostIPC"]
            .map(|field| format!("spec.{field}: Forbidden: when `hostUsers` is false"));
        assert_eq!(wrong(json!(false), true), expected);
        for (users, network) in [(json!(false), false), (json!(true), true), (json!(null), true)] {
            assert_eq!(wrong(users, network), Vec::<String>::new());
        }
    }
}
