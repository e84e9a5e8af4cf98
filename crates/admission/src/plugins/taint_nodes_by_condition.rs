//! No node gets pods before it has said that it is ready: it begins with the taint that says so, and the controller of
//! nodes takes that away.

use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::tree::{spec_list, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const NOT_READY: (&str, &str) = ("node.kubernetes.io/not-ready", "NoSchedule");

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.subresource.is_empty()
            && attributes.is("", "nodes")
    }

    async fn mutate(&self, _: &Attributes<'_>, node: &mut Value, _: &dyn Lookup) -> Result<(), Status> {
        if let Some(fields) = node.as_object_mut() {
            fields.entry("spec").or_insert_with(|| json!({}));
        }
        let Some(taints) = spec_list(node, "taints") else { return Ok(()) };
        let (key, effect) = NOT_READY;
        if !taints.iter().any(|taint| (text(taint, &["key"]), text(taint, &["effect"])) == NOT_READY) {
            taints.push(json!({"key": key, "effect": effect}));
        }
        Ok(())
    }
}
