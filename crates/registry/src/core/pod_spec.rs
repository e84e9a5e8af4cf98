//! What is wrong with a pod's spec, in a pod or in a template.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain, label_value, qualified_name};
use serde_json::Value;

use super::container::{self, Around};
use super::pod_defaults::CONTAINERS;
use super::{
    container_mounts, container_resources, pod_affinity, pod_network, pod_os, pod_security, pod_volumes,
    toleration,
};
use crate::checks::{invalid, supported};
use crate::tree::{at, entries, is_true, items, number, text};

/// Checks the spec.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let around = Around::new(spec, pod_volumes::validate(spec, path, errors));
    let claims = super::pod_claims::validate(spec, path, errors);
    if items(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    pod_security::validate_pod(spec, path, errors);
    pod_security::validate_containers(spec, path, errors);
    let mut seen = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let at = at.index(index);
            let name = text(container, &["name"]);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            container::validate(container, list, &around, &at, errors);
            super::pod_claims::validate_container(container, &claims, &at, errors);
            super::pod_restart::validate(container, list, text(spec, &["restartPolicy"]), &at, errors);
        }
    }
    super::pod_ephemeral::validate_list(spec, path, errors);
    container_resources::validate_pod(spec, path, errors);
    super::pod_claims::validate_container(spec, &claims, path, errors);
    container_mounts::validate_files(spec, path, errors);
    supported(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    supported(spec, "dnsPolicy", &policies, path, errors);
    validate_names(spec, path, errors);
    pod_affinity::validate(spec, path, errors);
    pod_network::validate(spec, path, errors);
    validate_gates(spec, path, errors);
    if let Some(seconds) = number(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, why));
    }
    toleration::validate(items(spec, &["tolerations"]), &path.child("tolerations"), errors);
    validate_host_ports(spec, path, errors);
    validate_host_users(spec, path, errors);
    validate_preemption(spec, path, errors);
    container_resources::validate_limits(spec.get("overhead"), &path.child("overhead"), errors);
    pod_os::validate(spec, path, errors);
}

/// What is wrong with the spec of a pod that would be right in a template, which may be filled in later.
pub(crate) fn validate_of_pod(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for list in CONTAINERS {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let image = text(container, &["image"]);
            if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(&at.index(index).child("image"), image, why));
            }
        }
    }
    let at_volumes = path.child("volumes");
    for (index, volume) in items(spec, &["volumes"]).iter().enumerate() {
        // Of a volume that names another source first, only that counts.
        let is_image =
            volume.as_object().is_some_and(|volume| volume.len() == 2) && volume.get("image").is_some();
        if is_image && text(volume, &["image", "reference"]).is_empty() {
            let at_volume = at_volumes.index(index);
            errors.push(FieldError::required(&at_volume.child("image").child("reference"), ""));
        }
    }
}

/// A pod with users of its own has no other namespace of the host's, and no devices of it.
fn validate_host_users(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if spec.get("hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    let why = "when `hostUsers` is false";
    // Upstream's errors write two of the names so.
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if is_true(spec, &[field]) {
            errors.push(FieldError::forbidden(&path.child(shown), why));
        }
    }
    for list in CONTAINERS {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            if !items(container, &["volumeDevices"]).is_empty() {
                errors.push(FieldError::forbidden(&at.index(index).child("volumeDevices"), why));
            }
        }
    }
}

fn validate_names(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let check = |field: &str, rule: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>| {
        let name = text(spec, &[field]);
        if !name.is_empty() {
            invalid(&path.child(field), name, rule(name), errors);
        }
    };
    check("serviceAccountName", dns1123_subdomain, errors);
    check("nodeName", dns1123_subdomain, errors);
    check("hostname", dns1123_label, errors);
    check("subdomain", dns1123_label, errors);
    check("priorityClassName", dns1123_subdomain, errors);
    if let Some(class) = at(spec, &["runtimeClassName"]).and_then(Value::as_str) {
        invalid(&path.child("runtimeClassName"), class, dns1123_subdomain(class), errors);
    }
    let labels = path.child("nodeSelector");
    for (key, value) in entries(spec, &["nodeSelector"]) {
        let value = value.as_str().unwrap_or_default();
        invalid(&labels, key, qualified_name(key), errors);
        invalid(&labels, value, label_value(value), errors);
    }
}

/// What a pod waits for: before it is scheduled, and before it is ready.
fn validate_gates(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("readinessGates");
    for (index, gate) in items(spec, &["readinessGates"]).iter().enumerate() {
        let kind = text(gate, &["conditionType"]);
        invalid(&at.index(index).child("conditionType"), kind, qualified_name(kind), errors);
    }
    let at = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (index, gate) in items(spec, &["schedulingGates"]).iter().enumerate() {
        let name = text(gate, &["name"]);
        invalid(&at.index(index), name, qualified_name(name), errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.index(index), name));
        }
    }
}

fn validate_preemption(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if at(spec, &["preemptionPolicy"]).is_some_and(|policy| policy == "") {
        errors.push(FieldError::required(&path.child("preemptionPolicy"), ""));
    } else {
        supported(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
}

/// No two containers of a pod take the same port of the host; with the host's network every port is one of the host.
/// Containers that run before the others clash with nobody but themselves.
fn validate_host_ports(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let host_network = is_true(spec, &["hostNetwork"]);
    let mut taken = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            // Upstream counts each container that runs before the others as the first.
            let is_first = list == "initContainers";
            if is_first {
                taken.clear();
            }
            let at = at.index(if is_first { 0 } else { index });
            let at_ports = at.child("ports");
            for (index, port) in items(container, &["ports"]).iter().enumerate() {
                let host = number(port, &["hostPort"]).unwrap_or_default();
                if host == 0 {
                    continue;
                }
                let at_port = at_ports.index(index);
                let at_host = at_port.child("hostPort");
                if host_network && !is_first && number(port, &["containerPort"]) != Some(host) {
                    let why = "must match `containerPort` when `hostNetwork` is true";
                    errors.push(FieldError::invalid(&at_host, host, why));
                }
                let key = format!("{}/{}/{host}", text(port, &["protocol"]), text(port, &["hostIP"]));
                if !taken.insert(key.clone()) {
                    errors.push(FieldError::duplicate(&at_host, key));
                }
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
        let expected = ["hostNetwork", "HostPID", "HostIPC"]
            .map(|field| format!("spec.{field}: Forbidden: when `hostUsers` is false"));
        assert_eq!(wrong(json!(false), true), expected);
        for (users, network) in [(json!(false), false), (json!(true), true), (json!(null), true)] {
            assert_eq!(wrong(users, network), Vec::<String>::new());
        }
    }

    /// What is wrong with a spec that has these fields beside a container.
    fn faults(more: Value) -> Vec<String> {
        let mut spec = json!({
            "containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always", "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 30,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            crate::tree::map(&mut spec).insert(field.clone(), value.clone());
        }
        let mut errors = Vec::new();
        validate(&spec, &Path::new("spec"), &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn places_say_what_upstream_wants() {
        let spread = |more: Value| {
            let mut constraint =
                json!({"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"});
            for (field, value) in more.as_object().into_iter().flatten() {
                crate::tree::map(&mut constraint).insert(field.clone(), value.clone());
            }
            json!({"topologySpreadConstraints": [constraint]})
        };
        let anti = |term: Value| json!({"affinity": {"podAntiAffinity": {pod_affinity::REQUIRED: [term]}}});
        let nodes = |terms: Value| json!({"affinity": {"nodeAffinity": {pod_affinity::REQUIRED: {"nodeSelectorTerms": terms}}}});
        for (more, expected) in [
            (json!({"imagePullSecrets": [{}]}), vec![]),
            (spread(json!({})), vec![]),
            (spread(json!({"maxSkew": 0})), vec!["maxSkew: Invalid value: 0: must be greater than zero"]),
            (spread(json!({"topologyKey": ""})), vec!["topologyKey: Required value: can not be empty"]),
            (
                spread(json!({"matchLabelKeys": ["a"]})),
                vec!["matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"],
            ),
            (
                spread(json!({"nodeTaintsPolicy": ""})),
                vec!["nodeTaintsPolicy: Unsupported value: \"\": supported values: \"Honor\", \"Ignore\""],
            ),
            (
                nodes(json!([])),
                vec!["nodeSelectorTerms: Required value: must have at least one node selector term"],
            ),
            (anti(json!({"topologyKey": "a", "namespaces": ["n"]})), vec![]),
            (
                anti(
                    json!({"topologyKey": "a", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "x"}]}}),
                ),
                vec![
                    "labelSelector.matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator",
                ],
            ),
            (
                json!({"schedulingGates": [{"name": "x"}, {"name": "x"}]}),
                vec!["schedulingGates[1]: Duplicate value: \"x\""],
            ),
            (json!({"preemptionPolicy": ""}), vec!["preemptionPolicy: Required value"]),
            (json!({"os": {}}), vec!["os.name: Required value"]),
            (
                json!({"os": {"name": "windows"}, "hostPID": true}),
                vec!["hostPID: Forbidden: cannot be set for a windows pod"],
            ),
            (
                json!({"hostAliases": [{"ip": "10.0.0.01"}, {"ip": "::1"}]}),
                vec!["hostAliases[0].ip: Invalid value: \"10.0.0.01\": must not have leading 0s"],
            ),
            (
                json!({"dnsPolicy": "None"}),
                vec!["dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (json!({"dnsConfig": {"searches": ["_a.b_c", "."]}}), vec![]),
        ] {
            let found = faults(more.clone());
            let fits = found.len() == expected.len()
                && found.iter().zip(&expected).all(|(found, expected)| found.ends_with(expected));
            assert!(fits, "{more}: {found:?}");
        }
    }

    #[test]
    fn containers_and_volumes_say_what_upstream_wants() {
        let container = |more: Value| {
            let mut container = json!({"name": "c", "image": "i"});
            for (field, value) in more.as_object().into_iter().flatten() {
                crate::tree::map(&mut container).insert(field.clone(), value.clone());
            }
            json!({"containers": [container], "volumes": [{"name": "e", "emptyDir": {}}]})
        };
        let volume = |kind: &str, source: Value| json!({"volumes": [{"name": "v", kind: source}]});
        let from = |source: Value| container(json!({"env": [{"name": "A", "valueFrom": source}]}));
        for (more, expected) in [
            (
                container(json!({"envFrom": [{}]})),
                vec![
                    "containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                ],
            ),
            (from(json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a/b']"}})), vec![]),
            (
                from(json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "x"}})),
                vec![
                    "fieldPath: Invalid value: \"x\": error converting fieldPath: field label not supported: x",
                ],
            ),
            (from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}})), vec![]),
            (
                container(json!({"volumeDevices": [{"name": "e", "devicePath": "/x"}]})),
                vec!["can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"],
            ),
            (
                container(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]})),
                vec!["volumeMounts[0].name: Not found: \"x\""],
            ),
            (
                container(
                    json!({"livenessProbe": {"httpGet": {"path": "/", "port": 1, "scheme": "x"}, "successThreshold": 1}}),
                ),
                vec!["httpGet.scheme: Unsupported value: \"x\": supported values: \"HTTP\", \"HTTPS\""],
            ),
            (
                container(json!({"resources": {"requests": {"a.b/c": "1"}}})),
                vec!["resources.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                container(json!({"resizePolicy": [{"resourceName": "cpu"}]})),
                vec!["resizePolicy: Required value"],
            ),
            (
                volume("emptyDir", json!({"sizeLimit": "-1"})),
                vec!["SizeLimit field must be a valid resource quantity"],
            ),
            (
                volume("iscsi", json!({"targetPortal": "p", "iqn": "x"})),
                vec!["must be valid format starting with iqn, eui, or naa"],
            ),
            (
                volume("configMap", json!({"name": "n", "items": [{"key": "k", "path": "..p"}]})),
                vec!["items[0].path: Invalid value: \"..p\": must not start with '..'"],
            ),
            (
                volume(
                    "projected",
                    json!({"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}),
                ),
                vec!["may not specify a duration less than 10 minutes"],
            ),
            (
                json!({"volumes": [{"name": "v", "emptyDir": {}, "cephfs": {}}]}),
                vec!["volumes[0].cephFS: Forbidden: may not specify more than 1 volume type"],
            ),
        ] {
            let found = faults(more.clone());
            let fits = found.len() == expected.len()
                && found.iter().zip(&expected).all(|(found, expected)| found.ends_with(expected));
            assert!(fits, "{more}: {found:?}");
        }
    }
}
