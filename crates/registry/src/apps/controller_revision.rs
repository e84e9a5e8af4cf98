//! ControllerRevisions: what StatefulSets and DaemonSets were, for those who roll them back.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::Value;

use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{default, number};

struct ControllerRevision;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apps", "v1", "ControllerRevision"),
        rules: Rules::default(),
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Controller", "Revision", "Age"]),
        strategy: Arc::new(ControllerRevision),
    }
}

impl Strategy for ControllerRevision {
    fn default(&self, revision: &mut Value) {
        default(revision, "revision", 0);
    }

    fn validate(&self, revision: &Value, errors: &mut Vec<FieldError>) {
        if revision.get("data").is_none_or(Value::is_null) {
            errors.push(FieldError::required(&Path::new("data"), "data is mandatory"));
        }
        template::not_negative(revision, &["revision"], &Path::new("revision"), errors);
    }

    fn validate_update(&self, revision: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(revision, errors);
        let data = revision.get("data");
        if data != old.get("data") {
            let given = data.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&Path::new("data"), given, "field is immutable"));
        }
    }

    fn cells(&self, revision: &Value, now: Timestamp) -> Vec<Value> {
        let owner = meta::controller_of(revision).map(|owner| {
            let group = owner.api_version.split_once('/').map(|(group, _)| format!(".{group}"));
            let kind = format!("{}{}", owner.kind, group.unwrap_or_default());
            format!("{}/{}", kind.to_lowercase(), owner.name)
        });
        vec![
            table::name(revision),
            table::or_none(&owner.unwrap_or_default()),
            number(revision, &["revision"]).unwrap_or_default().into(),
            table::age(revision, now),
        ]
    }
}
