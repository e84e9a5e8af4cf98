//! Match conditions: expressions that a request must meet.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use expressions::Checker;
use serde_json::Value;

use crate::checks::{invalid, required};
use crate::tree::{items, text};

const MOST: usize = 64;

/// What is wrong with the `matchConditions` of a webhook or a policy.
pub(super) fn validate(owner: &Value, checker: &Checker, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = items(owner, &["matchConditions"]);
    if all.len() > MOST {
        errors.push(FieldError::too_many(path, all.len(), MOST));
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in all.iter().enumerate() {
        let at_condition = path.index(index);
        let (expression, at_expression) =
            (text(condition, &["expression"]).trim(), at_condition.child("expression"));
        if expression.is_empty() {
            errors.push(FieldError::required(&at_expression, ""));
        } else if let Err(why) = checker.condition(expression) {
            errors.push(FieldError::invalid(&at_expression, expression, why));
        }
        if !required(condition, "name", &at_condition, errors) {
            continue;
        }
        let (name, at_name) = (text(condition, &["name"]), at_condition.child("name"));
        invalid(&at_name, name, qualified_name(name), errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at_name, name));
        }
    }
}
