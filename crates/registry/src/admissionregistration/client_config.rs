//! Where a webhook is: a URL, or a Service.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_subdomain, port_number};
use serde_json::Value;

use crate::tree::{at, at_mut, default, number, text};

const FORM: &str = "; desired format: https://host[/path]";

/// Fills in the port of a Service.
pub(crate) fn default_port(webhook: &mut Value) {
    if let Some(service) = at_mut(webhook, &["clientConfig", "service"]) {
        default(service, "port", 443);
    }
}

/// What is wrong with a `clientConfig`.
pub(crate) fn validate(config: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match (at(config, &["url"]).and_then(Value::as_str), config.get("service")) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => validate_service(service, &path.child("service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// `https://host[/path]`, without user, query and fragment.
fn validate_url(url: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if url.chars().any(|c| c.is_ascii_control()) {
        let why = format!("url must be a valid URL: net/url: invalid control character in URL{FORM}");
        errors.push(FieldError::required(path, why));
        return;
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").unwrap_or_default().split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut report = |value: &str, why: &str| errors.push(FieldError::invalid(path, value, why));
    if !scheme.eq_ignore_ascii_case("https") {
        report(scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        report(host, &format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        report(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        report(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        report(query, "query parameters are not permitted in the URL");
    }
}

fn validate_service(service: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    // Upstream hands name and namespace over in the other order, and so tells of them.
    for (given, told) in [("name", "namespace"), ("namespace", "name")] {
        if text(service, &[given]).is_empty() {
            errors.push(FieldError::required(&path.child(told), ""));
        }
    }
    let port = number(service, &["port"]).unwrap_or_default();
    let faults = port_number(port);
    if !faults.is_empty() {
        let why = format!("port is not valid: {}", faults.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, why));
    }
    validate_path(text(service, &["path"]), &path.child("path"), errors);
}

fn validate_path(given: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut report = |why: String| errors.push(FieldError::invalid(path, given, why));
    if matches!(given, "" | "/") {
        return;
    }
    if given == "//" {
        report("segment[0] may not be empty".to_owned());
        return;
    }
    if !given.starts_with('/') {
        report("must start with a '/'".to_owned());
    }
    let mut rest = given.chars();
    rest.next();
    let rest = rest.as_str();
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            report(format!("segment[{index}] may not be empty"));
            continue;
        }
        dns1123_subdomain(segment).into_iter().for_each(|why| report(format!("segment[{index}]: {why}")));
    }
}
