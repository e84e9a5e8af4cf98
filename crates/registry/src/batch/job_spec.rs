//! What is wrong with a job's spec, in a job or in the template of one.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_policies;
use crate::core::template;
use crate::domain_path;
use crate::tree::{number, text};

const MANAGED_BY_MAX: usize = 63;
const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// From so many completions on, an indexed job is held to less of the rest.
const MANY_COMPLETIONS: i64 = 100_000;
const PARALLELISM_OF_MANY: i64 = 10_000;
const FAILED_INDEXES_OF_MANY: i64 = 10_000;
const COUNTS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// Checks the spec, but for its selector.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in COUNTS {
        template::not_negative(spec, &[field], &path.child(field), errors);
    }
    if spec.get("maxFailedIndexes").is_some() && spec.get("backoffLimitPerIndex").is_none() {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), why));
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        let path = path.child("managedBy");
        if manager.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            domain_path::validate(manager, &path, errors);
        }
        if manager.len() > MANAGED_BY_MAX {
            errors.push(FieldError::too_long(&path, MANAGED_BY_MAX));
        }
    }
    validate_mode(spec, path, errors);
    pod_policies::validate(spec, path, errors);
    validate_template(spec, path, errors);
}

/// Whether each of the job's pods is for an index of its own.
pub(super) fn is_indexed(spec: &Value) -> bool {
    text(spec, &["completionMode"]) == "Indexed"
}

/// What somebody should know whose job is larger than can be kept track of.
pub(super) fn warning(spec: &Value, path: &Path<'_>) -> Option<String> {
    let count = |field: &str| number(spec, &[field]).unwrap_or_default();
    let many = count("completions") > MANY_COMPLETIONS && count("parallelism") > PARALLELISM_OF_MANY;
    (is_indexed(spec) && many).then(|| {
        format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than \
             10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    })
}

fn validate_mode(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match spec.get("completionMode").and_then(Value::as_str) {
        Some("Indexed") => validate_indexed(spec, path, errors),
        None | Some("NonIndexed") => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(given) = spec.get(field) {
                    let why = "requires indexed completion mode";
                    errors.push(FieldError::invalid(&path.child(field), given.clone(), why));
                }
            }
        }
        Some(other) => {
            let path = path.child("completionMode");
            errors.push(FieldError::not_supported(&path, other, &["NonIndexed", "Indexed"]));
        }
    }
}

fn validate_indexed(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let completions = number(spec, &["completions"]);
    let parallelism = number(spec, &["parallelism"]).unwrap_or_default();
    let failed = number(spec, &["maxFailedIndexes"]);
    let (at_parallelism, at_failed) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), why));
    }
    if parallelism > PARALLELISM_MAX {
        let why = format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
        errors.push(FieldError::invalid(&at_parallelism, parallelism, why));
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        let why = "must be less than or equal to completions";
        errors.push(FieldError::invalid(&at_failed, failed, why));
    }
    if let Some(failed) = failed.filter(|failed| *failed > FAILED_INDEXES_MAX) {
        let why = format!("must be less than or equal to {FAILED_INDEXES_MAX}");
        errors.push(FieldError::invalid(&at_failed, failed, why));
    }
    let many = completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || spec.get("backoffLimitPerIndex").is_none() {
        return;
    }
    let of_many = |most: i64| {
        format!(
            "must be less than or equal to {most} when completions are above {MANY_COMPLETIONS} and used with \
             backoff limit per index"
        )
    };
    if failed.is_none() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(FieldError::required(&at_failed, why));
    }
    if parallelism > PARALLELISM_OF_MANY {
        errors.push(FieldError::invalid(&at_parallelism, parallelism, of_many(PARALLELISM_OF_MANY)));
    }
    if let Some(failed) = failed.filter(|failed| *failed > FAILED_INDEXES_OF_MANY) {
        errors.push(FieldError::invalid(&at_failed, failed, of_many(FAILED_INDEXES_OF_MANY)));
    }
}

fn validate_template(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    template::validate_template(template, &path, errors);
    let pod = path.child("spec");
    let at_policy = pod.child("restartPolicy");
    match text(template, &["spec", "restartPolicy"]) {
        "Always" | "" => {
            let why = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(&at_policy, why));
        }
        "Never" => {}
        "OnFailure" if spec.get("podFailurePolicy").is_none() => {}
        "OnFailure" => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&at_policy, "OnFailure", why));
        }
        other => errors.push(FieldError::not_supported(&at_policy, other, &["OnFailure", "Never"])),
    }
}
