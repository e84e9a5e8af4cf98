//! Leases.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{self, number, text};

/// Where nodes say that they are there. Each does so every ten seconds and goes on before the answer: of thousands, many a
/// write is alone, and need not be.
const OF_NODES: &str = "kube-node-lease";
/// Long enough for fifty of 5,000 nodes, and nothing beside the seconds that a lease lasts.
const PATIENCE: Duration = Duration::from_millis(100);

struct Lease;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("coordination.k8s.io", "v1", "Lease"),
        rules: Rules {
            create_on_update: true,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Holder", "Age"]),
        strategy: Arc::new(Lease),
    }
}

/// Of coordinated leader election, which v1.36 has off.
const SHUT: [&str; 2] = ["preferredHolder", "strategy"];

impl Strategy for Lease {
    fn prepare_create(&self, object: &mut Value) {
        tree::shut(object, None, &["spec"], &SHUT);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        tree::shut(object, Some(old), &["spec"], &SHUT);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        if let Some(seconds) =
            number(object, &["spec", "leaseDurationSeconds"]).filter(|seconds| *seconds <= 0)
        {
            let at = spec.child("leaseDurationSeconds");
            errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
        }
        if let Some(count) = number(object, &["spec", "leaseTransitions"]).filter(|count| *count < 0) {
            let at = spec.child("leaseTransitions");
            errors.push(FieldError::invalid(&at, count, "must be greater than or equal to 0"));
        }
    }

    fn patience(&self, namespace: &str) -> Duration {
        if namespace == OF_NODES { PATIENCE } else { Duration::ZERO }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let holder = text(object, &["spec", "holderIdentity"]);
        vec![table::name(object), holder.into(), table::age(object, now)]
    }
}
