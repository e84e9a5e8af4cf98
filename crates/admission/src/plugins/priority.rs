//! A pod's priority follows from its class. Of classes there are only the two that every cluster has.

use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, set_spec, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const PREEMPTION: &str = "PreemptLowerPriority";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Delete && attributes.is("", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        pod: &mut Value,
        _: &dyn Lookup,
    ) -> Result<(), Status> {
        if let Some(old) = attributes.old {
            // Whoever writes a pod back without its priority does not lose it.
            for field in ["priority", "preemptionPolicy"] {
                if let (None, Some(value)) = (at(pod, &["spec", field]), at(old, &["spec", field])) {
                    set_spec(pod, field, value.clone());
                }
            }
            return Ok(());
        }
        let priority = match text(pod, &["spec", "priorityClassName"]) {
            "" => 0,
            "system-cluster-critical" => 2_000_000_000_i64,
            "system-node-critical" => 2_000_001_000,
            other => return Err(attributes.forbid(format!("no PriorityClass with name {other} was found"))),
        };
        let given = at(pod, &["spec", "priority"]).and_then(Value::as_i64);
        if let Some(given) = given.filter(|given| *given != priority) {
            return Err(attributes.forbid(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {priority} from the given PriorityClass name"
            )));
        }
        let given = text(pod, &["spec", "preemptionPolicy"]);
        if !given.is_empty() && given != PREEMPTION {
            return Err(attributes.forbid(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
                 admission controller computed {PREEMPTION} from the given PriorityClass name"
            )));
        }
        set_spec(pod, "priority", priority);
        set_spec(pod, "preemptionPolicy", PREEMPTION);
        Ok(())
    }
}
