//! A pod's priority follows from its class, or from the class that is everybody's; of such there is one.

use apimachinery::gvk::GroupResource;
use apimachinery::meta;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, set_spec, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const CLASSES: GroupResource = GroupResource::of("scheduling.k8s.io", "priorityclasses");
/// What pods do where no class says otherwise.
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
        let concerned = attributes.is("", "pods") || attributes.is("scheduling.k8s.io", "priorityclasses");
        attributes.operation != Operation::Delete && concerned
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        match attributes.old {
            Some(old) => keep(object, old),
            None => rank(attributes, object, lookup).await?,
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(class) = object.filter(|object| is_default(object) && !attributes.is("", "pods")) else {
            return Ok(());
        };
        let Some(known) = default_class(lookup).await? else { return Ok(()) };
        let name = meta::name(&known);
        if attributes.operation == Operation::Create || name != meta::name(class) {
            return Err(attributes.forbid(format!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            )));
        }
        Ok(())
    }
}

/// Whoever writes a pod back without its priority does not lose it.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if let (None, Some(value)) = (at(pod, &["spec", field]), at(old, &["spec", field])) {
            set_spec(pod, field, value.clone());
        }
    }
}

/// Gives a new pod the priority of its class.
async fn rank(attributes: &Attributes<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let name = text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        default_class(lookup).await?
    } else {
        let found = lookup.get(&CLASSES, "", &name).await?;
        let absent = || attributes.forbid(format!("no PriorityClass with name {name} was found"));
        Some(found.ok_or_else(absent)?)
    };
    let (priority, preemption) = match &class {
        Some(class) => (value(class), text(class, &["preemptionPolicy"])),
        None => (0, PREEMPTION),
    };
    if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
        set_spec(pod, "priorityClassName", meta::name(class));
    }
    let given = at(pod, &["spec", "priority"]).and_then(Value::as_i64);
    if let Some(given) = given.filter(|given| *given != priority) {
        return Err(attributes.forbid(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        )));
    }
    set_spec(pod, "priority", priority);
    if preemption.is_empty() {
        return Ok(());
    }
    let given = text(pod, &["spec", "preemptionPolicy"]);
    if !given.is_empty() && given != preemption {
        return Err(attributes.forbid(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {preemption} from the given PriorityClass name"
        )));
    }
    set_spec(pod, "preemptionPolicy", preemption);
    Ok(())
}

fn value(class: &Value) -> i64 {
    at(class, &["value"]).and_then(Value::as_i64).unwrap_or_default()
}

fn is_default(class: &Value) -> bool {
    at(class, &["globalDefault"]).and_then(Value::as_bool).unwrap_or_default()
}

/// The class of pods that name none; should two have been made at the same moment, the lower one.
async fn default_class(lookup: &dyn Lookup) -> Result<Option<Value>, Status> {
    let classes = lookup.list(&CLASSES, "").await?;
    Ok(classes.into_iter().filter(is_default).min_by_key(value))
}
