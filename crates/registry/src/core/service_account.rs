//! ServiceAccounts.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::{Column, Subresource};
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{items, items_mut, map};

struct ServiceAccount;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ServiceAccount"),
        rules: Rules { shows_deleted: true, ..Rules::default() },
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
    fn prepare_create(&self, account: &mut Value) {
        keep_names(account);
    }

    fn prepare_update(&self, account: &mut Value, _old: &Value) {
        keep_names(account);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), items(object, &["secrets"]).len().into(), table::age(object, now)]
    }
}

/// Secrets of an account are of its namespace: only their names are kept.
fn keep_names(account: &mut Value) {
    for secret in items_mut(account, &["secrets"]) {
        map(secret).retain(|field, _| field == "name");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_secrets_only_the_names_are_kept() {
        let mut account = json!({"secrets": [{"name": "a", "namespace": "b", "fieldPath": "c"}, {}]});
        ServiceAccount.prepare_create(&mut account);
        assert_eq!(account, json!({"secrets": [{"name": "a"}, {}]}));
    }
}
