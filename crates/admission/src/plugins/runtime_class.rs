//! A pod that names a RuntimeClass gets its overhead, and runs where the class can.

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, entries, items, set_spec, spec_list, spec_map, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const RUNTIME_CLASSES: GroupResource = GroupResource::of("node.k8s.io", "runtimeclasses");

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        pod: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let name = text(pod, &["spec", "runtimeClassName"]).to_owned();
        if name.is_empty() {
            return self.refuse_overhead(attributes, pod, None);
        }
        let Some(class) = lookup.get(&RUNTIME_CLASSES, "", &name).await? else {
            return Err(attributes.forbid(format!("pod rejected: RuntimeClass {name:?} not found")));
        };
        let overhead = at(&class, &["overhead", "podFixed"]);
        if at(pod, &["spec", "overhead"]).is_none() {
            if let Some(overhead) = overhead {
                set_spec(pod, "overhead", overhead.clone());
            }
        } else {
            self.refuse_overhead(attributes, pod, overhead)?;
        }
        merge_selector(attributes, pod, &class)?;
        let tolerations = items(&class, &["scheduling", "tolerations"]);
        if !tolerations.is_empty()
            && let Some(own) = spec_list(pod, "tolerations")
        {
            for toleration in tolerations {
                if !own.contains(toleration) {
                    own.push(toleration.clone());
                }
            }
        }
        Ok(())
    }
}

impl RuntimeClass {
    /// Overhead is the class's to say.
    fn refuse_overhead(
        &self,
        attributes: &Attributes<'_>,
        pod: &Value,
        overhead: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(given) = at(pod, &["spec", "overhead"]) else { return Ok(()) };
        if Some(given) == overhead {
            return Ok(());
        }
        let why = match overhead {
            Some(_) => "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            None => "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        };
        Err(attributes.forbid(why))
    }
}

fn merge_selector(attributes: &Attributes<'_>, pod: &mut Value, class: &Value) -> Result<(), Status> {
    let mut wanted = entries(class, &["scheduling", "nodeSelector"]).peekable();
    if wanted.peek().is_none() {
        return Ok(());
    }
    let Some(own) = spec_map(pod, "nodeSelector") else { return Ok(()) };
    for (key, value) in wanted {
        match own.get(key) {
            Some(known) if known != value => {
                let show = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(attributes.forbid(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    show(value),
                    show(known)
                )));
            }
            _ => {
                own.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(())
}
