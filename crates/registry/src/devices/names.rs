//! Names in this group: of pools, devices, requests, attributes and shares.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain, qualified_name};
use serde_json::Value;

use crate::checks::{csi_driver, invalid};
use crate::tree::{items, text};

/// Longest name of a pool, in bytes.
const MAX_POOL: usize = 253;
/// Longest name of an attribute or a capacity without its domain, in bytes.
pub(super) const MAX_IDENTIFIER: usize = 32;
/// Longest domain of an attribute or a capacity, in bytes.
pub(super) const MAX_DOMAIN: usize = 63;

/// The name of a device, a request or a set of counters.
pub(super) fn label(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    invalid(path, name, dns1123_label(name), errors);
}

/// A key or a condition's type, in the form of labels' keys.
pub(super) fn label_key(key: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    invalid(path, key, qualified_name(key), errors);
}

/// The name of a driver: that of a CSI driver could be it too.
pub(super) fn driver(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    csi_driver(name, path, errors);
}

/// The name of a pool: subdomains joined by slashes.
pub(super) fn pool(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > MAX_POOL {
        errors.push(FieldError::too_long(path, MAX_POOL));
    }
    for part in name.split('/') {
        invalid(path, part, dns1123_subdomain(part), errors);
    }
}

/// The name of an attribute or a capacity: an identifier, with its domain in front or without.
pub(super) fn qualified(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some((domain, id)) = name.split_once('/') else {
        return identifier(name, path, errors);
    };
    if id.contains('/') {
        errors.push(FieldError::invalid(path, name, "must not contain more than one slash"));
        return;
    }
    if domain.is_empty() {
        errors.push(FieldError::invalid(path, "", "the domain must not be empty"));
    } else {
        driver(domain, path, errors);
    }
    if id.is_empty() {
        errors.push(FieldError::invalid(path, "", "the name must not be empty"));
    } else {
        identifier(id, path, errors);
    }
}

/// The same where the domain has to be there.
pub(super) fn fully_qualified(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn identifier(id: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if id.len() > MAX_IDENTIFIER {
        errors.push(FieldError::too_long(path, MAX_IDENTIFIER));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !begins || !id.bytes().all(fits) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                   validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(FieldError::invalid(path, id, why));
    }
}

/// What tells the shares of a device apart.
pub(super) fn share(id: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(fault) = uuid_fault(id) {
        errors.push(FieldError::invalid(path, id, format!("error validating uid: {fault}")));
    } else if id.len() != 36 || id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.push(FieldError::invalid(path, id, why));
    }
}

/// What is wrong with a UUID in any of its forms: with dashes or without, in braces, with a prefix.
fn uuid_fault(id: &str) -> Option<String> {
    let format = || Some("invalid UUID format".to_owned());
    let plain = match id.len() {
        32 if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => return None,
        32 => return format(),
        36 => id,
        38 => match id.strip_prefix('{').and_then(|id| id.strip_suffix('}')) {
            Some(plain) => plain,
            None => return Some("invalid bracketed UUID format".to_owned()),
        },
        45 => match id.split_at_checked(9) {
            Some((prefix, plain)) if prefix.eq_ignore_ascii_case("urn:uuid:") => plain,
            Some((prefix, _)) => return Some(format!("invalid urn prefix: {}", quote(prefix))),
            None => return format(),
        },
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    if plain.bytes().enumerate().all(fits) { None } else { format() }
}

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Requests<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Requests<'a> {
    /// Those of `spec.devices`.
    pub(super) fn of(devices: &'a Value) -> Self {
        let alternatives = |request: &'a Value| {
            items(request, &["firstAvailable"]).iter().map(|each| text(each, &["name"])).collect()
        };
        let requests = items(devices, &["requests"]).iter();
        Self(requests.map(|request| (text(request, &["name"]), alternatives(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => {
                self.0.get(request).is_some_and(|known| known.contains(alternative))
            }
        }
    }

    /// Checks that a text names one of them, or one of the alternatives of one.
    pub(super) fn reference(&self, name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        if name.split('/').count() > 2 {
            errors.push(FieldError::invalid(path, name, why));
            return;
        }
        for part in name.split('/') {
            label(part, path, errors);
        }
        if !self.has(name) {
            errors.push(FieldError::invalid(path, name, why));
        }
    }

    /// Checks a list of such texts.
    pub(super) fn references(&self, owner: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let list = items(owner, &["requests"]);
        let check = |name: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>| {
            self.reference(name.as_str().unwrap_or_default(), path, errors);
        };
        let path = path.child("requests");
        super::lists::set(list, super::claim_spec::MAX_REQUESTS, &path, errors, super::lists::itself, check);
    }
}
