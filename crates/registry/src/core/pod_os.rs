//! What a pod may not say because of the operating system that it names.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_defaults::CONTAINERS;
use crate::tree::{at, items, text};

const SYSTEMS: &[&str] = &["linux", "windows"];
/// What only Linux has: of a pod, of its security context, and of its containers'.
const LINUX_POD: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const LINUX_SECURITY: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const LINUX_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Checks `os`, and what does not go with it.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(os) = spec.get("os") else { return };
    let why = match text(os, &["name"]) {
        "" => return errors.push(FieldError::required(&path.child("os").child("name"), "")),
        "linux" => "windows options cannot be set for a linux pod",
        "windows" => "cannot be set for a windows pod",
        other => return errors.push(FieldError::not_supported(&path.child("os"), other, SYSTEMS)),
    };
    let is_windows = text(os, &["name"]) == "windows";
    let (of_pod, of_security, of_container): (&[&str], &[&str], &[&str]) = match is_windows {
        true => (&LINUX_POD, &LINUX_SECURITY, &LINUX_CONTAINER),
        false => (&[], &["windowsOptions"], &["windowsOptions"]),
    };
    let mut forbid = |tree: &Value, fields: &[&str], path: &Path<'_>| {
        for field in fields.iter().filter(|field| is_set(tree, field)) {
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    };
    forbid(spec, of_pod, path);
    if let Some(security) = spec.get("securityContext") {
        forbid(security, of_security, &path.child("securityContext"));
    }
    for list in CONTAINERS {
        let at_list = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let at_one = at_list.index(index);
            if let Some(security) = at(container, &["securityContext"]) {
                forbid(security, of_container, &at_one.child("securityContext"));
            }
        }
    }
}

/// Whether a field says something: some do not by being there.
fn is_set(tree: &Value, field: &str) -> bool {
    match tree.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(set)) if matches!(field, "hostPID" | "hostIPC") => *set,
        Some(Value::Array(items)) => field != "sysctls" || !items.is_empty(),
        Some(_) => true,
    }
}

/// A signal that Linux knows.
pub(crate) fn check_signal(signal: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if !SIGNALS.contains(&signal) {
        errors.push(FieldError::not_supported(path, signal, SIGNALS));
    }
}
