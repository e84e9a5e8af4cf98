//! IngressClasses.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_label;
use jiff::Timestamp;
use serde_json::Value;

use super::ingress_validation;
use crate::domain_path;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, text};

const CONTROLLER_MAX: usize = 250;
const SCOPES: &[&str] = &["Cluster", "Namespace"];

struct IngressClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("networking.k8s.io", "v1", "IngressClass"),
        rules: Rules { generation: Generation::Spec, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Controller", "Parameters", "Age"]),
        strategy: Arc::new(IngressClass),
    }
}

impl Strategy for IngressClass {
    fn default(&self, class: &mut Value) {
        if let Some(parameters) = at_mut(class, &["spec", "parameters"]) {
            default(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, class: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let path = spec.child("controller");
        let controller = text(class, &["spec", "controller"]);
        if controller.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            if controller.len() > CONTROLLER_MAX {
                errors.push(FieldError::too_long(&path, CONTROLLER_MAX));
            }
            domain_path::validate(controller, &path, errors);
        }
        if let Some(parameters) = at(class, &["spec", "parameters"]) {
            validate_parameters(parameters, &spec.child("parameters"), errors);
        }
    }

    fn validate_update(&self, class: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let controller = text(class, &["spec", "controller"]);
        if controller != text(old, &["spec", "controller"]) {
            let spec = Path::new("spec");
            errors.push(FieldError::invalid(&spec.child("controller"), controller, "field is immutable"));
        }
        self.validate(class, errors);
    }

    fn cells(&self, class: &Value, now: Timestamp) -> Vec<Value> {
        let parameters = at(class, &["spec", "parameters"]).map(|parameters| {
            let group = at(parameters, &["apiGroup"]).and_then(Value::as_str);
            let group = group.map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", text(parameters, &["kind"]), text(parameters, &["name"]))
        });
        vec![
            table::name(class),
            text(class, &["spec", "controller"]).into(),
            table::or_none(&parameters.unwrap_or_default()),
            table::age(class, now),
        ]
    }
}

fn validate_parameters(parameters: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    ingress_validation::reference(parameters, path, errors);
    let at_namespace = path.child("namespace");
    let namespace = at(parameters, &["namespace"]).and_then(Value::as_str);
    match (text(parameters, &["scope"]), namespace) {
        ("Namespace", None) => {
            errors.push(FieldError::required(&at_namespace, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(name)) => {
            let faults = dns1123_label(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_namespace, name, why)));
        }
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(&at_namespace, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => errors.push(FieldError::not_supported(&path.child("scope"), other, SCOPES)),
    }
}
