//! What became of a claim: the devices that it has, who may use them, and what their drivers say of them.

use std::collections::BTreeSet;

use apimachinery::cidr::Cidr;
use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::is_deleting;
use serde_json::Value;

use super::names::Requests;
use super::{binding, lists, names, opaque, taints};
use crate::checks::{required, unchanged};
use crate::core::node_selector;
use crate::tree::{at, items, text};
use crate::{conditions, tree};

/// Most users of a claim.
const MAX_USERS: usize = 256;
/// Most configurations of an allocation: those of the classes and the claim's.
const MAX_CONFIGURATIONS: usize = 2 * opaque::MAX_CONFIGURATIONS;
const MAX_CONDITIONS: usize = 8;
const MAX_ADDRESSES: usize = 16;
/// Longest name of a network interface, in bytes.
const MAX_INTERFACE: usize = 256;
/// Longest address of a network's hardware, in bytes.
const MAX_HARDWARE_ADDRESS: usize = 128;
const SOURCES: [&str; 2] = ["FromClaim", "FromClass"];

/// Which device something is about: driver, pool and name.
pub(super) fn device_id(about: &Value) -> String {
    ["driver", "pool", "device"].map(|field| text(about, &[field])).join("/")
}

/// The same of a share of one.
fn share_id(about: &Value) -> String {
    match at(about, &["shareID"]).and_then(Value::as_str) {
        Some(share) => format!("{}/{share}", device_id(about)),
        None => device_id(about),
    }
}

/// Checks a changed status.
pub(super) fn validate(claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("status");
    let at_users = path.child("reservedFor");
    let users = items(claim, &["status", "reservedFor"]);
    lists::set(users, MAX_USERS, &at_users, errors, lists::by("uid"), |user, path, errors| {
        for field in ["resource", "name", "uid"] {
            required(user, field, path, errors);
        }
    });
    let given = |claim| at(claim, &["status", "allocation"]).filter(|given: &&Value| !given.is_null());
    let allocation = given(claim);
    let results = ["status", "allocation", "devices", "results"];
    let shares: BTreeSet<String> = items(claim, &results).iter().map(share_id).collect();
    let devices = items(claim, &["status", "devices"]);
    lists::set(devices, usize::MAX, &path.child("devices"), errors, share_id, |device, path, errors| {
        validate_device(device, &shares, path, errors);
    });
    if !users.is_empty() {
        if allocation.is_none() {
            let why = "may not be specified when `allocated` is not set";
            errors.push(FieldError::forbidden(&at_users, why));
        } else if is_deleting(claim) {
            let before = items(old, &["status", "reservedFor"]);
            if users.iter().any(|user| !before.contains(user)) {
                let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                errors.push(FieldError::forbidden(&at_users, why));
            }
        }
    }
    let at_allocation = path.child("allocation");
    match (allocation, given(old)) {
        (Some(new), Some(old)) => unchanged(&at_allocation, Some(new), Some(old), errors),
        (Some(new), None) => {
            let devices = at(claim, &["spec", "devices"]).unwrap_or(&Value::Null);
            validate_allocation(new, &Requests::of(devices), &at_allocation, errors);
        }
        (None, _) => {}
    }
}

fn validate_allocation(
    allocation: &Value,
    requests: &Requests<'_>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let at_devices = path.child("devices");
    let results = items(allocation, &["devices", "results"]);
    let max = super::claim_spec::MAX_REQUESTS;
    lists::each(results, max, &at_devices.child("results"), errors, |result, path, errors| {
        requests.reference(text(result, &["request"]), &path.child("request"), errors);
        names::driver(text(result, &["driver"]), &path.child("driver"), errors);
        names::pool(text(result, &["pool"]), &path.child("pool"), errors);
        names::label(text(result, &["device"]), &path.child("device"), errors);
        binding::validate(result, path, errors);
        taints::validate_tolerations(result, path, errors);
        validate_share(result, path, errors);
    });
    let config = items(allocation, &["devices", "config"]);
    lists::each(config, MAX_CONFIGURATIONS, &at_devices.child("config"), errors, |config, path, errors| {
        let at_source = path.child("source");
        match text(config, &["source"]) {
            "" => errors.push(FieldError::required(&at_source, "")),
            source if SOURCES.contains(&source) => {}
            other => errors.push(FieldError::not_supported(&at_source, other, &SOURCES)),
        }
        requests.references(config, path, errors);
        opaque::validate(config, false, path, errors);
    });
    if let Some(selector) = allocation.get("nodeSelector").filter(|selector| !selector.is_null()) {
        node_selector::validate(selector, &path.child("nodeSelector"), errors);
    }
}

fn validate_share(of: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(share) = at(of, &["shareID"]).and_then(Value::as_str) {
        names::share(share, &path.child("shareID"), errors);
    }
}

/// What a driver says of one device.
fn validate_device(device: &Value, shares: &BTreeSet<String>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    names::driver(text(device, &["driver"]), &path.child("driver"), errors);
    names::pool(text(device, &["pool"]), &path.child("pool"), errors);
    names::label(text(device, &["device"]), &path.child("device"), errors);
    validate_share(device, path, errors);
    let id = share_id(device);
    if !shares.contains(&id) {
        errors.push(FieldError::invalid(path, id, "must be an allocated device in the claim"));
    }
    let (conditions, at_conditions) = (items(device, &["conditions"]), path.child("conditions"));
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&at_conditions, conditions.len(), MAX_CONDITIONS));
    }
    conditions::validate_list(conditions, &at_conditions, errors);
    if let Some(data) = device.get("data").filter(|data| !data.is_null()) {
        opaque::data(Some(data), false, &path.child("data"), errors);
    }
    let at_network = path.child("networkData");
    for (field, max) in [("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE_ADDRESS)] {
        if text(device, &["networkData", field]).len() > max {
            errors.push(FieldError::too_long(&at_network.child(field), max));
        }
    }
    let addresses = tree::items(device, &["networkData", "ips"]);
    lists::set(addresses, MAX_ADDRESSES, &at_network.child("ips"), errors, lists::itself, validate_address);
}

/// An address of an interface, with the length of its subnet's prefix: `192.168.1.5/24`.
fn validate_address(address: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let text = address.as_str().unwrap_or_default();
    let Some(cidr) = Cidr::parse_leniently(text) else {
        let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.push(FieldError::invalid(path, text, why));
        return;
    };
    // An IPv4 address that is written as an IPv6 one is an IPv4 address.
    let address = cidr.address.to_canonical();
    let prefix = match (address.is_ipv4(), cidr.prefix) {
        (true, prefix) if prefix > 32 => prefix.saturating_sub(96),
        (_, prefix) => prefix,
    };
    let canonical = format!("{address}/{prefix}");
    if text != canonical {
        let why = format!("must be in canonical form ({})", quote(&canonical));
        errors.push(FieldError::invalid(path, text, why));
    }
}
