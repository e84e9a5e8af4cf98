//! Bindings of roles, within a namespace and everywhere.

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::Value;

use super::rules;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};

struct Binding {
    /// The kinds that it may bind.
    roles: &'static [&'static str],
}

pub(crate) fn of_namespace() -> Builtin {
    builtin("RoleBinding", Binding { roles: &["Role", "ClusterRole"] })
}

pub(crate) fn of_cluster() -> Builtin {
    builtin("ClusterRoleBinding", Binding { roles: &["ClusterRole"] })
}

fn builtin(kind: &'static str, binding: Binding) -> Builtin {
    Builtin {
        name: (rules::GROUP, "v1", kind),
        rules: Rules { name: NameRule::PathSegment, create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+"]),
        strategy: Arc::new(binding),
    }
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        rules::default_binding(object);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        rules::validate_binding(object, self.roles, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(object, errors);
        rules::validate_binding_update(object, old, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        rules::binding_cells(object, now)
    }
}
