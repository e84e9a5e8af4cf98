//! What is wrong with how a pod is named in the network, and how it finds others there.

use std::net::{IpAddr, Ipv4Addr};

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::dns1123_subdomain;
use serde_json::Value;

use crate::checks::invalid;
use crate::tree::{at, is_true, items, text};

/// What libc's resolver takes.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LIST: usize = 2048;
/// How long Linux lets a host's name be.
const MAX_HOST: usize = 64;

/// Checks `hostAliases`, `dnsConfig` and `hostnameOverride`.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_aliases = path.child("hostAliases");
    for (index, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        let at = at_aliases.index(index);
        let ip = text(alias, &["ip"]);
        invalid(&at.child("ip"), ip, faults(ip), errors);
        let at_names = at.child("hostnames");
        for (index, name) in items(alias, &["hostnames"]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            invalid(&at_names.index(index), name, dns1123_subdomain(name), errors);
        }
    }
    validate_dns(spec, &path.child("dnsConfig"), errors);
    if let Some(name) = at(spec, &["hostnameOverride"]).and_then(Value::as_str) {
        validate_hostname(spec, name, &path.child("hostnameOverride"), errors);
    }
}

fn validate_hostname(spec: &Value, name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if is_true(spec, &[field]) {
            errors.push(FieldError::forbidden(path, format!("may not be specified when {field} is true")));
        }
    }
    if name.len() > MAX_HOST {
        errors.push(FieldError::too_long(path, MAX_HOST));
    }
    invalid(path, name, dns1123_subdomain(name), errors);
}

fn validate_dns(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let config = spec.get("dnsConfig");
    let list = |field: &str| config.map(|config| items(config, &[field])).unwrap_or_default();
    let (servers, searches) = (list("nameservers"), list("searches"));
    if text(spec, &["dnsPolicy"]) == "None" && servers.is_empty() {
        let (at, what) = match config {
            None => (*path, "`dnsConfig`"),
            Some(_) => (path.child("nameservers"), "at least one DNS nameserver"),
        };
        errors.push(FieldError::required(&at, format!("must provide {what} when `dnsPolicy` is None")));
        return;
    }
    let at_servers = path.child("nameservers");
    if servers.len() > MAX_SERVERS {
        let why = format!("must not have more than {MAX_SERVERS} nameservers");
        errors.push(FieldError::invalid(&at_servers, servers.to_vec(), why));
    }
    for (index, server) in servers.iter().enumerate() {
        let server = server.as_str().unwrap_or_default();
        invalid(&at_servers.index(index), server, faults(server), errors);
    }
    let at_searches = path.child("searches");
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(&at_searches, searches.to_vec(), why));
    }
    let length: usize = searches.iter().filter_map(Value::as_str).map(|search| search.len() + 1).sum();
    if length > MAX_SEARCH_LIST + 1 {
        let why = format!(
            "must not have more than {MAX_SEARCH_LIST} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&at_searches, searches.to_vec(), why));
    }
    for (index, search) in searches.iter().enumerate() {
        let search = search.as_str().unwrap_or_default();
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            invalid(&at_searches.index(index), search, search_faults(search), errors);
        }
    }
    let at_options = path.child("options");
    for (index, option) in list("options").iter().enumerate() {
        if text(option, &["name"]).is_empty() {
            errors.push(FieldError::required(&at_options.index(index), "must not be empty"));
        }
    }
}

/// A DNS subdomain whose labels may have underscores, though not at their ends.
fn search_faults(search: &str) -> Vec<String> {
    const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let plain: Vec<String> = search
        .split('.')
        .map(|label| {
            let label = label.strip_prefix('_').unwrap_or(label);
            let inner = label
                .char_indices()
                .map(|(at, c)| if c == '_' && at > 0 && at + 1 < label.len() { '-' } else { c });
            inner.collect()
        })
        .collect();
    let mut faults = dns1123_subdomain(&plain.join("."));
    if let Some(last) = faults.last_mut().filter(|fault| fault.contains("RFC 1123")) {
        *last = format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{LABEL}(\\.{LABEL})*')"
        );
    }
    faults
}

/// What is wrong with an address in a field that once took what is no address to others.
fn faults(text: &str) -> Vec<String> {
    let why = match (text.parse::<IpAddr>(), sloppy(text)) {
        (Ok(IpAddr::V6(ip)), _) if ip.to_ipv4_mapped().is_some() => "must not be an IPv4-mapped IPv6 address",
        (Ok(_), _) => return Vec::new(),
        (Err(_), Some(_)) => "must not have leading 0s",
        (Err(_), None) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![why.to_owned()]
}

/// An address whose numbers may begin with zeros.
fn sloppy(text: &str) -> Option<Ipv4Addr> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let octets: Option<Vec<u8>> =
        text.split('.').map(|octet| octet.parse().ok().filter(|_| digits(octet))).collect();
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets?).ok()?))
}

/// What whoever gives addresses is told about them.
pub(crate) fn warnings(spec: &Value, path: &Path<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |path: &Path<'_>, ip: &str| {
        if let Ok(IpAddr::V6(address)) = ip.parse()
            && address.to_string() != ip
        {
            let (ip, canonical) = (quote(ip), quote(&address.to_string()));
            found.push(format!(
                "{path}: IPv6 address {ip} should be in RFC 5952 canonical format ({canonical})"
            ));
        }
    };
    let config = path.child("dnsConfig");
    let servers = config.child("nameservers");
    for (index, server) in items(spec, &["dnsConfig", "nameservers"]).iter().enumerate() {
        check(&servers.index(index), server.as_str().unwrap_or_default());
    }
    let aliases = path.child("hostAliases");
    for (index, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        check(&aliases.index(index).child("ip"), text(alias, &["ip"]));
    }
    found
}
