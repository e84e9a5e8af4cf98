//! Cluster roles (aggregated ones keep their rules as written until a controller fills them).

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};

struct ClusterRole;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: (rules::GROUP, "v1", "ClusterRole"),
        rules: Rules { name: NameRule::PathSegment, create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Created At"]),
        strategy: Arc::new(ClusterRole),
    }
}

impl Strategy for ClusterRole {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        rules::validate_rules(object, false, errors);
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        rules::role_cells(object)
    }
}
