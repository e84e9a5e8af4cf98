//! Whether the node takes a pod at all. What it does not take has failed, as upstream's kubelet says it: nothing about it
//! would change if the pod waited.

pub(crate) mod place;
pub(crate) mod pressure;
pub(crate) mod room;

use std::collections::BTreeMap;

use api::k8s::api::core::v1::Pod;

use super::containers;
use super::memory::Waiting;
use super::security;

/// Kernel settings that a pod may change without its node being any the worse for it: upstream's list.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What a setting belongs to, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    /// `None`: the machine itself, as far as anybody knows.
    fn of(name: &str) -> Option<Self> {
        let ipc = name == "kernel.sem"
            || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|all| name.starts_with(all));
        match (ipc, name.starts_with("net.")) {
            (true, _) => Some(Self::Ipc),
            (_, true) => Some(Self::Net),
            _ => None,
        }
    }
}

/// Which kernel settings pods may ask for.
#[derive(Clone, Debug)]
pub struct Sysctls {
    exact: BTreeMap<String, Namespace>,
    /// Beginnings of names.
    prefixes: BTreeMap<String, Namespace>,
}

impl Sysctls {
    /// The safe ones, and these: names, or their beginnings with a `*` behind.
    ///
    /// # Errors
    /// When one is no name of a setting, or of one that is not a namespace's own.
    pub fn allowing(more: &[String]) -> Result<Self, String> {
        let mut found = Self { exact: BTreeMap::new(), prefixes: BTreeMap::new() };
        for pattern in SAFE.into_iter().chain(more.iter().map(String::as_str)) {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-./".contains(&byte);
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
                return Err(format!(
                    "{pattern:?} is no name of a kernel setting, nor the beginning of one with '*'"
                ));
            }
            let dotted = dotted(name);
            let Some(namespace) = Namespace::of(&dotted) else {
                return Err(format!("the sysctl {pattern:?} is not known to be namespaced"));
            };
            let list = if name == pattern { &mut found.exact } else { &mut found.prefixes };
            list.insert(dotted, namespace);
        }
        Ok(found)
    }

    fn check(&self, name: &str, host_network: bool, host_ipc: bool) -> Result<(), String> {
        let dotted = dotted(name);
        let prefix =
            || self.prefixes.iter().find(|(prefix, _)| dotted.starts_with(*prefix)).map(|(_, found)| found);
        match self.exact.get(&dotted).or_else(prefix) {
            None => Err(format!("{dotted:?} not allowlisted")),
            Some(Namespace::Net) if host_network => {
                Err(format!("{dotted:?} not allowed with host net enabled"))
            }
            Some(Namespace::Ipc) if host_ipc => Err(format!("{dotted:?} not allowed with host ipc enabled")),
            Some(_) => Ok(()),
        }
    }
}

/// A setting's name with dots between its parts. Where the first separator is a slash, slashes separate, and dots are part
/// of a name (an interface's, say): then each stands for the other.
pub(crate) fn dotted(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some("/") => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// What the machine can enforce and the operator allows.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) sysctls: Sysctls,
    /// Whether the kernel enforces AppArmor profiles.
    pub(crate) apparmor: bool,
}

/// In upstream's words.
fn rejected(reason: &str, why: impl std::fmt::Display) -> Waiting {
    Waiting::new(reason, format!("Pod was rejected: {why}"))
}

/// Why the node never takes such a pod.
pub(crate) fn refusal(pod: &Pod, node: &Node) -> Option<Waiting> {
    let spec = pod.spec.as_ref()?;
    let confined = containers::all(pod).any(|container| {
        security::apparmor(pod, &container.spec).is_some_and(|profile| profile.type_ != "Unconfined")
    });
    if confined && !node.apparmor {
        let why = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Some(rejected("AppArmor", why));
    }
    let (network, ipc) = (spec.host_network == Some(true), spec.host_ipc == Some(true));
    let sysctls = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    let forbidden = sysctls.filter_map(|sysctl| node.sysctls.check(&sysctl.name, network, ipc).err()).next();
    forbidden.map(|why| rejected("SysctlForbidden", format!("forbidden sysctl: {why}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, more: &[&str], expected: Option<(&str, &str)>) {
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        let node = Node { sysctls: Sysctls::allowing(&more).unwrap(), apparmor: false };
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let expected = expected.map(|(reason, why)| Waiting::new(reason, format!("Pod was rejected: {why}")));
        assert_eq!(refusal(&pod, &node), expected);
    }

    #[test]
    fn kernel_settings_are_allowed_by_name_and_namespace() {
        let asks = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let forbidden = |why: &'static str| Some(("SysctlForbidden", why));
        check(asks("net.ipv4.tcp_syncookies"), &[], None);
        check(asks("net/ipv4/tcp_syncookies"), &[], None);
        let unsafe_one = forbidden("forbidden sysctl: \"net.core.somaxconn\" not allowlisted");
        check(asks("net.core.somaxconn"), &[], unsafe_one);
        check(asks("net/core/somaxconn"), &[], unsafe_one);
        check(asks("net.core.somaxconn"), &["net.core.*"], None);
        check(asks("kernel.msgmax"), &["kernel.msg*", "net.core.somaxconn"], None);
        check(
            asks("kernel.core_pattern"),
            &["net.*"],
            forbidden("forbidden sysctl: \"kernel.core_pattern\" not allowlisted"),
        );
        let on_host = |name: &str, field: &str| {
            let mut spec = asks(name);
            spec[field] = json!(true);
            spec
        };
        let net =
            forbidden("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled");
        check(on_host("net.ipv4.tcp_syncookies", "hostNetwork"), &[], net);
        let ipc = forbidden("forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled");
        check(on_host("kernel.shm_rmid_forced", "hostIPC"), &[], ipc);
        check(on_host("net.ipv4.tcp_syncookies", "hostIPC"), &[], None);
    }

    #[test]
    fn what_would_be_the_machines_setting_cannot_be_allowed() {
        for pattern in ["kernel.*", "vm.swappiness", "*", "", "net.ipv4.*.x", "net ipv4"] {
            assert!(Sysctls::allowing(&[pattern.to_owned()]).is_err(), "{pattern}");
        }
        assert_eq!(dotted("net/ipv4/conf/eth0.1/forwarding"), "net.ipv4.conf.eth0/1.forwarding");
    }

    #[test]
    fn profiles_that_the_kernel_does_not_enforce_are_not_left_out() {
        let refused = Some(("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"));
        for kind in ["RuntimeDefault", "Localhost"] {
            let security = json!({"appArmorProfile": {"type": kind}});
            check(json!({"securityContext": security}), &[], refused);
            check(json!({"containers": [{"name": "c", "securityContext": security}]}), &[], refused);
        }
        let unconfined = json!({"appArmorProfile": {"type": "Unconfined"}});
        check(json!({"securityContext": unconfined}), &[], None);
        let own = json!({
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": unconfined}],
        });
        check(own, &[], None);
    }
}
