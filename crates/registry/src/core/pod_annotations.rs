//! What is wrong with the annotations that say something about a pod's containers, in a pod or in a template.

use apimachinery::field::{FieldError, Path, quote};
use serde_json::Value;

use super::pod_defaults::CONTAINERS;
use super::pod_volumes::descending;
use crate::tree::{entries, items, text};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(super) const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks them; `path` is where they are.
pub(crate) fn validate(pod: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (name, value) in entries(pod, &["metadata", "annotations"]) {
        let value = value.as_str().unwrap_or_default();
        if name == DELETION_COST && !is_cost(value) {
            errors.push(FieldError::invalid(&path.key(name), value, "must be a 32bit integer"));
        }
        if name == SECCOMP_POD || name.starts_with(SECCOMP_CONTAINER) {
            // Upstream's errors write the name as if it were a field's.
            validate_seccomp(value, &path.child(name), errors);
        }
        if let Some(container) = name.strip_prefix(APPARMOR_CONTAINER) {
            validate_apparmor(pod, container, value, &path.key(name), errors);
        }
    }
}

fn is_cost(value: &str) -> bool {
    !value.starts_with('+') && (value == "0" || !value.starts_with('0')) && value.parse::<i32>().is_ok()
}

fn validate_seccomp(profile: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(file) = profile.strip_prefix("localhost/") {
        descending(file, path, errors);
    } else if !matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile"));
    }
}

fn validate_apparmor(
    pod: &Value,
    container: &str,
    profile: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mut containers = CONTAINERS.iter().flat_map(|list| items(pod, &["spec", list]));
    if !containers.any(|found| text(found, &["name"]) == container) {
        errors.push(FieldError::invalid(path, container, "container not found"));
    }
    if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
        let why = format!("invalid AppArmor profile name: {}", quote(profile));
        errors.push(FieldError::invalid(path, profile, why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn profiles_and_costs_have_their_forms() {
        let seccomp = format!("{SECCOMP_CONTAINER}c");
        let (known, unknown) = (format!("{APPARMOR_CONTAINER}c"), format!("{APPARMOR_CONTAINER}d"));
        for (name, value, expected) in [
            (DELETION_COST, "-5", None),
            (DELETION_COST, "0", None),
            (DELETION_COST, "", Some("must be a 32bit integer")),
            (DELETION_COST, "01", Some("must be a 32bit integer")),
            (SECCOMP_POD, "runtime/default", None),
            (SECCOMP_POD, "x", Some("must be a valid seccomp profile")),
            (&seccomp, "localhost/../x", Some("must not contain '..'")),
            (&known, "localhost/x", None),
            (&known, "x", Some("invalid AppArmor profile name: \"x\"")),
            (&unknown, "unconfined", Some("container not found")),
        ] {
            let spec = json!({"containers": [{"name": "c"}]});
            let pod = json!({"metadata": {"annotations": {name: value}}, "spec": spec});
            let mut errors = Vec::new();
            validate(&pod, &Path::new("annotations"), &mut errors);
            let found: Vec<&str> = errors.iter().map(|error| error.detail.as_str()).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{name} {value}");
        }
    }
}
