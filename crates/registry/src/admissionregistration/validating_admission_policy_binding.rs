//! ValidatingAdmissionPolicyBindings.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_subdomain, path_segment};
use jiff::Timestamp;
use serde_json::Value;

use super::matching;
use crate::checks::{invalid, required, selector, supported};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, items, text};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const NOT_FOUND_ACTIONS: &[&str] = &["Deny", "Allow"];

struct ValidatingAdmissionPolicyBinding;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
        rules: Rules {
            generation: Generation::Spec,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "PolicyName", "ParamRef", "Age"]),
        strategy: Arc::new(ValidatingAdmissionPolicyBinding),
    }
}

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn default(&self, binding: &mut Value) {
        if let Some(spec) = binding.get_mut("spec") {
            matching::default_resources(spec, "matchResources");
        }
    }

    fn validate(&self, binding: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::new("spec");
        let spec = binding.get("spec").unwrap_or(&Value::Null);
        if required(spec, "policyName", &path, errors) {
            let name = text(spec, &["policyName"]);
            invalid(&path.child("policyName"), name, dns1123_subdomain(name), errors);
        }
        if let Some(reference) = spec.get("paramRef") {
            validate_reference(reference, &path.child("paramRef"), errors);
        }
        if let Some(resources) = spec.get("matchResources") {
            matching::validate_resources(resources, &path.child("matchResources"), errors);
        }
        validate_actions(spec, &path.child("validationActions"), errors);
    }

    fn cells(&self, binding: &Value, now: Timestamp) -> Vec<Value> {
        let shown = at(binding, &["spec", "paramRef"]).map(|reference| {
            let of = |field| text(reference, &[field]);
            match (of("namespace"), of("name")) {
                ("", name) if !name.is_empty() => name.to_owned(),
                ("", _) => "*".to_owned(),
                (namespace, "") => format!("{namespace}/*"),
                (namespace, name) => format!("{namespace}/{name}"),
            }
        });
        vec![
            table::name(binding),
            text(binding, &["spec", "policyName"]).into(),
            shown.unwrap_or_else(|| "<unset>".to_owned()).into(),
            table::age(binding, now),
        ]
    }
}

fn validate_reference(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let name = text(reference, &["name"]);
    let selects = reference.get("selector").is_some();
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        invalid(&path.child("name"), name, path_segment(name), errors);
        if selects {
            errors.push(FieldError::forbidden(&path.child("name"), exclusive));
        }
    }
    selector(reference, "selector", path, errors);
    if selects && !name.is_empty() {
        errors.push(FieldError::forbidden(&path.child("selector"), exclusive));
    }
    if !selects && name.is_empty() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    if required(reference, "parameterNotFoundAction", path, errors) {
        supported(reference, "parameterNotFoundAction", NOT_FOUND_ACTIONS, path, errors);
    }
}

fn validate_actions(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = items(spec, &["validationActions"]);
    let mut seen = BTreeSet::new();
    for (index, action) in all.iter().map(|action| action.as_str().unwrap_or_default()).enumerate() {
        if !ACTIONS.contains(&action) {
            errors.push(FieldError::not_supported(&path.index(index), action, ACTIONS));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path.index(index), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, all.to_vec(), why));
    }
    if seen.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}
