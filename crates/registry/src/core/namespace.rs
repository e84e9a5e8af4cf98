//! Namespaces.

use std::sync::Arc;

use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::Field;
use crate::kind::{Column, Subresource};
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{copy, items, object as child, text};

/// The label that every namespace carries its own name in.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// All but deletecollection: namespaces go one by one.
const VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

struct Namespace;

pub(crate) fn builtin() -> Builtin {
    let finalize =
        Subresource { name: "finalize", group_version: None, kind: "Namespace".into(), verbs: &["update"] };
    Builtin {
        name: ("", "v1", "Namespace"),
        rules: Rules { name: NameRule::Label, verbs: VERBS, status: true, ..Rules::default() },
        fields: vec![Field::at("status.phase")],
        subresources: vec![finalize, table::status("Namespace")],
        scale: None,
        columns: Column::parse(&["Name", "Status", "Age"]),
        strategy: Arc::new(Namespace),
    }
}

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        let name = text(object, &["metadata", "name"]).to_owned();
        if !name.is_empty() {
            apimachinery::meta::labels_mut(object).insert(NAME_LABEL.into(), name.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let name = text(object, &["metadata", "name"]).to_owned();
        if !name.is_empty() {
            apimachinery::meta::labels_mut(object).insert(NAME_LABEL.into(), name.into());
        }
        child(object, "status").insert("phase".into(), "Active".into());
        let finalizers = items(object, &["spec", "finalizers"]);
        if !finalizers.contains(&json!("kubernetes")) {
            let mut all = finalizers.to_vec();
            all.push("kubernetes".into());
            child(object, "spec").insert("finalizers".into(), all.into());
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        // Only the namespace controller lets go, through its own subresource.
        let mut spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
        copy(&mut spec, old.get("spec").unwrap_or(&Value::Null), "finalizers");
        crate::tree::map(object).insert("spec".into(), spec);
    }

    fn begin_deletion(&self, object: &mut Value, _now: Timestamp) {
        child(object, "status").insert("phase".into(), "Terminating".into());
    }

    fn is_held(&self, object: &Value) -> bool {
        !items(object, &["spec", "finalizers"]).is_empty()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), text(object, &["status", "phase"]).into(), table::age(object, now)]
    }
}
