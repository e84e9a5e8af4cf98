//! Roles.

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};

struct Role;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: (rules::GROUP, "v1", "Role"),
        rules: Rules { name: NameRule::PathSegment, create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Created At"]),
        strategy: Arc::new(Role),
    }
}

impl Strategy for Role {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        rules::validate_rules(object, true, errors);
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        rules::role_cells(object)
    }
}
