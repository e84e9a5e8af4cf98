//! Who and what a container's processes are, of the pod's words and the container's own.

use std::path::{Component, Path, PathBuf};

use api::k8s::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext as Security,
};
use runtime::{Image, SecurityContext, SecurityProfile, SupplementalGroupsPolicy};

use super::config::full_name;

/// What the node decides where a pod says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// Where profiles of type `Localhost` are.
    pub(crate) seccomp_root: PathBuf,
    /// Containers that name no seccomp profile get the runtime's own.
    pub(crate) seccomp_default: bool,
}

fn of_pod(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref())
}

/// The container's; what it does not say is the pod's word. An error is one of the spec.
pub(crate) fn of(pod: &Pod, container: &Container, defaults: &Defaults) -> Result<SecurityContext, String> {
    let empty = Security::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let of_pod = of_pod(pod);
    let capabilities = own.capabilities.as_ref();
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let groups = of_pod.and_then(|security| security.supplemental_groups.clone()).unwrap_or_default();
    let policy = of_pod.and_then(|security| security.supplemental_groups_policy.as_deref());
    let seccomp = own.seccomp_profile.as_ref().or(of_pod.and_then(|all| all.seccomp_profile.as_ref()));
    Ok(SecurityContext {
        run_as_user: own.run_as_user.or(of_pod.and_then(|security| security.run_as_user)),
        run_as_group: own.run_as_group.or(of_pod.and_then(|security| security.run_as_group)),
        supplemental_groups: groups
            .into_iter()
            .chain(of_pod.and_then(|security| security.fs_group))
            .collect(),
        supplemental_groups_policy: match policy {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        },
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        privileged: own.privileged == Some(true),
        add_capabilities: list(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
        drop_capabilities: list(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        seccomp: seccomp_profile(seccomp, defaults)?,
        apparmor: apparmor_profile(apparmor(pod, container))?,
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

/// The AppArmor profile that a container names, or its pod for it.
pub(crate) fn apparmor<'a>(pod: &'a Pod, container: &'a Container) -> Option<&'a AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|own| own.app_armor_profile.as_ref());
    own.or(of_pod(pod).and_then(|all| all.app_armor_profile.as_ref()))
}

fn seccomp_profile(profile: Option<&SeccompProfile>, defaults: &Defaults) -> Result<SecurityProfile, String> {
    let Some(SeccompProfile { type_, localhost_profile }) = profile else {
        return Ok(match defaults.seccomp_default {
            true => SecurityProfile::RuntimeDefault,
            false => SecurityProfile::Unconfined,
        });
    };
    match (type_.as_str(), localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(SecurityProfile::RuntimeDefault),
        ("Localhost", None | Some("")) => {
            Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned())
        }
        ("Localhost", Some(name)) => {
            // The API refuses others; the node has to do with more than one API.
            let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            let path = defaults.seccomp_root.join(name).display().to_string();
            let why =
                || format!("seccompProfile.localhostProfile: {name:?} must be a relative path without '..'");
            inside.then_some(SecurityProfile::Localhost(path)).ok_or_else(why)
        }
        _ => Ok(SecurityProfile::Unconfined),
    }
}

fn apparmor_profile(profile: Option<&AppArmorProfile>) -> Result<SecurityProfile, String> {
    let Some(AppArmorProfile { type_, localhost_profile }) = profile else {
        return Ok(SecurityProfile::Unconfined);
    };
    match (type_.as_str(), localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(SecurityProfile::RuntimeDefault),
        ("Localhost", None | Some("")) => {
            Err("localhostProfile must be set if appArmorProfile type is Localhost.".to_owned())
        }
        ("Localhost", Some(name)) => Ok(SecurityProfile::Localhost(name.to_owned())),
        _ => Ok(SecurityProfile::Unconfined),
    }
}

/// Refuses a container that may not run as root and would, in upstream's words.
pub(crate) fn check_root(pod: &Pod, container: &Container, image: &Image) -> Result<(), String> {
    let own = container.security_context.as_ref();
    let of_pod = of_pod(pod);
    let must_not = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|all| all.run_as_non_root));
    if must_not != Some(true) {
        return Ok(());
    }
    let asked = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|all| all.run_as_user));
    let about = format!("(pod: \"{}\", container: {})", full_name(pod), container.name);
    match (asked, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {about}")),
        (Some(_), _) => Ok(()),
        (None, Some(1..)) => Ok(()),
        (None, None) if !image.username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {about}",
            image.username
        )),
        // An image that names nobody runs as root.
        (None, _) => Err(format!("container has runAsNonRoot and image will run as root {about}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn found(of_pod: Value, own: Value, seccomp_default: bool) -> Result<SecurityContext, String> {
        let pod =
            pod(json!({"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}));
        let defaults = Defaults { seccomp_root: "/node/seccomp".into(), seccomp_default };
        of(&pod, &pod.spec.as_ref().unwrap().containers[0], &defaults)
    }

    #[test]
    fn a_container_takes_what_it_does_not_say_from_its_pod() {
        let found = found(
            json!({"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9, "runAsNonRoot": true,
                "supplementalGroupsPolicy": "Strict"}),
            json!({"runAsUser": 1, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false,
                "procMount": "Unmasked"}),
            false,
        )
        .unwrap();
        assert_eq!(
            (found.run_as_user, found.run_as_group, found.supplemental_groups),
            (Some(1), Some(8), vec![9])
        );
        assert!(found.no_new_privs && !found.privileged && found.drop_capabilities == ["ALL"]);
        assert!(found.unmasked_proc && found.supplemental_groups_policy == SupplementalGroupsPolicy::Strict);
    }

    #[test]
    fn seccomp_profiles_have_upstreams_precedence() {
        let check = |of_pod: &str, own: &str, default: bool, wanted: SecurityProfile| {
            let security = |kind: &str| match kind {
                "" => json!({}),
                "Localhost" => json!({"seccompProfile": {"type": kind, "localhostProfile": "a/b.json"}}),
                kind => json!({"seccompProfile": {"type": kind}}),
            };
            let found = found(security(of_pod), security(own), default).unwrap().seccomp;
            assert_eq!(found, wanted, "{of_pod}, {own}");
        };
        use SecurityProfile::{Localhost, RuntimeDefault, Unconfined};
        check("", "", false, Unconfined);
        check("", "", true, RuntimeDefault);
        check("Unconfined", "", true, Unconfined);
        check("RuntimeDefault", "", false, RuntimeDefault);
        check("RuntimeDefault", "Unconfined", true, Unconfined);
        check("Unconfined", "RuntimeDefault", false, RuntimeDefault);
        check("RuntimeDefault", "Localhost", false, Localhost("/node/seccomp/a/b.json".to_owned()));
    }

    #[test]
    fn a_profile_of_the_machine_lies_in_its_directory() {
        for name in [json!("../x"), json!("/etc/x"), json!("a/../../x"), json!(""), Value::Null] {
            let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": name}});
            assert!(found(json!({}), own, false).unwrap_err().contains("localhostProfile"), "{name}");
        }
    }

    #[test]
    fn who_may_not_be_root_is_checked_against_the_image() {
        let check = |security: Value, uid: Option<i64>, username: &str, expected: &str| {
            let pod = pod(json!({"containers": [{"name": "c", "securityContext": security}]}));
            let image = Image {
                id: String::new(),
                tags: vec![],
                digests: vec![],
                size: 0,
                pinned: false,
                uid,
                username: username.into(),
            };
            let found = check_root(&pod, &pod.spec.as_ref().unwrap().containers[0], &image);
            let about = " (pod: \"p_n(u)\", container: c)";
            let expected = if expected.is_empty() { Ok(()) } else { Err(format!("{expected}{about}")) };
            assert_eq!(found, expected);
        };
        let (plain, must) = (json!({}), json!({"runAsNonRoot": true}));
        check(plain, Some(0), "", "");
        check(must.clone(), Some(5), "", "");
        let root = "container has runAsNonRoot and image will run as root";
        check(must.clone(), Some(0), "", root);
        check(must.clone(), None, "", root);
        let named = "container has runAsNonRoot and image has non-numeric user (web), \
                     cannot verify user is non-root";
        check(must, None, "web", named);
        check(json!({"runAsNonRoot": true, "runAsUser": 5}), Some(0), "", "");
        let broken = "container's runAsUser breaks non-root policy";
        check(json!({"runAsNonRoot": true, "runAsUser": 0}), Some(5), "", broken);
    }
}
