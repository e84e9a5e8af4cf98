//! CustomResourceDefinitions. What they bring is served by `custom`.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::validation;
use crate::admissionregistration::client_config::default_port;
use crate::custom::CLEANUP;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at_mut, default, default_text, is_true, items, items_mut, map, object, text};

struct CustomResourceDefinition;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        rules: Rules {
            generation: Generation::Spec,
            status: true,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: vec![table::status("CustomResourceDefinition")],
        scale: None,
        columns: Column::parse(&["Name", "Created At:date"]),
        strategy: Arc::new(CustomResourceDefinition),
    }
}

impl Strategy for CustomResourceDefinition {
    fn default(&self, crd: &mut Value) {
        let Some(spec) = crd.get_mut("spec") else { return };
        object(spec, "names");
        if let Some(names) = at_mut(spec, &["names"]) {
            let kind = text(names, &["kind"]).to_owned();
            if !kind.is_empty() {
                default_text(names, "singular", &kind.to_lowercase());
                default_text(names, "listKind", &format!("{kind}List"));
            }
        }
        default(spec, "conversion", json!({"strategy": "None"}));
        if let Some(webhook) = at_mut(spec, &["conversion", "webhook"]) {
            default_port(webhook);
        }
        // False is not written; true is refused.
        if !is_true(spec, &["preserveUnknownFields"]) {
            map(spec).remove("preserveUnknownFields");
        }
        for version in items_mut(spec, &["versions"]) {
            default(version, "served", false);
            default(version, "storage", false);
        }
    }

    fn prepare_create(&self, crd: &mut Value) {
        let storage = items(crd, &["spec", "versions"]).iter().find(|version| is_true(version, &["storage"]));
        let stored: Vec<Value> =
            storage.and_then(|version| version.get("name")).cloned().into_iter().collect();
        let status = object(crd, "status");
        status.insert("acceptedNames".into(), json!({"kind": "", "plural": ""}));
        status.insert("conditions".into(), json!([]));
        status.insert("storedVersions".into(), stored.into());
    }

    fn prepare_update(&self, crd: &mut Value, _old: &Value) {
        // A version that objects are stored in from now on is remembered before the first of them is.
        let storage = items(crd, &["spec", "versions"]).iter().find(|version| is_true(version, &["storage"]));
        let Some(storage) = storage.and_then(|version| version.get("name")).cloned() else { return };
        let mut stored = items(crd, &["status", "storedVersions"]).to_vec();
        if !stored.contains(&storage) {
            stored.push(storage);
            object(crd, "status").insert("storedVersions".into(), stored.into());
        }
    }

    fn validate(&self, crd: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(crd, None, errors);
    }

    fn validate_update(&self, crd: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(crd, Some(old), errors);
        validation::validate_update(crd, old, errors);
    }

    fn validate_status(&self, crd: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        if items(crd, &["status", "storedVersions"]).is_empty() {
            let status = Path::new("status");
            let why = "must have at least one stored version";
            errors.push(FieldError::invalid(&status.child("storedVersions"), json!([]), why));
        }
    }

    fn begin_deletion(&self, crd: &mut Value, now: Timestamp) {
        meta::add_finalizer(crd, CLEANUP);
        let terminating = json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            "lastTransitionTime": apimachinery::time::format(now),
        });
        crate::bind::set_condition(crd, terminating);
    }

    fn cells(&self, crd: &Value, _now: Timestamp) -> Vec<Value> {
        vec![table::name(crd), text(crd, &["metadata", "creationTimestamp"]).into()]
    }
}
