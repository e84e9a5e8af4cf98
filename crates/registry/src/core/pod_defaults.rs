//! Defaults of pod specs: what upstream fills in when it decodes a pod or a template.

use serde_json::{Value, json};

use crate::tree::{at, at_mut, default, default_text, is_true, items, items_mut, map, object, text};

/// Lists of containers in a pod's spec.
pub(crate) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fills in the spec of a pod or of a template.
pub(crate) fn pod_spec(spec: &mut Value) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_text(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    service_account(spec);
    let host_network = is_true(spec, &["hostNetwork"]);
    for list in CONTAINERS {
        for each in items_mut(spec, &[list]) {
            container(each, host_network);
        }
    }
    for each in items_mut(spec, &["volumes"]) {
        volume(each);
    }
}

/// The old name of the field goes along with the new one.
fn service_account(spec: &mut Value) {
    let name = match text(spec, &["serviceAccountName"]) {
        "" => text(spec, &["serviceAccount"]).to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        let spec = map(spec);
        spec.insert("serviceAccountName".into(), name.clone().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

/// What only pods get, not templates.
pub(crate) fn pod_only(spec: &mut Value) {
    default(spec, "enableServiceLinks", true);
    // What a container may use at most is what it asks for, if it does not say otherwise.
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, &[list]) {
            let Some(limits) =
                container.get("resources").and_then(|resources| resources.get("limits")).cloned()
            else {
                continue;
            };
            let resources = object(container, "resources");
            let requests = resources.entry("requests").or_insert_with(|| json!({}));
            for (name, limit) in limits.as_object().into_iter().flatten() {
                default(requests, name, limit.clone());
            }
        }
    }
}

fn container(container: &mut Value, host_network: bool) {
    let policy = pull_policy(text(container, &["image"]));
    default_text(container, "imagePullPolicy", policy);
    default(container, "resources", json!({}));
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    for port in items_mut(container, &["ports"]) {
        default_text(port, "protocol", "TCP");
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            default(port, "hostPort", number);
        }
    }
    for variable in items_mut(container, &["env"]) {
        if let Some(reference) = at_mut(variable, &["valueFrom", "fieldRef"]) {
            default_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = at_mut(variable, &["valueFrom", "resourceFieldRef"]) {
            default(reference, "divisor", "0");
        }
        if let Some(reference) = at_mut(variable, &["valueFrom", "fileKeyRef"]) {
            default(reference, "optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get_mut(name) {
            probe(found);
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(found) = at_mut(container, &["lifecycle", name, "httpGet"]) {
            http_get(found);
        }
    }
}

fn probe(probe: &mut Value) {
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        let unset = probe.get(name).and_then(Value::as_i64).unwrap_or_default() == 0;
        if unset {
            map(probe).insert(name.into(), value.into());
        }
    }
    if let Some(found) = probe.get_mut("httpGet") {
        http_get(found);
    }
    if let Some(found) = probe.get_mut("grpc") {
        default(found, "service", "");
    }
}

fn http_get(action: &mut Value) {
    default_text(action, "path", "/");
    default_text(action, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    const DEFAULT_MODE: i64 = 0o644;
    let sources = map(volume).len() - usize::from(volume.get("name").is_some());
    if sources == 0 {
        map(volume).insert("emptyDir".into(), json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(name) {
            default(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(source) = volume.get_mut("hostPath") {
        default(source, "type", "");
    }
    if let Some(source) = volume.get_mut("image") {
        let policy = pull_policy(text(source, &["reference"]));
        default_text(source, "pullPolicy", policy);
    }
    for item in items_mut(volume, &["downwardAPI", "items"]) {
        field_reference(item);
    }
    for source in items_mut(volume, &["projected", "sources"]) {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            default(token, "expirationSeconds", 3600);
        }
        for item in items_mut(source, &["downwardAPI", "items"]) {
            field_reference(item);
        }
    }
}

fn field_reference(item: &mut Value) {
    if let Some(reference) = item.get_mut("fieldRef") {
        default_text(reference, "apiVersion", "v1");
    }
    if let Some(reference) = item.get_mut("resourceFieldRef") {
        default(reference, "divisor", "0");
    }
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether an image name means whatever is newest: it has no digest, and its tag is `latest` or absent.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.rsplit_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// How a pod's containers rank when memory runs short.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    // What the pod as a whole is given says it all.
    let holders: Vec<&Value> = match at(spec, &["resources"]) {
        Some(whole) if whole.as_object().is_some_and(|whole| !whole.is_empty()) => vec![spec],
        _ => ["initContainers", "containers"].iter().flat_map(|list| items(spec, &[list])).collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for holder in holders {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| {
                let found = text(holder, &["resources", kind, resource]);
                found.parse::<apimachinery::quantity::Quantity>().ok().filter(|amount| !amount.is_zero())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_what_has_no_other_tag() {
        for image in ["a", "a:latest", "r.example:5000/a", "r.example/a:latest"] {
            assert!(is_latest(image), "{image}");
        }
        for image in ["a:1", "r.example:5000/a:1", "a@sha256:0", "a:latest@sha256:0"] {
            assert!(!is_latest(image), "{image}");
        }
    }

    #[test]
    fn a_bare_pod_gets_what_upstream_gives_it() {
        let mut spec = json!({"containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "x"}},
                {"name": "i", "image": {"reference": "a:1"}}]});
        pod_spec(&mut spec);
        pod_only(&mut spec);
        let expected = json!({
            "containers": [{
                "name": "a", "image": "a", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "i", "image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30, "enableServiceLinks": true,
        });
        assert_eq!(spec, expected);
        assert_eq!(qos_class(&spec), "Burstable");
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let class = |resources: Value| qos_class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": both, "limits": both})), "Guaranteed");
        assert_eq!(class(json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": both})), "Burstable");
        let whole =
            json!({"resources": {"limits": both}, "containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        assert_eq!(qos_class(&whole), "Guaranteed");
    }
}
