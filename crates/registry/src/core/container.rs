//! What is wrong with a container.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, dns1123_label};
use serde_json::Value;

use super::{container_env, container_mounts, container_resources};
use crate::checks::{invalid, required, supported};
use crate::tree::{at, items, number, text};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// What a container finds in its pod.
pub(crate) struct Around<'a> {
    /// The volumes that nothing is wrong with, by their names.
    pub(crate) volumes: BTreeMap<&'a str, &'a Value>,
    /// How long it has to end.
    grace: Option<i64>,
    /// The name of the operating system, if the pod says one.
    os: Option<&'a str>,
}

impl<'a> Around<'a> {
    /// In a pod of that spec, with those volumes.
    pub(crate) fn new(spec: &'a Value, volumes: BTreeMap<&'a str, &'a Value>) -> Self {
        let os = at(spec, &["os"]).map(|os| text(os, &["name"]));
        Self { volumes, grace: number(spec, &["terminationGracePeriodSeconds"]), os }
    }
}

/// Checks one of that list.
pub(crate) fn validate(
    container: &Value,
    list: &str,
    around: &Around<'_>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    label(text(container, &["name"]), &path.child("name"), errors);
    required(container, "image", path, errors);
    pull_policy(container, "imagePullPolicy", path, errors);
    supported(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    validate_ports(container, path, errors);
    container_env::validate(container, path, errors);
    container_mounts::validate(container, &around.volumes, path, errors);
    container_resources::validate(container.get("resources"), &path.child("resources"), errors);
    if list == "initContainers" && text(container, &["restartPolicy"]) != "Always" {
        for field in
            PROBES.iter().chain(["lifecycle"].iter()).filter(|field| container.get(**field).is_some())
        {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
        return;
    }
    for probe in PROBES {
        if let Some(found) = container.get(probe) {
            validate_probe(found, probe, &path.child(probe), errors);
        }
    }
    if let Some(lifecycle) = container.get("lifecycle") {
        validate_lifecycle(lifecycle, around, &path.child("lifecycle"), errors);
    }
}

/// A name that must be there and be a DNS label.
pub(crate) fn label(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        invalid(path, name, dns1123_label(name), errors);
    }
}

/// When an image is pulled.
pub(crate) fn pull_policy(tree: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    supported(tree, field, PULL_POLICIES, path, errors);
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
            invalid(&at.child("name"), name, faults, errors);
        }
        match number(port, &["containerPort"]).unwrap_or_default() {
            0 => errors.push(FieldError::required(&at.child("containerPort"), "")),
            value => check_port(value, &at.child("containerPort"), errors),
        }
        if let Some(value) = number(port, &["hostPort"]).filter(|value| *value != 0) {
            check_port(value, &at.child("hostPort"), errors);
        }
        supported(port, "protocol", &["SCTP", "TCP", "UDP"], &at, errors);
    }
}

fn check_port(port: i64, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for why in names::port_number(port) {
        errors.push(FieldError::invalid(at, port, why));
    }
}

fn validate_lifecycle(lifecycle: &Value, around: &Around<'_>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for hook in ["postStart", "preStop"] {
        if let Some(found) = lifecycle.get(hook) {
            let path = path.child(hook);
            if let Some(seconds) =
                validate_action(found, &["exec", "httpGet", "tcpSocket", "sleep"], &path, errors)
                && let Some(grace) = around.grace
                && !(0..=grace).contains(&seconds)
            {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.push(FieldError::invalid(&path.child("sleep"), seconds, why));
            }
        }
    }
    if let Some(signal) = lifecycle.get("stopSignal").and_then(Value::as_str) {
        let at_signal = path.child("stopSignal");
        match around.os {
            None => {
                let why = "may not be set for containers with empty `spec.os.name`";
                errors.push(FieldError::forbidden(&at_signal, why));
            }
            Some("windows") if !matches!(signal, "SIGKILL" | "SIGTERM") => {
                errors.push(FieldError::not_supported(&at_signal, signal, &["SIGKILL", "SIGTERM"]));
            }
            Some("linux") => super::pod_os::check_signal(signal, &at_signal, errors),
            Some(_) => {}
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
    if let Some(grace) = number(probe, &["terminationGracePeriodSeconds"]) {
        let at_grace = path.child("terminationGracePeriodSeconds");
        if grace <= 0 {
            errors.push(FieldError::invalid(&at_grace, grace, "must be greater than 0"));
        }
        if name == "readinessProbe" {
            errors.push(FieldError::invalid(&at_grace, grace, "must not be set for readinessProbes"));
        }
    }
}

/// Checks that there is one action of those kinds, and what is wrong with it. Gives how long it sleeps, if it does.
fn validate_action(
    action: &Value,
    kinds: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<i64> {
    let mut given = kinds.iter().filter_map(|kind| Some((*kind, action.get(*kind)?)));
    let Some((kind, first)) = given.next() else {
        errors.push(FieldError::required(path, "must specify a handler type"));
        return None;
    };
    for (more, _) in given {
        errors.push(FieldError::forbidden(&path.child(more), "may not specify more than 1 handler type"));
    }
    let path = path.child(kind);
    match kind {
        "exec" => {
            required(first, "command", &path, errors);
        }
        "httpGet" => {
            required(first, "path", &path, errors);
            validate_port(first, &path, errors);
            supported(first, "scheme", &["HTTP", "HTTPS"], &path, errors);
            validate_headers(first, &path, errors);
        }
        "tcpSocket" | "grpc" => validate_port(first, &path, errors),
        "sleep" => return Some(number(first, &["seconds"]).unwrap_or_default()),
        _ => {}
    }
    None
}

fn validate_port(action: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("port");
    match action.get("port") {
        Some(Value::String(name)) => invalid(&path, name, names::port_name(name), errors),
        port => check_port(port.and_then(Value::as_i64).unwrap_or_default(), &path, errors),
    }
}

fn validate_headers(action: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const WHY: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
    for header in items(action, &["httpHeaders"]) {
        let name = text(header, &["name"]);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            errors.push(FieldError::invalid(&path.child("httpHeaders"), name, WHY));
        }
    }
}
