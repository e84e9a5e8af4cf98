//! LimitRanges.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::resource_names;
use crate::checks::{invalid, quantity};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{entries, items, items_mut, map, text};

/// The largest amount that is compared to the thousandth.
const MAX_MILLI: i64 = i64::MAX / 1000;

struct LimitRange;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "LimitRange"),
        rules: Rules { create_on_update: true, generation: Generation::None, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Created At"]),
        strategy: Arc::new(LimitRange),
    }
}

impl Strategy for LimitRange {
    fn default(&self, range: &mut Value) {
        for item in items_mut(range, &["spec", "limits"]) {
            if text(item, &["type"]) == "Container" {
                default_item(item);
            }
        }
    }

    fn validate(&self, range: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let limits = spec.child("limits");
        let mut seen = BTreeSet::new();
        for (index, item) in items(range, &["spec", "limits"]).iter().enumerate() {
            let path = limits.index(index);
            let (kind, at_kind) = (text(item, &["type"]), path.child("type"));
            let faults = qualified_name(kind);
            let is_standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
            if faults.is_empty() && !is_standard && !kind.contains('/') {
                let why = "must be a standard limit type or fully qualified";
                errors.push(FieldError::invalid(&at_kind, kind, why));
            }
            invalid(&at_kind, kind, faults, errors);
            if !seen.insert(kind) {
                errors.push(FieldError::duplicate(&at_kind, kind));
            }
            validate_item(item, kind, &path, errors);
        }
    }

    fn cells(&self, range: &Value, _now: Timestamp) -> Vec<Value> {
        vec![table::name(range), text(range, &["metadata", "creationTimestamp"]).into()]
    }
}

/// What a container may have is what it gets, and what it gets is what it asks for, unless something else is said.
fn default_item(item: &mut Value) {
    let of = |item: &Value, field: &str| -> Map<String, Value> {
        item.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (mut limits, mut requests) = (of(item, "default"), of(item, "defaultRequest"));
    for (name, value) in of(item, "max") {
        limits.entry(name).or_insert(value);
    }
    for (name, value) in limits.clone().into_iter().chain(of(item, "min")) {
        requests.entry(name).or_insert(value);
    }
    for (field, amounts) in [("default", limits), ("defaultRequest", requests)] {
        if !amounts.is_empty() {
            map(item).insert(field.into(), amounts.into());
        }
    }
}

fn validate_item(item: &Value, kind: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let is_of_pods = kind == "Pod";
    let mut names = BTreeSet::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at_field = path.child(field);
        if is_of_pods && matches!(field, "default" | "defaultRequest") {
            if entries(item, &[field]).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(&at_field, why));
            }
            continue;
        }
        if field == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let has_storage = |field| entries(item, &[field]).any(|(name, _)| name == "storage");
            if !has_storage("min") && !has_storage("max") {
                let why = "either minimum or maximum storage value is required, but neither was provided";
                errors.push(FieldError::required(&path.child("limits"), why));
            }
        }
        for (name, _) in entries(item, &[field]) {
            if matches!(kind, "Pod" | "Container") {
                resource_names::validate_of_containers(name, &at_field.key(name), errors);
            } else {
                resource_names::validate(name, &at_field.key(name), errors);
            }
            names.insert(name.as_str());
        }
    }
    for name in names {
        validate_amounts(item, name, is_of_pods, path, errors);
    }
}

/// What is said about one resource must be possible.
fn validate_amounts(
    item: &Value,
    name: &str,
    is_of_pods: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let of = |field: &str| item.get(field).and_then(|amounts| amounts.get(name)).and_then(quantity);
    let (min, max, ratio) = (of("min"), of("max"), of("maxLimitRequestRatio"));
    let (limit, request) = if is_of_pods { (None, None) } else { (of("default"), of("defaultRequest")) };
    let mut report = |field: &str, value: Quantity, why: String| {
        let at_field = path.child(field);
        errors.push(FieldError::invalid(&at_field.key(name), value.to_string(), why));
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        report("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let (Some(request), Some(min)) = (request, min)
        && min > request
    {
        report(
            "defaultRequest",
            request,
            format!("min value {min} is greater than default request value {request}"),
        );
    }
    if let (Some(request), Some(max)) = (request, max)
        && request > max
    {
        report(
            "defaultRequest",
            request,
            format!("default request value {request} is greater than max value {max}"),
        );
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && request > limit
    {
        let why = format!("default request value {request} is greater than default limit value {limit}");
        report("defaultRequest", request, why);
    }
    if let (Some(limit), Some(min)) = (limit, min)
        && min > limit
    {
        report("default", min, format!("min value {min} is greater than default value {limit}"));
    }
    if let (Some(limit), Some(max)) = (limit, max)
        && limit > max
    {
        report("default", max, format!("default value {limit} is greater than max value {max}"));
    }
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_units(1) {
            report("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max)
            && let Some(most) = greatest_ratio(ratio, min, max)
        {
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            report("maxLimitRequestRatio", ratio, why);
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && limit != request
        && !resource_names::may_be_overcommitted(name)
    {
        let why = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        report("defaultRequest", request, why);
    }
}

/// What a ratio could be at most, where it is more than that.
#[allow(clippy::cast_precision_loss, reason = "upstream compares as floats too")]
fn greatest_ratio(ratio: Quantity, min: Quantity, max: Quantity) -> Option<f64> {
    let (mut wanted, mut least, mut most) = (ratio.value() as f64, min.value(), max.value());
    if ratio.value() < MAX_MILLI && least < MAX_MILLI && most < MAX_MILLI {
        wanted = ratio.milli_value() as f64 / 1000.0;
        (least, most) = (min.milli_value(), max.milli_value());
    }
    let possible = most as f64 / least as f64;
    (wanted > possible).then_some(possible)
}
