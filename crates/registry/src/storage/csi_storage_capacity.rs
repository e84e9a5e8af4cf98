//! CSIStorageCapacities: how much room a driver has for volumes of a class in a part of the cluster.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::{amount, invalid, selector, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::text;

struct CsiStorageCapacity;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "CSIStorageCapacity"),
        rules: Rules { unconditional_update: false, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "StorageClassName", "Capacity"]),
        strategy: Arc::new(CsiStorageCapacity),
    }
}

impl Strategy for CsiStorageCapacity {
    fn validate(&self, capacity: &Value, errors: &mut Vec<FieldError>) {
        selector(capacity, "nodeTopology", &Path::empty(), errors);
        let class = text(capacity, &["storageClassName"]);
        invalid(&Path::new("storageClassName"), class, dns1123_subdomain(class), errors);
        if let Some(given) = amount(capacity, &["capacity"]).filter(|given| given.signum() < 0) {
            let why = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(&Path::new("capacity"), given.to_string(), why));
        }
    }

    fn validate_update(&self, capacity: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["nodeTopology", "storageClassName"] {
            unchanged(&Path::new(field), capacity.get(field), old.get(field), errors);
        }
    }

    fn cells(&self, capacity: &Value, _now: Timestamp) -> Vec<Value> {
        let shown = amount(capacity, &["capacity"]).map(|amount| amount.to_string());
        vec![
            table::name(capacity),
            text(capacity, &["storageClassName"]).into(),
            shown.unwrap_or_else(|| "<unset>".to_owned()).into(),
        ]
    }
}
