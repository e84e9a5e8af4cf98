//! What is wrong with the security contexts of a pod and of its containers.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_defaults::CONTAINERS;
use crate::checks::supported;
use crate::tree::{at, is_true, items, number, text};

/// How long the name of a kernel setting may be.
const SYSCTL_LENGTH: usize = 253;
const SYSCTL_FORM: &str = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";

/// Checks the pod's own.
pub(super) fn validate_pod(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(security) = spec.get("securityContext").filter(|security| security.is_object()) else { return };
    let path = path.child("securityContext");
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        check_id(number(security, &[id]), &path.child(id), errors);
    }
    let groups = path.child("supplementalGroups");
    for (index, group) in items(security, &["supplementalGroups"]).iter().enumerate() {
        check_id(group.as_i64(), &groups.index(index), errors);
    }
    supported(security, "seLinuxChangePolicy", &["Recursive"], &path, errors);
    supported(security, "supplementalGroupsPolicy", &["Merge", "Strict"], &path, errors);
    supported(security, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &path, errors);
    if is_true(spec, &["shareProcessNamespace"]) && is_true(spec, &["hostPID"]) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    validate_profiles(security, &path, errors);
    validate_sysctls(security, &path, errors);
}

/// Checks those of its containers.
pub(super) fn validate_containers(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let host_users = spec.get("hostUsers") != Some(&Value::Bool(false));
    for list in CONTAINERS {
        let at = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            validate_container(container, host_users, &at.index(index), errors);
        }
    }
}

/// `host_users`: whether the pod lives with the machine's users.
fn validate_container(container: &Value, host_users: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(security) = container.get("securityContext").filter(|security| security.is_object()) else {
        return;
    };
    let path = path.child("securityContext");
    for id in ["runAsUser", "runAsGroup"] {
        check_id(number(security, &[id]), &path.child(id), errors);
    }
    let at_proc = path.child("procMount");
    match security.get("procMount").and_then(Value::as_str) {
        None | Some("Default") => {}
        Some("Unmasked") if host_users => {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&at_proc, "Unmasked", why));
        }
        Some("Unmasked") => {}
        Some(other) => errors.push(FieldError::not_supported(&at_proc, other, &["Default", "Unmasked"])),
    }
    validate_profiles(security, &path, errors);
    if security.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if is_true(security, &["privileged"]) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(&path, "", why));
        }
        let added = items(security, &["capabilities", "add"]);
        if added.iter().any(|name| name == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(&path, "", why));
        }
    }
}

/// Checks that what is to be read-only all the way down can be. Upstream's errors do not say which mount of the list at
/// `path`.
pub(super) fn validate_mount(
    mount: &Value,
    container: &Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let at = path.child("mountPropagation");
    let given = |field: &str| mount.get(field).and_then(Value::as_str);
    match given("mountPropagation") {
        Some("Bidirectional") if !is_true(container, &["securityContext", "privileged"]) => {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&at, why));
        }
        None | Some("Bidirectional" | "HostToContainer" | "None") => {}
        Some(other) => {
            let known = ["Bidirectional", "HostToContainer", "None"];
            errors.push(FieldError::not_supported(&at, other, &known));
        }
    }
    let at = path.child("recursiveReadOnly");
    match given("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !is_true(mount, &["readOnly"]) {
                errors.push(FieldError::forbidden(&at, "may only be specified when readOnly is true"));
            }
            if given("mountPropagation").is_some_and(|propagation| propagation != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&at, why));
            }
        }
        Some(other) => {
            errors.push(FieldError::not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

fn check_id(id: Option<i64>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.push(FieldError::invalid(path, id, "must be between 0 and 2147483647, inclusive"));
    }
}

fn validate_profiles(security: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
    for (field, word) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = at(security, &[field]) else { continue };
        let at = path.child(field);
        let at_name = at.child("localhostProfile");
        let name = text(profile, &["localhostProfile"]);
        match text(profile, &["type"]) {
            "" => errors.push(FieldError::required(
                &at.child("type"),
                format!("type is required when {field} is set"),
            )),
            // An empty one is enough for seccomp.
            "Localhost"
                if name.is_empty() && (word == "AppArmor" || profile.get("localhostProfile").is_none()) =>
            {
                let why = format!("must be set when {word} type is Localhost");
                errors.push(FieldError::required(&at_name, why));
            }
            "Localhost" if field == "seccompProfile" => check_inside(name, &at_name, errors),
            "Localhost" if name.len() > 4095 => {
                errors.push(FieldError::invalid(&at_name, name, "may not be more than 4095 bytes"));
            }
            "Localhost" if name.trim() != name => {
                errors.push(FieldError::invalid(&at_name, name, "must not be padded with whitespace"));
            }
            "Localhost" => {}
            kind if TYPES.contains(&kind) => {
                if !name.is_empty() {
                    let why = format!("can only be set when {word} type is Localhost");
                    errors.push(FieldError::invalid(&at_name, name, why));
                }
            }
            other => errors.push(FieldError::not_supported(&at.child("type"), other, &TYPES)),
        }
    }
}

/// A path below a directory that the node chooses.
fn check_inside(path: &str, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    if path.starts_with('/') {
        errors.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

fn validate_sysctls(security: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("sysctls");
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(security, &["sysctls"]).iter().enumerate() {
        let at = path.index(index);
        let at = at.child("name");
        let name = text(sysctl, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !is_sysctl(name) {
            let why = format!("must have at most {SYSCTL_LENGTH} characters and match regex ^{SYSCTL_FORM}$");
            errors.push(FieldError::invalid(&at, name, why));
        } else if !seen.insert(name.replace('/', ".")) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
}

/// Parts of small letters, digits, `-` and `_`, which neither begin nor end one, with dots or slashes between.
fn is_sysctl(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| letter(*byte))
            && bytes.last().is_some_and(|byte| letter(*byte))
            && bytes.iter().all(|byte| letter(*byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= SYSCTL_LENGTH && name.split(['.', '/']).all(part)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value, expected: &[&str]) {
        let mut errors = Vec::new();
        let path = Path::new("spec");
        validate_pod(&spec, &path, &mut errors);
        validate_containers(&spec, &path, &mut errors);
        for (index, container) in items(&spec, &["containers"]).iter().enumerate() {
            let list = path.child("containers");
            let at = list.index(index);
            let mounts = at.child("volumeMounts");
            for mount in items(container, &["volumeMounts"]) {
                validate_mount(mount, container, &mounts, &mut errors);
            }
        }
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{spec}");
    }

    fn of_pod(security: Value, expected: &[&str]) {
        check(json!({"securityContext": security}), expected);
    }

    #[test]
    fn profiles_are_of_a_known_type_and_in_their_place() {
        let seccomp =
            |profile: Value, expected: &[&str]| of_pod(json!({"seccompProfile": profile}), expected);
        let at = "spec.securityContext.seccompProfile";
        seccomp(json!({"type": "RuntimeDefault"}), &[]);
        seccomp(json!({"type": "Localhost", "localhostProfile": "a/b.json"}), &[]);
        seccomp(
            json!({}),
            &[&format!("{at}.type: Required value: type is required when seccompProfile is set")],
        );
        let types = "supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"";
        seccomp(json!({"type": "X"}), &[&format!("{at}.type: Unsupported value: \"X\": {types}")]);
        let required =
            format!("{at}.localhostProfile: Required value: must be set when seccomp type is Localhost");
        seccomp(json!({"type": "Localhost"}), &[&required]);
        let invalid =
            |name: &str, why: &str| format!("{at}.localhostProfile: Invalid value: \"{name}\": {why}");
        let only = invalid("p", "can only be set when seccomp type is Localhost");
        seccomp(json!({"type": "Unconfined", "localhostProfile": "p"}), &[&only]);
        let absolute = invalid("/p", "must be a relative path");
        seccomp(json!({"type": "Localhost", "localhostProfile": "/p"}), &[&absolute]);
        let out = invalid("a/../../p", "must not contain '..'");
        seccomp(json!({"type": "Localhost", "localhostProfile": "a/../../p"}), &[&out]);
        let padded = "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" p\": \
                      must not be padded with whitespace";
        of_pod(json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " p"}}), &[padded]);
    }

    #[test]
    fn kernel_settings_have_names() {
        let sysctls = |names: &[&str], expected: &[&str]| {
            let sysctls: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "1"})).collect();
            of_pod(json!({"sysctls": sysctls}), expected);
        };
        sysctls(&["net.ipv4.tcp_syncookies", "net/core/somaxconn"], &[]);
        sysctls(&[""], &["spec.securityContext.sysctls[0].name: Required value"]);
        let twice = "spec.securityContext.sysctls[1].name: Duplicate value: \"a/b\"";
        sysctls(&["a.b", "a/b"], &[twice]);
        for bad in ["a..b", "A.b", "a.b.", "_a", "a b"] {
            let why = format!(
                "spec.securityContext.sysctls[0].name: Invalid value: \"{bad}\": \
                 must have at most 253 characters and match regex ^{SYSCTL_FORM}$"
            );
            sysctls(&[bad], &[&why]);
        }
    }

    #[test]
    fn a_container_cannot_be_both_locked_and_privileged() {
        let own = |security: Value, expected: &[&str]| {
            check(json!({"containers": [{"securityContext": security}]}), expected);
        };
        let at = "spec.containers[0].securityContext";
        own(json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"]}}), &[]);
        let both = format!(
            "{at}: Invalid value: \"\": cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        );
        own(json!({"allowPrivilegeEscalation": false, "privileged": true}), &[&both]);
        let id = format!("{at}.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive");
        own(json!({"runAsUser": -1}), &[&id]);
        let masked = format!(
            "{at}.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
        );
        own(json!({"procMount": "Unmasked"}), &[&masked]);
        let open = json!([{"securityContext": {"procMount": "Unmasked"}}]);
        check(json!({"hostUsers": false, "containers": open}), &[]);
    }

    #[test]
    fn read_only_all_the_way_down_is_read_only_first() {
        let mount = |mount: Value, expected: &[&str]| {
            check(json!({"containers": [{"volumeMounts": [mount]}]}), expected)
        };
        let at = "spec.containers[0].volumeMounts.recursiveReadOnly";
        mount(json!({"readOnly": true, "recursiveReadOnly": "Enabled"}), &[]);
        let only = format!("{at}: Forbidden: may only be specified when readOnly is true");
        mount(json!({"recursiveReadOnly": "IfPossible"}), &[&only]);
        let propagation =
            format!("{at}: Forbidden: may only be specified when mountPropagation is None or not specified");
        let shared =
            json!({"readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"});
        mount(shared, &[&propagation]);
        let words = "supported values: \"Disabled\", \"Enabled\", \"IfPossible\"";
        mount(json!({"recursiveReadOnly": "X"}), &[&format!("{at}: Unsupported value: \"X\": {words}")]);
    }

    #[test]
    fn only_privileged_containers_show_their_mounts() {
        let with = |propagation: &str, privileged: bool, expected: &[&str]| {
            let mount = json!({"name": "v", "mountPath": "/v", "mountPropagation": propagation});
            let container = json!({"securityContext": {"privileged": privileged}, "volumeMounts": [mount]});
            check(json!({"containers": [container]}), expected);
        };
        let at = "spec.containers[0].volumeMounts.mountPropagation";
        for (propagation, privileged) in
            [("None", false), ("HostToContainer", false), ("Bidirectional", true)]
        {
            with(propagation, privileged, &[]);
        }
        let why = "Bidirectional mount propagation is available only to privileged containers";
        with("Bidirectional", false, &[&format!("{at}: Forbidden: {why}")]);
        let known = "supported values: \"Bidirectional\", \"HostToContainer\", \"None\"";
        with("X", true, &[&format!("{at}: Unsupported value: \"X\": {known}")]);
    }
}
