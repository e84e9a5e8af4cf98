//! ResourceClaimTemplates: of which claims are made, one a pod.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::Value;

use super::claim_spec;
use crate::checks::unchanged;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, map, object};

struct ResourceClaimTemplate;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("resource.k8s.io", "v1", "ResourceClaimTemplate"),
        rules: Rules { shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Age"]),
        strategy: Arc::new(ResourceClaimTemplate),
    }
}

impl Strategy for ResourceClaimTemplate {
    fn default(&self, template: &mut Value) {
        object(template, "spec");
        let Some(content) = template.get_mut("spec") else { return };
        object(content, "metadata");
        if !content.get("spec").is_some_and(Value::is_object) {
            map(content).insert("spec".to_owned(), Value::Object(serde_json::Map::new()));
        }
        if let Some(spec) = at_mut(content, &["spec"]) {
            claim_spec::default(spec);
        }
    }

    fn validate(&self, template: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let path = spec.child("metadata");
        if let Some(labels) = at(template, &["spec", "metadata", "labels"]).and_then(Value::as_object) {
            meta::validate_labels(labels, &path.child("labels"), errors);
        }
        let annotations = at(template, &["spec", "metadata", "annotations"]);
        if let Some(annotations) = annotations.and_then(Value::as_object) {
            meta::validate_annotations(annotations, &path.child("annotations"), errors);
        }
        let content = at(template, &["spec", "spec"]).unwrap_or(&Value::Null);
        claim_spec::validate(content, &spec.child("spec"), errors);
    }

    fn validate_update(&self, template: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        unchanged(&Path::new("spec"), template.get("spec"), old.get("spec"), errors);
    }

    fn cells(&self, template: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(template), table::age(template, now)]
    }
}
