//! Numbers that may be percentages, as updates and budgets use them.

use apimachinery::field::{FieldError, Path};
use apimachinery::intstr::IntOrString;
use serde_json::{Value, json};

const NO_PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
                          or '93%', regex used for validation is '[0-9]+%')";

/// A whole number of at least 0, or a percentage.
pub(crate) fn validate(given: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match IntOrString::from_value(given) {
        Some(IntOrString::Int(number)) if number < 0 => {
            errors.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
        }
        Some(IntOrString::Int(_)) => {}
        Some(IntOrString::String(text)) if is_percent(&text) => {}
        Some(IntOrString::String(_)) => errors.push(FieldError::invalid(path, given.clone(), NO_PERCENT)),
        None => {
            let why = "must be an integer or percentage (e.g '5%%')";
            errors.push(FieldError::invalid(path, given.clone(), why));
        }
    }
}

/// Not more than all.
pub(crate) fn at_most_all(given: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let is_text = given.as_str().is_some_and(is_percent);
    if is_text && amount(given) > 100 {
        errors.push(FieldError::invalid(path, given.clone(), "must not be greater than 100%"));
    }
}

/// The number, or that of percents; 0 for what is neither.
pub(crate) fn amount(given: &Value) -> i64 {
    match given {
        Value::String(text) => {
            // More digits than a number has are still more than 100%.
            let digits = text.strip_suffix('%').filter(|_| is_percent(text));
            digits.map_or(0, |digits| digits.parse().unwrap_or(i64::MAX))
        }
        other => other.as_i64().unwrap_or_default(),
    }
}

/// A strategy of that type as upstream prints one.
pub(crate) fn shown(kind: &str, update: Option<&Value>) -> Value {
    let update = update.map(|update| {
        let of = |field: &str| update.get(field).cloned().unwrap_or_else(|| json!(0));
        json!({"MaxUnavailable": of("maxUnavailable"), "MaxSurge": of("maxSurge")})
    });
    json!({"Type": kind, "RollingUpdate": update})
}

fn is_percent(text: &str) -> bool {
    let digits = text.strip_suffix('%').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
