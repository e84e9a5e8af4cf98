//! What a job makes of how its pods end: `podFailurePolicy`, `successPolicy`, `podReplacementPolicy`.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use serde_json::Value;

use super::indexes;
use super::job_spec::is_indexed;
use crate::core::template;
use crate::tree::{items, number, text};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const INDEXES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if spec.get("podFailurePolicy").is_some() {
        validate_failures(spec, &path.child("podFailurePolicy"), errors);
    }
    if let Some(success) = spec.get("successPolicy") {
        let path = path.child("successPolicy");
        if is_indexed(spec) {
            validate_success(spec, &path, errors);
        } else {
            let why = "requires indexed completion mode";
            errors.push(FieldError::invalid(&path, success.clone(), why));
        }
    }
    let Some(replacement) = spec.get("podReplacementPolicy").and_then(Value::as_str) else { return };
    let supported: &[&str] = match spec.get("podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if !supported.contains(&replacement) {
        errors.push(FieldError::not_supported(&path.child("podReplacementPolicy"), replacement, supported));
    }
}

fn validate_failures(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("rules");
    let rules = items(spec, &["podFailurePolicy", "rules"]);
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), RULES_MAX));
    }
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(spec, &["template", "spec", list]))
        .map(|container| text(container, &["name"]))
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        validate_failure(spec, rule, &containers, &path.index(index), errors);
    }
}

fn validate_failure(
    spec: &Value,
    rule: &Value,
    containers: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let action = text(rule, &["action"]);
    if action == "FailIndex" {
        if spec.get("backoffLimitPerIndex").is_none() {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(&path.child("action"), action, why));
        }
    } else {
        one_of(action, &ACTIONS, &path.child("action"), errors);
    }
    let codes = rule.get("onExitCodes");
    let conditions = items(rule, &["onPodConditions"]);
    if let Some(codes) = codes {
        validate_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    if !conditions.is_empty() {
        validate_conditions(conditions, &path.child("onPodConditions"), errors);
    }
    let why = match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(FieldError::invalid_unshown(path, why));
}

/// A word that must be there.
fn one_of(word: &str, words: &[&str], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if word.is_empty() {
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        errors.push(FieldError::required(path, format!("valid values: [{}]", quoted.join(" "))));
    } else if !words.contains(&word) {
        errors.push(FieldError::not_supported(path, word, words));
    }
}

fn validate_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let operator = text(codes, &["operator"]);
    one_of(operator, &OPERATORS, &path.child("operator"), errors);
    if let Some(name) = codes.get("containerName").and_then(Value::as_str)
        && !containers.contains(name)
    {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, why));
    }
    let path = path.child("values");
    let values = items(codes, &["values"]);
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, Vec::<Value>::new(), "at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(&path, values.len(), EXIT_CODES_MAX));
    }
    let numbers: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap_or_default()).collect();
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate() {
        let path = path.index(index);
        if operator == "In" && *number == 0 {
            errors.push(FieldError::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(number) {
            errors.push(FieldError::duplicate(&path, *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(&path, numbers, "must be ordered"));
    }
}

fn validate_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = text(pattern, &["type"]);
        for why in qualified_name(kind) {
            errors.push(FieldError::invalid(&path.child("type"), kind, why));
        }
        one_of(text(pattern, &["status"]), &STATUSES, &path.child("status"), errors);
    }
}

fn validate_success(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("rules");
    let rules = items(spec, &["successPolicy", "rules"]);
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, why));
    }
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), RULES_MAX));
    }
    // Without completions, which is said elsewhere, there is nothing to compare with.
    let completions = number(spec, &["completions"]).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        validate_success_rule(rule, completions, &path.index(index), errors);
    }
}

fn validate_success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let named = rule.get("succeededIndexes").and_then(Value::as_str);
    let wanted = number(rule, &["succeededCount"]);
    if named.is_none() && wanted.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, why));
    }
    let mut total = 0;
    if let Some(named) = named {
        let path = path.child("succeededIndexes");
        if named.len() > INDEXES_MAX {
            errors.push(FieldError::too_long(&path, INDEXES_MAX));
        }
        match indexes::count(named, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&path, named, why));
            }
        }
    }
    let Some(wanted) = wanted else { return };
    let path = path.child("succeededCount");
    template::not_negative(rule, &["succeededCount"], &path, errors);
    let mut at_most = |most: i64, what: &str| {
        if wanted > most {
            let why = format!("must be less than or equal to {most} (the number of {what})");
            errors.push(FieldError::invalid(&path, wanted, why));
        }
    };
    at_most(completions, "specified completions");
    if named.is_some() {
        at_most(total, "indexes in the specified succeededIndexes field");
    }
}
