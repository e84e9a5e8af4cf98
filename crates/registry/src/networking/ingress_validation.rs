//! What is wrong with an Ingress.

use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{
    self, dns1123_label, dns1123_subdomain, path_segment, wildcard_dns1123_subdomain,
};
use serde_json::Value;

use crate::tree::{at, items, number, text};

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
/// What no client sends that a path could match.
const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const SUFFIXES: [&str; 2] = ["/..", "/."];

/// Both ways of naming a class, and they differ.
pub(super) fn class_differs(annotation: &str, value: &str, errors: &mut Vec<FieldError>) {
    let path = Path::new("annotations");
    let why = "must match `ingressClassName` when both are specified";
    errors.push(FieldError::invalid(&path.child(annotation), value, why));
}

/// `spec`. What an older release let in stays valid until it is mended: names of Secrets.
pub(super) fn spec(ingress: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let rules = items(spec, &["rules"]);
    let default = at(spec, &["defaultBackend"]);
    if rules.is_empty() && default.is_none() {
        let given = spec.get("rules").cloned().unwrap_or_default();
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, given, why));
    }
    if let Some(default) = default {
        backend(default, &path.child("defaultBackend"), errors);
    }
    let at_rules = path.child("rules");
    for (index, each) in rules.iter().enumerate() {
        rule(each, &at_rules.index(index), errors);
    }
    let bad_before = old.is_some_and(|old| {
        items(old, &["spec", "tls"]).iter().any(|tls| !secret_name(text(tls, &["secretName"])).is_empty())
    });
    let at_tls = path.child("tls");
    for (index, each) in items(spec, &["tls"]).iter().enumerate() {
        tls(each, bad_before, &at_tls.index(index), errors);
    }
    if let Some(class) = at(spec, &["ingressClassName"]).and_then(Value::as_str) {
        invalid(&path.child("ingressClassName"), class, dns1123_subdomain(class), errors);
    }
}

fn invalid(path: &Path<'_>, value: &str, faults: Vec<String>, errors: &mut Vec<FieldError>) {
    errors.extend(faults.into_iter().map(|why| FieldError::invalid(path, value, why)));
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() { Vec::new() } else { dns1123_subdomain(name) }
}

fn host(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let faults = if name.contains('*') { wildcard_dns1123_subdomain(name) } else { dns1123_subdomain(name) };
    invalid(path, name, faults, errors);
}

fn tls(tls: &Value, bad_before: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let hosts = path.child("hosts");
    for (index, name) in items(tls, &["hosts"]).iter().enumerate() {
        host(name.as_str().unwrap_or_default(), &hosts.index(index), errors);
    }
    if !bad_before {
        let name = text(tls, &["secretName"]);
        invalid(&path.child("secretName"), name, secret_name(name), errors);
    }
}

fn rule(rule: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let name = text(rule, &["host"]);
    if !name.is_empty() {
        let at_host = path.child("host");
        if name.parse::<IpAddr>().is_ok() {
            errors.push(FieldError::invalid(&at_host, name, "must be a DNS name, not an IP address"));
        }
        host(name, &at_host, errors);
    }
    if at(rule, &["http"]).is_none() {
        return;
    }
    let http = path.child("http");
    let paths = http.child("paths");
    let all = items(rule, &["http", "paths"]);
    if all.is_empty() {
        errors.push(FieldError::required(&paths, ""));
    }
    for (index, each) in all.iter().enumerate() {
        http_path(each, &paths.index(index), errors);
    }
}

fn http_path(tree: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let value = text(tree, &["path"]);
    let at_path = path.child("path");
    let mut refuse = |why: String| errors.push(FieldError::invalid(&at_path, value, why));
    let absolute = value.starts_with('/');
    match at(tree, &["pathType"]).and_then(Value::as_str) {
        None => {
            errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        Some("Exact" | "Prefix") => {
            if !absolute {
                refuse("must be an absolute path".to_owned());
            }
            for sequence in SEQUENCES.iter().filter(|sequence| value.contains(**sequence)) {
                refuse(format!("must not contain '{sequence}'"));
            }
            for suffix in SUFFIXES.iter().filter(|suffix| value.ends_with(**suffix)) {
                refuse(format!("cannot end with '{suffix}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !value.is_empty() && !absolute {
                refuse("must be an absolute path".to_owned());
            }
        }
        Some(other) => {
            errors.push(FieldError::not_supported(&path.child("pathType"), other, PATH_TYPES));
        }
    }
    backend(tree.get("backend").unwrap_or(&Value::Null), &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match (at(backend, &["resource"]), at(backend, &["service"])) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => service_backend(service, path, errors),
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

fn service_backend(service: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_service = path.child("service");
    let name = text(service, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(&at_service.child("name"), ""));
    } else {
        invalid(&at_service.child("name"), name, dns1123_label(name), errors);
    }
    let at_port = at_service.child("port");
    let port_name = text(service, &["port", "name"]);
    let port = number(service, &["port", "number"]).unwrap_or_default();
    match (port_name, port) {
        ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
        ("", _) => {
            let faults = names::port_number(port).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_port.child("number"), port, why)));
        }
        (_, 0) => invalid(&at_port.child("name"), port_name, names::port_name(port_name), errors),
        _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
    }
}

/// A reference to an object of any kind, by name.
pub(super) fn reference(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(group) = at(reference, &["apiGroup"]).and_then(Value::as_str) {
        invalid(&path.child("apiGroup"), group, dns1123_subdomain(group), errors);
    }
    for field in ["kind", "name"] {
        let value = text(reference, &[field]);
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        } else {
            invalid(&path.child(field), value, path_segment(value), errors);
        }
    }
}

/// `status`.
pub(super) fn status(ingress: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    const POINTS: [&str; 3] = ["status", "loadBalancer", "ingress"];
    let status = Path::new("status");
    let balancer = status.child("loadBalancer");
    let points = balancer.child("ingress");
    for (index, point) in items(ingress, &POINTS).iter().enumerate() {
        let path = points.index(index);
        let ip = text(point, &["ip"]);
        let kept = || items(old, &POINTS).iter().any(|known| text(known, &["ip"]) == ip);
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() && !kept() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.child("ip"), ip, why));
        }
        let name = text(point, &["hostname"]);
        if !name.is_empty() {
            invalid(&path.child("hostname"), name, dns1123_subdomain(name), errors);
            if name.parse::<IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&path.child("hostname"), name, why));
            }
        }
    }
}
