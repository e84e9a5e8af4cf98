//! Roles and cluster roles (aggregated ones keep their rules as written until a controller fills them).

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};

struct Role {
    namespaced: bool,
}

pub(crate) fn of_namespace() -> Builtin {
    builtin("Role", Role { namespaced: true })
}

pub(crate) fn of_cluster() -> Builtin {
    builtin("ClusterRole", Role { namespaced: false })
}

fn builtin(kind: &'static str, role: Role) -> Builtin {
    Builtin {
        name: (rules::GROUP, "v1", kind),
        rules: Rules { name: NameRule::PathSegment, create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Created At"]),
        strategy: Arc::new(role),
    }
}

impl Strategy for Role {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        rules::validate_rules(object, self.namespaced, errors);
        if !self.namespaced {
            rules::validate_aggregation(object, errors);
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        rules::role_cells(object)
    }
}
