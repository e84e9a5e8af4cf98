//! CSINodes: which drivers a node has.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::{csi_driver, invalid, required, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{items, map, number, text};

/// Longest id by which a driver knows a node, in bytes.
const MAX_NODE_ID: usize = 256;

struct CsiNode;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "CSINode"),
        rules: Rules { unconditional_update: false, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Drivers:integer", "Age"]),
        strategy: Arc::new(CsiNode),
    }
}

impl Strategy for CsiNode {
    fn validate(&self, node: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let path = spec.child("drivers");
        let mut names = BTreeSet::new();
        for (index, driver) in items(node, &["spec", "drivers"]).iter().enumerate() {
            let at_driver = path.index(index);
            validate_driver(driver, &at_driver, errors);
            let name = text(driver, &["name"]);
            if !names.insert(name) {
                errors.push(FieldError::duplicate(&at_driver.child("name"), name));
            }
        }
    }

    fn validate_update(&self, node: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(node, errors);
        let spec = Path::new("spec");
        let without_count = |driver: &Value| {
            let mut driver = driver.clone();
            map(&mut driver).remove("allocatable");
            driver
        };
        for before in items(old, &["spec", "drivers"]) {
            let same = |driver: &&Value| driver.get("name") == before.get("name");
            for driver in items(node, &["spec", "drivers"]).iter().filter(same) {
                let (new, old) = (without_count(driver), without_count(before));
                unchanged(&spec.child("drivers"), Some(&new), Some(&old), errors);
            }
        }
    }

    fn cells(&self, node: &Value, now: Timestamp) -> Vec<Value> {
        let count = items(node, &["spec", "drivers"]).len();
        vec![table::name(node), count.into(), table::age(node, now)]
    }
}

fn validate_driver(driver: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if required(driver, "name", path, errors) {
        csi_driver(text(driver, &["name"]), &path.child("name"), errors);
    }
    let (id, at_id) = (text(driver, &["nodeID"]), path.child("nodeID"));
    if id.is_empty() {
        errors.push(FieldError::required(&at_id, ""));
    }
    if id.len() > MAX_NODE_ID {
        let why = format!("must be {MAX_NODE_ID} characters or less");
        errors.push(FieldError::invalid(&at_id, id, why));
    }
    if let Some(count) = number(driver, &["allocatable", "count"]).filter(|count| *count < 0) {
        let allocatable = path.child("allocatable");
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&allocatable.child("count"), count, why));
    }
    let mut keys = BTreeSet::new();
    for key in items(driver, &["topologyKeys"]).iter().filter_map(Value::as_str) {
        if key.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(path, key));
        }
        invalid(path, key, qualified_name(key), errors);
    }
}
