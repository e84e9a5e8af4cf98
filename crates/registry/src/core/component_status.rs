//! ComponentStatuses: how the server's own parts are. They are read-only and never stored; whoever serves them knows.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{items, text};

struct ComponentStatus;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ComponentStatus"),
        rules: Rules { verbs: &["get", "list"], ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Status", "Message", "Error"]),
        strategy: Arc::new(ComponentStatus),
    }
}

impl Strategy for ComponentStatus {
    fn cells(&self, component: &Value, _now: Timestamp) -> Vec<Value> {
        let mut conditions = items(component, &["conditions"]).iter();
        let healthy = conditions.find(|condition| text(condition, &["type"]) == "Healthy");
        let of = |field| healthy.map(|condition| text(condition, &[field])).unwrap_or_default();
        let status = match (healthy.is_some(), of("status")) {
            (false, _) => "Unknown",
            (true, "True") => "Healthy",
            (true, _) => "Unhealthy",
        };
        vec![table::name(component), status.into(), of("message").into(), of("error").into()]
    }
}
