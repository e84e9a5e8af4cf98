//! ResourceQuotas.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource_names;
use crate::checks::{amount, quantity};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{entries, items, text};

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const OPPOSITES: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

struct ResourceQuota;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ResourceQuota"),
        rules: Rules { status: true, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("ResourceQuota")],
        scale: None,
        columns: Column::parse(&["Name", "Request", "Limit", "Age"]),
        strategy: Arc::new(ResourceQuota),
    }
}

impl Strategy for ResourceQuota {
    fn validate(&self, quota: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        validate_amounts(quota, "spec", "hard", &spec.child("hard"), errors);
        validate_scopes(quota, &spec.child("scopes"), errors);
        validate_selector(quota, &spec.child("scopeSelector"), errors);
    }

    fn validate_update(&self, quota: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(quota, errors);
        let scopes = |quota| -> BTreeSet<&str> {
            items(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str).collect()
        };
        if scopes(quota) != scopes(old) {
            let (spec, given) = (Path::new("spec"), items(quota, &["spec", "scopes"]).to_vec());
            errors.push(FieldError::invalid(&spec.child("scopes"), given, "field is immutable"));
        }
    }

    fn validate_status(&self, quota: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        for field in ["hard", "used"] {
            validate_amounts(quota, "status", field, &status.child(field), errors);
        }
    }

    fn cells(&self, quota: &Value, now: Timestamp) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, _) in entries(quota, &["status", "hard"]) {
            let of = |field| amount(quota, &["status", field, name]).unwrap_or_default();
            let shown = format!("{name}: {}/{}", of("used"), of("hard"));
            let column = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            column.push(shown);
        }
        requests.sort_unstable();
        limits.sort_unstable();
        vec![table::name(quota), requests.join(", ").into(), limits.join(", ").into(), table::age(quota, now)]
    }
}

fn validate_amounts(quota: &Value, part: &str, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (name, value) in entries(quota, &[part, field]) {
        let at_name = path.key(name);
        resource_names::validate_of_quotas(name, &at_name, errors);
        if let Some(given) = quantity(value) {
            resource_names::validate_amount(name, given, &at_name, errors);
        }
    }
}

/// How many of the resources that a quota names its scope has nothing to do with.
fn strangers(quota: &Value, scope: &str) -> usize {
    let named = entries(quota, &["spec", "hard"]).map(|(name, _)| name.as_str());
    named
        .filter(|name| {
            resource_names::is_standard_in_quotas(name) && !resource_names::fits_scope(scope, name)
        })
        .count()
}

fn validate_scopes(quota: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = items(quota, &["spec", "scopes"]);
    let mut report = |why: &str| errors.push(FieldError::invalid(path, all.to_vec(), why));
    let scopes: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            report("unsupported scope");
        }
        (0..strangers(quota, scope)).for_each(|_| report("unsupported scope applied to resource"));
    }
    for (one, other) in OPPOSITES {
        if scopes.contains(&one) && scopes.contains(&other) {
            report("conflicting scopes");
        }
    }
}

/// A selector of scopes as upstream prints one.
fn shown(expressions: &[Value]) -> Value {
    let shown = expressions.iter().map(|expression| {
        let of = |field| text(expression, &[field]);
        json!({"ScopeName": of("scopeName"), "Operator": of("operator"), "Values": expression.get("values")})
    });
    json!({"MatchExpressions": shown.collect::<Vec<Value>>()})
}

fn validate_selector(quota: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_expressions = path.child("matchExpressions");
    let all = items(quota, &["spec", "scopeSelector", "matchExpressions"]);
    for expression in all {
        let (scope, operator) = (text(expression, &["scopeName"]), text(expression, &["operator"]));
        let values = items(expression, &["values"]);
        if !SCOPES.contains(&scope) {
            let why = "unsupported scope";
            errors.push(FieldError::invalid(&at_expressions.child("scopeName"), scope, why));
        }
        for _ in 0..strangers(quota, scope) {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(&at_expressions, shown(all), why));
        }
        let takes_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !takes_values && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&at_expressions.child("operator"), operator, why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&at_expressions.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&at_expressions.child("values"), values.to_vec(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(&at_expressions.child("operator"), other, why));
            }
        }
    }
    let has = |scope: &str| all.iter().any(|expression| text(expression, &["scopeName"]) == scope);
    for (one, other) in OPPOSITES {
        if has(one) && has(other) {
            let given = items(quota, &["spec", "scopes"]).to_vec();
            errors.push(FieldError::invalid(&at_expressions, given, "conflicting scopes"));
        }
    }
}
