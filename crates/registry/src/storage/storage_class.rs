//! StorageClasses.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{label_value, qualified_name};
use apimachinery::meta::{annotation, name};
use jiff::Timestamp;
use serde_json::Value;

use super::parameters;
use crate::checks::{invalid, provisioner, supported, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{default, is_true, items, text};

/// What makes a class the default one, now and long ago.
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

struct StorageClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "StorageClass"),
        rules: Rules { shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Provisioner",
            "ReclaimPolicy",
            "VolumeBindingMode",
            "AllowVolumeExpansion",
            "Age",
        ]),
        strategy: Arc::new(StorageClass),
    }
}

impl Strategy for StorageClass {
    fn default(&self, class: &mut Value) {
        default(class, "reclaimPolicy", "Delete");
        default(class, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, class: &Value, errors: &mut Vec<FieldError>) {
        let root = Path::empty();
        provisioner(text(class, &["provisioner"]), &Path::new("provisioner"), errors);
        parameters::validate(class, true, errors);
        // Upstream looks at it only if it says something.
        if !text(class, &["reclaimPolicy"]).is_empty() {
            supported(class, "reclaimPolicy", &["Delete", "Retain"], &root, errors);
        }
        supported(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root, errors);
        validate_topologies(class, errors);
    }

    fn validate_update(&self, class: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(class, errors);
        let is_empty = |value: &&Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            let of = |class: &'_ Value| class.get(field).filter(|value| !is_empty(value)).cloned();
            unchanged(&Path::new(field), of(class).as_ref(), of(old).as_ref(), errors);
        }
    }

    fn cells(&self, class: &Value, now: Timestamp) -> Vec<Value> {
        let is_default = IS_DEFAULT.iter().any(|key| annotation(class, key) == Some("true"));
        let shown = format!("{}{}", name(class), if is_default { " (default)" } else { "" });
        vec![
            shown.into(),
            text(class, &["provisioner"]).into(),
            text(class, &["reclaimPolicy"]).into(),
            text(class, &["volumeBindingMode"]).into(),
            is_true(class, &["allowVolumeExpansion"]).into(),
            table::age(class, now),
        ]
    }
}

fn validate_topologies(class: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("allowedTopologies");
    let terms = items(class, &["allowedTopologies"]);
    // Upstream's list of those that it knows begins with as many empty ones as there are terms.
    let mut known: Vec<Vec<(&str, BTreeSet<&str>)>> = vec![Vec::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let at_term = path.index(index);
        let at_expressions = at_term.child("matchLabelExpressions");
        let mut term_values: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (index, expression) in items(term, &["matchLabelExpressions"]).iter().enumerate() {
            let at_expression = at_expressions.index(index);
            let (key, at_key) = (text(expression, &["key"]), at_expression.child("key"));
            let at_values = at_expression.child("values");
            let values = items(expression, &["values"]);
            if values.is_empty() {
                errors.push(FieldError::required(&at_values, ""));
            }
            let mut seen = BTreeSet::new();
            for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                invalid(&at_values.index(index), value, label_value(value), errors);
                if !seen.insert(value) {
                    errors.push(FieldError::duplicate(&at_values.index(index), value));
                }
            }
            invalid(&at_key, key, qualified_name(key), errors);
            if term_values.iter().any(|(known, _)| *known == key) {
                errors.push(FieldError::duplicate(&at_key, key));
            }
            term_values.push((key, seen));
        }
        term_values.sort_unstable();
        let same = known.iter().filter(|other| **other == term_values);
        errors.extend(same.map(|_| FieldError::duplicate(&at_expressions, "")));
        known.push(term_values);
    }
}
