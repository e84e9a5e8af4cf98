//! ValidatingAdmissionPolicies.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1035_label, dns1123_subdomain, qualified_name};
use expressions::Checker;
use jiff::Timestamp;
use serde_json::Value;

use super::webhook_configuration::FAILURE_POLICIES;
use super::{conditions, matching};
use crate::checks::{invalid, required, supported};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, default, items, object, text};

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MAX_ANNOTATIONS: usize = 20;
/// Longest expression of an audit annotation, in bytes.
const MAX_VALUE: usize = 5 * 1024;
struct ValidatingAdmissionPolicy;

pub(crate) fn builtin() -> Builtin {
    let kind = "ValidatingAdmissionPolicy";
    Builtin {
        name: ("admissionregistration.k8s.io", "v1", kind),
        rules: Rules {
            generation: Generation::Spec,
            status: true,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: vec![table::status(kind)],
        scale: None,
        columns: Column::parse(&["Name", "Validations:integer", "ParamKind", "Age"]),
        strategy: Arc::new(ValidatingAdmissionPolicy),
    }
}

impl Strategy for ValidatingAdmissionPolicy {
    fn default(&self, policy: &mut Value) {
        object(policy, "spec");
        let Some(spec) = policy.get_mut("spec") else { return };
        default(spec, "failurePolicy", "Fail");
        matching::default_resources(spec, "matchConstraints");
    }

    fn validate(&self, policy: &Value, errors: &mut Vec<FieldError>) {
        validate(policy, true, errors);
    }

    fn validate_update(&self, policy: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let said = |policy: &'_ Value| {
            (
                at(policy, &["spec", "paramKind"]).cloned(),
                items(policy, &["spec", "matchConditions"]).to_vec(),
            )
        };
        validate(policy, said(policy) != said(old), errors);
    }

    fn validate_status(&self, policy: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        let checking = status.child("typeChecking");
        let path = checking.child("expressionWarnings");
        let warnings = items(policy, &["status", "typeChecking", "expressionWarnings"]);
        for (index, warning) in warnings.iter().enumerate() {
            let at_warning = path.index(index);
            required(warning, "warning", &at_warning, errors);
            if text(warning, &["fieldRef"]).trim().is_empty() {
                errors.push(FieldError::required(&at_warning.child("fieldRef"), ""));
            }
        }
        crate::conditions::validate(policy, errors);
    }

    fn cells(&self, policy: &Value, now: Timestamp) -> Vec<Value> {
        let kind = at(policy, &["spec", "paramKind"])
            .map(|kind| format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"])));
        vec![
            table::name(policy),
            items(policy, &["spec", "validations"]).len().into(),
            kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
            table::age(policy, now),
        ]
    }
}

/// What is wrong with a policy. Conditions are only checked where they are new.
fn validate(policy: &Value, conditions: bool, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    supported(spec, "failurePolicy", FAILURE_POLICIES, &path, errors);
    if let Some(kind) = spec.get("paramKind") {
        validate_param_kind(kind, &path.child("paramKind"), errors);
    }
    let at_constraints = path.child("matchConstraints");
    match spec.get("matchConstraints") {
        None => errors.push(FieldError::required(&at_constraints, "")),
        Some(constraints) => {
            matching::validate_resources(constraints, &at_constraints, errors);
            required(constraints, "resourceRules", &at_constraints, errors);
        }
    }
    let mut checker = Checker::new(spec.get("paramKind").is_some());
    if conditions {
        conditions::validate(spec, &checker, &path.child("matchConditions"), errors);
    }
    let at_variables = path.child("variables");
    for (index, variable) in items(spec, &["variables"]).iter().enumerate() {
        validate_variable(variable, &mut checker, &at_variables.index(index), errors);
    }
    let (at_validations, at_annotations) = (path.child("validations"), path.child("auditAnnotations"));
    let (validations, annotations) = (items(spec, &["validations"]), items(spec, &["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required(&at_validations, why));
        errors.push(FieldError::required(&at_annotations, why));
    }
    for (index, validation) in validations.iter().enumerate() {
        validate_validation(validation, &checker, &at_validations.index(index), errors);
    }
    let name = apimachinery::meta::name(policy);
    validate_annotations(name, annotations, &checker, &at_annotations, errors);
}

fn validate_param_kind(kind: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if required(kind, "apiVersion", path, errors) {
        let (given, at_version) = (text(kind, &["apiVersion"]), path.child("apiVersion"));
        let mut parts = given.split('/');
        let (group, version) = match (parts.next(), parts.next(), parts.next()) {
            (Some(version), None, _) => ("", version),
            (Some(group), Some(version), None) => (group, version),
            _ => {
                let why = format!("unexpected GroupVersion string: {given}");
                errors.push(FieldError::invalid(&at_version, given, why));
                return;
            }
        };
        let faults = if group.is_empty() { Vec::new() } else { dns1123_subdomain(group) };
        if !faults.is_empty() {
            errors.push(FieldError::invalid(&at_version, group, faults.join(",")));
        }
        let faults = dns1035_label(version);
        if version.is_empty() {
            errors.push(FieldError::invalid(&at_version, given, "version must be specified"));
        } else if !faults.is_empty() {
            errors.push(FieldError::invalid(&at_version, version, faults.join(",")));
        }
    }
    if required(kind, "kind", path, errors) {
        let given = text(kind, &["kind"]);
        let faults = dns1035_label(&given.to_lowercase());
        if !faults.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            errors.push(FieldError::invalid(&path.child("kind"), given, why));
        }
    }
}

fn validate_variable(variable: &Value, checker: &mut Checker, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let name = text(variable, &["name"]);
    let is_start = |c: char| c == '_' || c.is_ascii_alphabetic();
    let fits = name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit());
    if name.trim().is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name is not specified"));
    } else if !fits || cel::is_reserved(name) {
        let why = "must be a valid CEL identifier";
        errors.push(FieldError::invalid(&path.child("name"), name, why));
    }
    check(variable, "expression", path, errors, |expression| checker.variable(name, expression));
}

/// An expression that must be there, and compile.
fn check(
    owner: &Value,
    field: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
    compile: impl FnOnce(&str) -> Result<(), String>,
) {
    let expression = text(owner, &[field]);
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&path.child(field), format!("{field} is not specified")));
    } else if let Err(why) = compile(expression) {
        errors.push(FieldError::invalid(&path.child(field), expression, why));
    }
}

fn validate_validation(validation: &Value, checker: &Checker, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    check(validation, "expression", path, errors, |expression| checker.validation(expression));
    let of = |field| text(validation, &[field]);
    let is_blank = |field| !of(field).is_empty() && of(field).trim().is_empty();
    if is_blank("messageExpression") {
        let why = "must be non-empty if specified";
        errors.push(FieldError::invalid(&path.child("messageExpression"), of("messageExpression"), why));
    } else if !of("messageExpression").is_empty() {
        check(validation, "messageExpression", path, errors, |expression| checker.message(expression));
    }
    if is_blank("message") {
        let why = "message must be non-empty if specified";
        errors.push(FieldError::invalid(&path.child("message"), of("message"), why));
    } else if of("message").trim().contains(['\n', '\r']) {
        let why = "message must not contain line breaks";
        errors.push(FieldError::invalid(&path.child("message"), of("message"), why));
    }
    supported(validation, "reason", REASONS, path, errors);
}

fn validate_annotations(
    policy: &str,
    all: &[Value],
    checker: &Checker,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if all.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, all.to_vec(), why));
    }
    let mut seen = BTreeSet::new();
    for (index, annotation) in all.iter().enumerate() {
        let at_annotation = path.index(index);
        let (key, at_key) = (text(annotation, &["key"]), at_annotation.child("key"));
        let whole = format!("{policy}/{key}");
        if policy.is_empty() {
            errors.push(FieldError::invalid(&at_key, key, "requires metadata.name be non-empty"));
        } else {
            invalid(&at_key, &whole, qualified_name(&whole), errors);
        }
        if text(annotation, &["valueExpression"]).trim().len() > MAX_VALUE {
            let why = format!("must not exceed {MAX_VALUE} bytes in length");
            errors.push(FieldError::required(&at_annotation.child("valueExpression"), why));
        } else {
            check(annotation, "valueExpression", &at_annotation, errors, |value| checker.annotation(value));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&at_key, key));
        }
    }
}
