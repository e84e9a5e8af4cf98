//! How long kubelets may go without asking anew for what pods are made of: the more nodes there are, the longer. It is
//! written on the nodes, for those that read it.

use crate::plan::{Plan, patch};
use crate::{Controller, World};
use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::sync::Arc;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From and up to how many nodes how many seconds are kept: sizes overlap, so that a node more or less does not change all.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The controller; see the module.
pub struct NodeTtl {
    nodes: Reader<Node>,
}

/// What it looks at.
pub struct View {
    /// The node, unless it is gone.
    pub node: Option<Arc<Node>>,
    /// How many there are.
    pub count: usize,
}

impl Controller for NodeTtl {
    const NAME: &'static str = "ttl-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let nodes = world.reader::<Node>();
        let add = queue.clone();
        nodes.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        Self { nodes }
    }

    fn view(&self, key: &ObjectKey) -> View {
        View { node: self.nodes.get(key), count: self.nodes.informer().store().len() }
    }

    fn plan(_: &ObjectKey, view: &View, (): &(), _: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(node) = view.node.as_deref() else { return plan };
        let current = node.annotations().get(ANNOTATION).and_then(|text| text.parse().ok());
        let wanted = seconds(current, view.count);
        if current != Some(wanted) {
            plan.then(patch(
                node,
                json!({ "metadata": { "annotations": { ANNOTATION: wanted.to_string() } } }),
            ));
        }
        plan
    }
}

/// What so many nodes keep, which kept `current` before.
fn seconds(current: Option<u32>, nodes: usize) -> u32 {
    let fits = |(from, to, _): &&(usize, usize, u32)| (*from..=*to).contains(&nodes);
    let same = STEPS.iter().filter(fits).find(|step| Some(step.2) == current);
    same.or_else(|| STEPS.iter().find(fits)).map_or(0, |step| step.2)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn more_nodes_keep_longer() {
        for (current, nodes, expected) in [
            (None, 1, 0),
            (Some(0), 100, 0),
            (Some(0), 101, 15),
            (Some(15), 95, 15),
            (Some(15), 89, 0),
            (Some(7), 95, 0),
            (None, 50_000, 300),
        ] {
            assert_eq!(seconds(current, nodes), expected, "{current:?} {nodes}");
        }
    }
}
