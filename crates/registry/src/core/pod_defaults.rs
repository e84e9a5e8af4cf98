//! Defaults of pod specs: what upstream fills in when it decodes a pod or a template.

use serde_json::{Value, json};

use crate::tree::{at, at_mut, default, default_text, is_true, items, items_mut, map, number, object, text};

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
    for list in CONTAINERS {
        for each in items_mut(spec, &[list]) {
            container(each);
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
    if number(spec, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0) {
        map(spec).insert("terminationGracePeriodSeconds".into(), 1.into());
    }
    if is_true(spec, &["hostNetwork"]) {
        ports_of_host(spec);
    }
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
    whole_requests(spec);
}

/// With the host's network, a container's port is the host's.
fn ports_of_host(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, &[list]) {
            for port in items_mut(container, &["ports"]) {
                let unset = number(port, &["hostPort"]).unwrap_or_default() == 0;
                if let Some(own) = port.get("containerPort").filter(|_| unset).cloned() {
                    map(port).insert("hostPort".into(), own);
                }
            }
        }
    }
}

/// What the pod as a whole asks for, where it says what it may use: what its containers do, else what it may use.
fn whole_requests(spec: &mut Value) {
    let limits = at(spec, &["resources", "limits"]).and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let sums = super::container_resources::together(spec, "requests");
    let sums: Vec<(String, String)> =
        sums.into_iter().map(|(name, sum)| (name.to_owned(), sum.to_string())).collect();
    let resources = object(spec, "resources");
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    for (name, sum) in sums.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        default(requests, &name, sum);
    }
    let is_known = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    for (name, limit) in limits.into_iter().filter(|(name, _)| is_known(name)) {
        default(requests, &name, limit);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, &["image"]));
    default_text(container, "imagePullPolicy", policy);
    default(container, "resources", json!({}));
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    for port in items_mut(container, &["ports"]) {
        default_text(port, "protocol", "TCP");
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
    super::volume_source::default_source(volume);
    if let Some(template) = at_mut(volume, &["ephemeral", "volumeClaimTemplate"]) {
        super::persistent_volume_claim::default_spec(template);
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

/// Whether an image name means whatever is newest: its tag is `latest`, or it has neither a tag nor a digest. One that is
/// no image's name does not.
fn is_latest(image: &str) -> bool {
    let (named, digest) = match image.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image, None),
    };
    let start = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[start..].rfind(':') {
        Some(colon) => (&named[..start + colon], Some(&named[start + colon + 1..])),
        None => (named, None),
    };
    is_image(name)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
        && tag.map_or(digest.is_none(), |tag| tag == "latest")
}

/// Whether text may name an image: parts of small letters and digits, after the name of a registry perhaps.
fn is_image(name: &str) -> bool {
    const LONGEST: usize = 255;
    let is_part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        ends.iter().all(|end| end.is_some_and(letter))
            && part.bytes().all(|byte| letter(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    let is_host =
        |part: &str| part == "localhost" || part.contains(['.', ':']) || part.to_lowercase() != part;
    let (host, path) = match name.split_once('/').filter(|(host, _)| is_host(host)) {
        Some((host, path)) => (host, path),
        // Where images are by default.
        None if name.contains('/') => ("docker.io", name),
        None => ("docker.io/library", name),
    };
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'/' | b'[' | b']');
    host.bytes().all(fits) && path.split('/').all(is_part) && host.len() + 1 + path.len() <= LONGEST
}

fn is_tag(tag: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(letter)
        && tag.bytes().all(|byte| letter(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hash)| {
        algorithm.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && hash.len() >= 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// How a pod's containers rank when memory runs short.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    // What the pod as a whole is given says it all.
    let holders: Vec<&Value> = match at(spec, &["resources"]) {
        Some(_) => vec![spec],
        None => ["initContainers", "containers"].iter().flat_map(|list| items(spec, &[list])).collect(),
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
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned = format!("a:latest@{digest}");
        for image in
            ["a", "a:latest", "r.example:5000/a", "r.example/a:latest", "localhost/a", "a/b", &pinned]
        {
            assert!(is_latest(image), "{image}");
        }
        let (long, digest) = ("a".repeat(300), format!("a@{digest}"));
        let wrong = ["Bad Value!", "", "-x", "A", "a//b", "a:", "a:latest@sha256:0", &long];
        for image in ["a:1", "r.example:5000/a:1", "a@sha256:0", &digest].iter().chain(&wrong) {
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
