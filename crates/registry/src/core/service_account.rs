//! ServiceAccounts.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::{Column, Subresource};
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::items;

struct ServiceAccount;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ServiceAccount"),
        rules: Rules::default(),
        fields: Vec::new(),
        subresources: vec![Subresource {
            name: "token",
            group_version: Some(("authentication.k8s.io", "v1")),
            kind: "TokenRequest".into(),
            verbs: &["create"],
        }],
        scale: None,
        columns: Column::parse(&["Name", "Secrets:integer", "Age"]),
        strategy: Arc::new(ServiceAccount),
    }
}

impl Strategy for ServiceAccount {
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), items(object, &["secrets"]).len().into(), table::age(object, now)]
    }
}
