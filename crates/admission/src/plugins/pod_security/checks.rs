//! The checks of the levels, in upstream's order and words, each since a release.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::pod::{Container, Pod};
use super::policy::{Level, Standard, Version};
use crate::tree::{at, text};

/// What a pod does that it may not.
struct Violation {
    reason: &'static str,
    detail: String,
}

/// All that a pod does that it may not.
#[derive(Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn reasons(&self) -> String {
        self.0.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { reason, detail }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{reason} ({detail})")?;
        }
        Ok(())
    }
}

type Look = fn(&Pod<'_>) -> Option<Violation>;

struct Check {
    level: Level,
    /// Since which minor release a check of the restricted level says the same and more.
    covered_since: Option<u32>,
    /// Since which minor release the pod is looked at how, the earliest first.
    since: &'static [(u32, Look)],
}

const fn baseline(since: &'static [(u32, Look)]) -> Check {
    Check { level: Level::Baseline, covered_since: None, since }
}

const fn covered(covered_since: u32, since: &'static [(u32, Look)]) -> Check {
    Check { level: Level::Baseline, covered_since: Some(covered_since), since }
}

const fn restricted(since: &'static [(u32, Look)]) -> Check {
    Check { level: Level::Restricted, covered_since: None, since }
}

/// By their names at upstream, which the order of messages follows.
const CHECKS: [Check; 19] = [
    restricted(&[(8, escalation), (25, |pod| unless_windows(pod, escalation))]),
    baseline(&[(0, apparmor)]),
    covered(22, &[(0, capabilities)]),
    restricted(&[(22, no_capabilities), (25, |pod| unless_windows(pod, no_capabilities))]),
    baseline(&[(0, host_namespaces)]),
    covered(0, &[(0, host_paths)]),
    baseline(&[(0, host_ports)]),
    baseline(&[(34, handlers_hosts)]),
    baseline(&[(0, privileged)]),
    covered(0, &[(0, proc_mount), (35, |pod| unless_own_users(pod, proc_mount))]),
    restricted(&[(0, proc_mount)]),
    restricted(&[(0, volumes)]),
    restricted(&[(0, non_root), (35, |pod| unless_own_users(pod, non_root))]),
    restricted(&[(23, root_user), (35, |pod| unless_own_users(pod, root_user))]),
    baseline(&[(0, |pod| selinux(pod, 3)), (31, |pod| selinux(pod, 4))]),
    covered(19, &[(0, seccomp_annotations), (19, seccomp)]),
    restricted(&[(19, some_seccomp), (25, |pod| unless_windows(pod, some_seccomp))]),
    baseline(&[
        (0, |pod| sysctls(pod, 5)),
        (27, |pod| sysctls(pod, 6)),
        (29, |pod| sysctls(pod, 10)),
        (32, |pod| sysctls(pod, 12)),
    ]),
    baseline(&[(0, host_process)]),
];

/// What keeps a pod from meeting a standard.
pub(super) fn of(standard: &Standard, pod: &Pod<'_>) -> Violations {
    let minor = match standard.version {
        Version::Latest => u32::MAX,
        Version::Minor(minor) => minor,
    };
    let is_restricted = standard.level == Level::Restricted;
    let asked = CHECKS.iter().filter(|check| {
        let is_covered = is_restricted && check.covered_since.is_some_and(|since| since <= minor);
        check.level <= standard.level && !is_covered
    });
    let looks = asked.filter_map(|check| check.since.iter().rfind(|(since, _)| *since <= minor));
    Violations(match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline | Level::Restricted => looks.filter_map(|(_, look)| look(pod)).collect(),
    })
}

fn unless_windows(pod: &Pod<'_>, look: Look) -> Option<Violation> {
    if pod.is_windows() { None } else { look(pod) }
}

fn unless_own_users(pod: &Pod<'_>, look: Look) -> Option<Violation> {
    if pod.has_own_users() { None } else { look(pod) }
}

fn found(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

/// `container "a"`, `containers "a", "b"`.
fn named(one: &str, many: &str, names: &[&str]) -> String {
    format!("{} {}", if names.len() == 1 { one } else { many }, quoted(names))
}

fn containers(names: &[&str]) -> String {
    named("container", "containers", names)
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = names.into_iter().map(|name| format!("{:?}", name.as_ref())).collect();
    all.join(", ")
}

/// Who sets something: the pod, containers, or both.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let of_containers = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(of_containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad =
        pod.those(|container| container.security(&["allowPrivilegeEscalation"]) != Some(&Value::Bool(false)));
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    found("allowPrivilegeEscalation != false", detail)
}

fn apparmor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut is_bad = |profile: Option<&Value>| {
        let kind = profile.map_or("", |profile| text(profile, &["type"]));
        let bad = profile.is_some() && !matches!(kind, "RuntimeDefault" | "Localhost");
        bad && {
            values.insert(kind.to_owned());
            true
        }
    };
    let of_pod = is_bad(pod.field(&["securityContext", "appArmorProfile"]));
    let bad = pod.those(|container| is_bad(container.security(&["appArmorProfile"])));
    let annotations = pod.annotations().filter(|(name, value)| {
        let fine = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
        name.starts_with(ANNOTATION) && !fine
    });
    let annotations: BTreeSet<String> =
        annotations.map(|(name, value)| format!("{name}={value:?}")).collect();
    let of_annotations = match annotations.len() {
        0 => None,
        1 => Some("annotation".to_owned()),
        _ => Some("annotations".to_owned()),
    };
    let all: Vec<String> = setters(of_pod, &bad).into_iter().chain(of_annotations).collect();
    if all.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = if values.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
    found(reason, format!("{} must not set AppArmor profile type to {}", all.join(" and "), quoted(&values)))
}

fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    const FINE: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let detail = added(pod, &FINE)?;
    found("non-default capabilities", detail)
}

/// Capabilities that are added and not fine.
fn added(pod: &Pod<'_>, fine: &[&str]) -> Option<String> {
    let mut values: BTreeSet<&str> = BTreeSet::new();
    let bad = pod.those(|container| {
        let added: Vec<&str> =
            container.words(&["capabilities", "add"]).filter(|name| !fine.contains(name)).collect();
        values.extend(&added);
        !added.is_empty()
    });
    let include = || {
        let what = quoted(&values);
        format!("{} must not include {what} in securityContext.capabilities.add", containers(&bad))
    };
    (!bad.is_empty()).then(include)
}

fn no_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let missing =
        pod.those(|container| !container.words(&["capabilities", "drop"]).any(|name| name == "ALL"));
    let missing = (!missing.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&missing)));
    let details: Vec<String> = missing.into_iter().chain(added(pod, &["NET_BIND_SERVICE"])).collect();
    if details.is_empty() { None } else { found("unrestricted capabilities", details.join("; ")) }
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.is_true(&[*field]));
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { found("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = pod.items(&["volumes"]).iter().filter(|volume| at(volume, &["hostPath"]).is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, &["name"])).collect();
    if names.is_empty() { None } else { found("hostPath volumes", named("volume", "volumes", &names)) }
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    // As text, since upstream sorts them so.
    let mut ports = BTreeSet::new();
    let bad = pod.those(|Container(container)| {
        let all = crate::tree::items(container, &["ports"]).iter();
        let given: Vec<String> = all
            .filter_map(|port| port.get("hostPort")?.as_u64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let any = !given.is_empty();
        ports.extend(given);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let what = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    let ports: Vec<String> = ports.into_iter().collect();
    found("hostPort", format!("{} {uses} {what} {}", containers(&bad), ports.join(", ")))
}

fn handlers_hosts(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    let mut bad: Vec<&str> = pod.those(|Container(container)| {
        let handlers = HANDLERS.iter().filter_map(|path| at(container, path));
        let given = handlers.flat_map(|handler| {
            ["httpGet", "tcpSocket"].into_iter().map(move |kind| text(handler, &[kind, "host"]))
        });
        let given: Vec<&str> = given.filter(|host| !host.is_empty()).collect();
        hosts.extend(&given);
        !given.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    bad.sort_unstable();
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let what = if hosts.len() == 1 { "probe or lifecycle host" } else { "probe or lifecycle hosts" };
    found("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&bad), quoted(&hosts)))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.those(|container| container.security(&["privileged"]) == Some(&Value::Bool(true)));
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&bad));
    if bad.is_empty() { None } else { found("privileged", detail()) }
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let bad = pod.those(|container| {
        let given = container.security(&["procMount"]).and_then(Value::as_str);
        let wrong = given.filter(|value| *value != "Default");
        values.extend(wrong);
        wrong.is_some()
    });
    let detail =
        || format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&values));
    if bad.is_empty() { None } else { found("procMount", detail()) }
}

fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    const FINE: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in pod.items(&["volumes"]) {
        let sources = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| *name != "name" && !value.is_null());
        let sources: Vec<&str> = sources.map(|(name, _)| name.as_str()).collect();
        if !sources.iter().any(|source| FINE.contains(source)) {
            names.push(text(volume, &["name"]));
            kinds.insert(sources.first().copied().unwrap_or("unknown"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let what = if kinds.len() == 1 { "restricted volume type" } else { "restricted volume types" };
    let detail = format!("{} {uses} {what} {}", named("volume", "volumes", &names), quoted(&kinds));
    found("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = pod.field(&["securityContext", "runAsNonRoot"]);
    let (no, yes) = (Some(&Value::Bool(false)), Some(&Value::Bool(true)));
    let explicit = pod.those(|container| container.security(&["runAsNonRoot"]) == no);
    if let Some(who) = setters(of_pod == no, &explicit) {
        return found(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let implicit = pod.those(|container| container.security(&["runAsNonRoot"]).is_none() && of_pod != yes);
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&implicit));
    if implicit.is_empty() { None } else { found(REASON, detail()) }
}

fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let bad = pod.those(|container| is_root(container.security(&["runAsUser"])));
    let who = setters(is_root(pod.field(&["securityContext", "runAsUser"])), &bad)?;
    found("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

/// The first so many types are fine.
fn selinux(pod: &Pod<'_>, count: usize) -> Option<Violation> {
    const TYPES: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: Option<&Value>| {
        let field = |name: &str| options.map_or("", |options| text(options, &[name])).to_owned();
        let kind = field("type");
        let wrong = !kind.is_empty() && !TYPES.iter().take(count).any(|fine| *fine == kind);
        let (set_user, set_role) = (!field("user").is_empty(), !field("role").is_empty());
        if wrong {
            types.insert(kind);
        }
        user |= set_user;
        role |= set_role;
        wrong || set_user || set_role
    };
    let of_pod = is_bad(pod.field(&["securityContext", "seLinuxOptions"]));
    let bad = pod.those(|container| is_bad(container.security(&["seLinuxOptions"])));
    let who = setters(of_pod, &bad)?;
    let word = if types.len() == 1 { "type" } else { "types" };
    let types = (!types.is_empty()).then(|| format!("{word} {}", quoted(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what: Vec<String> = [types, user, role].into_iter().flatten().collect();
    found(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")),
    )
}

fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let names = pod.those(|_| true);
    let told = pod.annotations().filter(|(name, value)| {
        let concerns =
            *name == OF_POD || name.strip_prefix(OF_CONTAINER).is_some_and(|name| names.contains(&name));
        let fine = matches!(*value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        concerns && !fine
    });
    let bad: BTreeSet<String> = told.map(|(name, value)| format!("{name}={value:?}")).collect();
    let word = if bad.len() == 1 { "annotation" } else { "annotations" };
    let list: Vec<String> = bad.into_iter().collect();
    if list.is_empty() {
        None
    } else {
        found("seccompProfile", format!("forbidden {word} {}", list.join(", ")))
    }
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |profile: Option<&Value>| {
        let wrong = profile
            .map(|profile| text(profile, &["type"]).to_owned())
            .filter(|kind| !matches!(kind.as_str(), "RuntimeDefault" | "Localhost"));
        let any = wrong.is_some();
        values.extend(wrong);
        any
    };
    let of_pod = is_bad(pod.field(&["securityContext", "seccompProfile"]));
    let bad = pod.those(|container| is_bad(container.security(&["seccompProfile"])));
    let who = setters(of_pod, &bad)?;
    let what = quoted(&values);
    found("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {what}"))
}

fn some_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp(pod) {
        return Some(violation);
    }
    // What is set is fine.
    if pod.field(&["securityContext", "seccompProfile"]).is_some() {
        return None;
    }
    let bad = pod.those(|container| container.security(&["seccompProfile"]).is_none());
    if bad.is_empty() {
        return None;
    }
    let types = "\"RuntimeDefault\" or \"Localhost\"";
    let who = containers(&bad);
    found("seccompProfile", format!("pod or {who} must set securityContext.seccompProfile.type to {types}"))
}

/// The first so many names are fine.
fn sysctls(pod: &Pod<'_>, count: usize) -> Option<Violation> {
    const NAMES: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let all = pod.items(&["securityContext", "sysctls"]).iter().map(|sysctl| text(sysctl, &["name"]));
    let bad: Vec<&str> = all.filter(|name| !NAMES.iter().take(count).any(|fine| fine == name)).collect();
    if bad.is_empty() { None } else { found("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let yes = Some(&Value::Bool(true));
    let bad = pod.those(|container| container.security(&["windowsOptions", "hostProcess"]) == yes);
    let who = setters(pod.is_true(&["securityContext", "windowsOptions", "hostProcess"]), &bad)?;
    found("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

#[cfg(test)]
mod tests;
