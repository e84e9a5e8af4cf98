//! One device of a slice: attributes, capacity, counters, and where it is.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;
use serde_json::Value;

use super::{binding, lists, names, request_policy, taints};
use crate::checks::{amount, invalid};
use crate::core::node_selector;
use crate::tree::{at, entries, is_true, items, items_mut, map, same, text};

/// Most attributes and capacities of a device together.
pub(super) const MAX_ATTRIBUTES: usize = 32;
/// Most values of a device's attributes.
const MAX_VALUES: usize = 48;
/// Longest value of an attribute, in bytes.
pub(super) const MAX_VALUE: usize = 64;
/// Longest name of an attribute or a capacity that is shown whole, in bytes.
const MAX_KEY: usize = names::MAX_DOMAIN + 1 + names::MAX_IDENTIFIER;
/// Most sets of counters that a device draws on.
const MAX_CONSUMPTIONS: usize = 2;
/// Most counters of a set, or of what a device draws from one.
const MAX_COUNTERS: usize = 32;
const SCALARS: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
const MAPPINGS: &str = "nodeAllocatableResourceMappings";

/// Whether any attribute is a list (alpha, behind DRAListTypeAttributes).
pub(super) fn has_lists(device: &Value) -> bool {
    entries(device, &["attributes"])
        .any(|(_, attribute)| LISTS.iter().any(|field| at(attribute, &[field]).is_some()))
}

/// Takes lists out of the attributes.
pub(super) fn drop_lists(device: &mut Value) {
    let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
    for attribute in attributes.into_iter().flat_map(|attributes| attributes.values_mut()) {
        LISTS.iter().for_each(|field| drop(map(attribute).remove(*field)));
    }
}

/// Whether it stands for resources of its node (alpha, behind DRANodeAllocatableResources).
pub(super) fn has_mappings(device: &Value) -> bool {
    entries(device, &[MAPPINGS]).next().is_some()
}

/// Takes what it stands for out of it.
pub(super) fn drop_mappings(slice: &mut Value) {
    for device in items_mut(slice, &["spec", "devices"]) {
        map(device).remove(MAPPINGS);
    }
}

/// Checks a device; `apart` says that each one tells by itself where it is.
pub(super) fn validate(
    device: &Value,
    old: Option<&Value>,
    apart: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    names::label(text(device, &["name"]), &path.child("name"), errors);
    validate_size(device, path, errors);
    let at_attributes = path.child("attributes");
    for (name, attribute) in entries(device, &["attributes"]) {
        names::qualified(name, &at_attributes, errors);
        validate_attribute(attribute, &at_attributes.key(&shortened(name, MAX_KEY)), errors);
    }
    let is_new = |field| old.is_none_or(|old| !same(old.get(field), device.get(field)));
    if is_new("capacity") {
        validate_capacity(device, &path.child("capacity"), errors);
    }
    if is_new("taints") {
        taints::validate(device, path, errors);
    }
    let list = items(device, &["consumesCounters"]);
    let at_list = path.child("consumesCounters");
    lists::set(list, MAX_CONSUMPTIONS, &at_list, errors, lists::by("counterSet"), |set, path, errors| {
        validate_counters(set, "counterSet", path, errors);
    });
    validate_place(device, apart, path, errors);
    binding::validate(device, path, errors);
}

fn validate_size(device: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let count = entries(device, &["attributes"]).count() + entries(device, &["capacity"]).count();
    if count > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(FieldError::invalid(path, count, why));
    }
    let values_of = |attribute: &Value| -> usize {
        LISTS.iter().map(|field| items(attribute, &[field]).len()).sum::<usize>().max(1)
    };
    let values: usize = entries(device, &["attributes"]).map(|(_, attribute)| values_of(attribute)).sum();
    if values > MAX_VALUES {
        let why = format!("the total number of attribute values must not exceed {MAX_VALUES}");
        errors.push(FieldError::invalid(path, values, why));
    }
}

fn validate_attribute(attribute: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = |field: &&str| at(attribute, &[field]).is_some_and(|value| !value.is_null());
    if given(&"string") && text(attribute, &["string"]).len() > MAX_VALUE {
        errors.push(FieldError::too_long(&path.child("string"), MAX_VALUE));
    }
    if given(&"version") {
        let (version, path) = (text(attribute, &["version"]), path.child("version"));
        if !is_version(version) {
            let why = "must be a string compatible with semver.org spec 2.0.0";
            errors.push(FieldError::invalid(&path, version, why));
        }
        if version.len() > MAX_VALUE {
            errors.push(FieldError::too_long(&path, MAX_VALUE));
        }
    }
    let shown = match SCALARS.iter().chain(&LISTS).filter(|field| given(field)).count() {
        0 => Value::from(""),
        1 => return,
        _ => attribute.clone(),
    };
    errors.push(FieldError::invalid(path, shown, "exactly one value must be specified"));
}

/// Whether it is a version as semver.org describes them: `1.2.3-alpha.1+build`.
fn is_version(text: &str) -> bool {
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, before) = text.split_once('-').map_or((text, None), |(core, before)| (core, Some(before)));
    let is_before =
        |part: &str| is_number(part) || (is_word(part) && part.bytes().any(|byte| !byte.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(is_number)
        && before.is_none_or(|before| before.split('.').all(is_before))
        && build.is_none_or(|build| build.split('.').all(is_word))
}

fn validate_capacity(device: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let shared = is_true(device, &["allowMultipleAllocations"]);
    for (name, capacity) in entries(device, &["capacity"]) {
        names::qualified(name, path, errors);
        let Some(policy) = capacity.get("requestPolicy").filter(|policy| !policy.is_null()) else { continue };
        let name = shortened(name, MAX_KEY);
        let at_capacity = path.key(&name);
        let at_policy = at_capacity.child("requestPolicy");
        if shared {
            let all = amount(capacity, &["value"]).unwrap_or_default();
            request_policy::validate(policy, all, &at_policy, errors);
        } else {
            errors.push(FieldError::forbidden(&at_policy, "allowMultipleAllocations must be true"));
        }
    }
}

/// Checks counters and the name of their set, which that field has.
pub(super) fn validate_counters(set: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (name, at_name) = (text(set, &[field]), path.child(field));
    if name.is_empty() {
        errors.push(FieldError::required(&at_name, ""));
    } else {
        names::label(name, &at_name, errors);
    }
    let at_counters = path.child("counters");
    let count = entries(set, &["counters"]).count();
    if count == 0 {
        errors.push(FieldError::required(&at_counters, ""));
    } else if count > MAX_COUNTERS {
        errors.push(FieldError::too_many(&at_counters, count, MAX_COUNTERS));
    } else {
        for (name, _) in entries(set, &["counters"]) {
            names::label(name, &at_counters, errors);
        }
    }
}

fn validate_place(device: &Value, apart: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = |field: &str| device.get(field).filter(|value| !value.is_null());
    if !apart {
        if ["nodeName", "nodeSelector", "allNodes"].into_iter().any(|field| given(field).is_some()) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                       true in the ResourceSlice spec";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        return;
    }
    let mut found = Vec::new();
    if let Some(name) = given("nodeName").and_then(Value::as_str) {
        let path = path.child("nodeName");
        if name.is_empty() {
            errors.push(FieldError::invalid(&path, name, "must not be empty"));
        } else {
            found.push("`nodeName`");
            invalid(&path, name, dns1123_subdomain(name), errors);
        }
    }
    if let Some(selector) = given("nodeSelector") {
        found.push("`nodeSelector`");
        node_selector::validate(selector, &path.child("nodeSelector"), errors);
    }
    if given("allNodes").is_some() {
        if is_true(device, &["allNodes"]) {
            found.push("`allNodes`");
        } else {
            let why = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child("allNodes"), false, why));
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
               set to true in the ResourceSlice spec";
    match found.len() {
        0 => errors.push(FieldError::required(path, why)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, format!("{{{}}}", found.join(", ")), why)),
    }
}

/// A key as paths show it: one that is too long loses its middle.
fn shortened(key: &str, max: usize) -> String {
    if key.len() <= max {
        return key.to_owned();
    }
    let rest = max.saturating_sub(3);
    let (mut head, mut tail) = (rest.div_ceil(2), key.len() - rest / 2);
    // Names come from outside: what is cut may be in the middle of a character.
    while !key.is_char_boundary(head) {
        head -= 1;
    }
    while !key.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}...{}", key.get(..head).unwrap_or_default(), key.get(tail..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semvers() {
        for good in ["0.0.0", "1.2.3", "1.2.3-alpha", "1.2.3-0.a-b.1+build.01", "10.20.30+a"] {
            assert!(is_version(good), "{good}");
        }
        for bad in
            ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.3+a+b"]
        {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn long_keys_lose_their_middle() {
        assert_eq!(shortened("short", 16), "short");
        assert_eq!(shortened(&"0123456789".repeat(2), 16), "0123456...456789");
        let wide = "é".repeat(60);
        assert!(shortened(&wide, MAX_KEY).contains("..."));
    }
}
