//! How much of a device's capacity one of several who share it may ask for.

use apimachinery::field::{FieldError, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::lists;
use crate::checks::{amount, quantity};
use crate::tree::{at, items};

/// Most amounts that a policy lists.
const MAX_VALUES: usize = 10;

/// Checks a policy; `capacity` is all that there is.
pub(super) fn validate(policy: &Value, capacity: Quantity, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let values = items(policy, &["validValues"]);
    let range = at(policy, &["validRange"]).filter(|range| !range.is_null());
    let (field, what) = match (values, range) {
        ([], None) => return,
        ([_, ..], Some(_)) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                       same time";
            errors.push(FieldError::forbidden(path, why));
            return;
        }
        ([_, ..], None) => ("validValues", None),
        ([], Some(range)) => ("validRange", Some(range)),
    };
    let Some(default) = amount(policy, &["default"]) else {
        let why = format!("required when {field} is defined");
        errors.push(FieldError::required(&path.child("default"), why));
        return;
    };
    let path = path.child(field);
    match what {
        None => validate_values(values, default, capacity, &path, errors),
        Some(range) => validate_range(range, default, capacity, &path, errors),
    }
}

fn validate_values(
    values: &[Value],
    default: Quantity,
    capacity: Quantity,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for (index, pair) in values.windows(2).enumerate() {
        if let [one, next] = pair
            && let (Some(one), Some(next)) = (quantity(one), quantity(next))
            && one > next
        {
            let path = path.index(index + 1);
            let why = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&path, next.to_string(), why));
        }
    }
    let whole = |value: &Value| quantity(value).unwrap_or_default().value().to_string();
    lists::set(values, MAX_VALUES, path, errors, whole, |value, path, errors| {
        let value = quantity(value).unwrap_or_default();
        if value > capacity {
            let why = format!("option is larger than capacity value: {capacity}");
            errors.push(FieldError::invalid(path, value.to_string(), why));
        }
    });
    let is_default = |value: &Value| quantity(value) == Some(default);
    if values.len() > MAX_VALUES || !values.iter().any(is_default) {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(path, default.to_string(), why));
    }
}

fn validate_range(
    range: &Value,
    default: Quantity,
    capacity: Quantity,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let Some(min) = amount(range, &["min"]) else {
        errors.push(FieldError::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let mut refuse = |wrong: bool, field: &str, shown: Quantity, why: String| {
        if wrong {
            errors.push(FieldError::invalid(&path.child(field), shown.to_string(), why));
        }
    };
    refuse(min > capacity, "min", min, format!("min is larger than capacity value: {capacity}"));
    refuse(default < min, "default", default, format!("default is less than min: {min}"));
    let max = amount(range, &["max"]);
    if let Some(max) = max {
        refuse(min > max, "max", min, format!("min is larger than max: {max}"));
        refuse(max > capacity, "max", max, format!("max is larger than capacity value: {capacity}"));
        refuse(default > max, "default", default, format!("default is more than max: {max}"));
    }
    let Some(step) = amount(range, &["step"]) else { return };
    if step.signum() <= 0 {
        refuse(true, "step", step, "must be greater than zero".to_owned());
        return;
    }
    let first = min + step;
    let why = format!("one step {first} is larger than capacity value: {capacity}");
    refuse(first > capacity, "step", step, why);
    for value in [Some(default), max].into_iter().flatten() {
        let why = format!("value is not a multiple of a given step ({step}) from ({min})");
        refuse(!is_on_step(value, min, step), "step", value, why);
    }
}

/// Whether whole steps lead from the least amount to the value, all of them taken as whole numbers.
fn is_on_step(value: Quantity, min: Quantity, step: Quantity) -> bool {
    let way = i128::from(value.value()) - i128::from(min.value());
    way.checked_rem(step.value().into()) == Some(0)
}
