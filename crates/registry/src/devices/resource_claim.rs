//! ResourceClaims: what devices somebody needs, and which they were given.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::is_deleting;
use jiff::Timestamp;
use serde_json::Value;

use super::claim_status::{self, device_id};
use super::{claim_spec, taints};
use crate::checks::unchanged;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, items, items_mut, map, object};

struct ResourceClaim;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("resource.k8s.io", "v1", "ResourceClaim"),
        rules: Rules { status: true, status_metadata: false, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("ResourceClaim")],
        scale: None,
        columns: Column::parse(&["Name", "State", "Age"]),
        strategy: Arc::new(ResourceClaim),
    }
}

impl Strategy for ResourceClaim {
    fn default(&self, claim: &mut Value) {
        object(claim, "spec");
        if let Some(spec) = claim.get_mut("spec") {
            claim_spec::default(spec);
        }
        object(claim, "status");
        if let Some(allocation) = at_mut(claim, &["status", "allocation"]).filter(|given| given.is_object()) {
            object(allocation, "devices");
            items_mut(allocation, &["devices", "results"]).iter_mut().for_each(taints::default_tolerations);
        }
    }

    fn validate(&self, claim: &Value, errors: &mut Vec<FieldError>) {
        claim_spec::validate(claim.get("spec").unwrap_or(&Value::Null), &Path::new("spec"), errors);
    }

    fn validate_update(&self, claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        unchanged(&Path::new("spec"), claim.get("spec"), old.get("spec"), errors);
    }

    /// Nothing more is said of devices that were the claim's and are not any more.
    fn prepare_status(&self, claim: &mut Value, old: &Value, _now: Timestamp) {
        let results = ["status", "allocation", "devices", "results"];
        let given = |claim: &Value| items(claim, &results).iter().map(device_id).collect::<BTreeSet<_>>();
        let (before, now) = (given(old), given(claim));
        let Some(status) = at_mut(claim, &["status"]) else { return };
        let Some(Value::Array(devices)) = status.get_mut("devices") else { return };
        devices.retain(|device| {
            let id = device_id(device);
            !before.contains(&id) || now.contains(&id)
        });
        if devices.is_empty() {
            map(status).remove("devices");
        }
    }

    fn validate_status(&self, claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        claim_status::validate(claim, old, errors);
    }

    fn cells(&self, claim: &Value, now: Timestamp) -> Vec<Value> {
        let mut states = Vec::new();
        if is_deleting(claim) {
            states.push("deleted");
        }
        if at(claim, &["status", "allocation"]).is_some() {
            states.push("allocated");
            if !items(claim, &["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        } else if states.is_empty() {
            states.push("pending");
        }
        vec![table::name(claim), states.join(",").into(), table::age(claim, now)]
    }
}
