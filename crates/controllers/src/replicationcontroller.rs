//! ReplicationControllers: ReplicaSets under their first name.

use crate::ownership::Selecting;
use crate::replicaset::{Replicas, Replicated};
use client::kube::core::Selector;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerCondition};

/// The controller; what it does is the other's.
pub type ReplicationControllers = Replicas<ReplicationController>;

impl Selecting for ReplicationController {
    fn selector(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.clone()?;
        Some(Selector::from_iter(labels)).filter(|selector| !selector.selects_all())
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        let status = self.status.as_ref()?;
        let condition = |condition: &ReplicationControllerCondition| ReplicaSetCondition {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: condition.last_transition_time.clone(),
        };
        Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.as_ref().map(|all| all.iter().map(condition).collect()),
        })
    }

    fn sayable(status: ReplicaSetStatus) -> ReplicaSetStatus {
        ReplicaSetStatus { terminating_replicas: None, ..status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use crate::pod::Pod;
    use crate::replicaset::{Memory, View, plan};
    use jiff::Timestamp;
    use serde_json::{from_value, json};
    use std::sync::Arc;

    #[test]
    fn it_makes_pods_and_counts_them_in_its_own_words() {
        let controller: ReplicationController = from_value(json!({
            "metadata": { "name": "old", "namespace": "x", "uid": "old", "generation": 1 },
            "spec": { "replicas": 2, "selector": { "app": "old" },
                "template": { "metadata": { "labels": { "app": "old" } } } },
        }))
        .unwrap();
        let owner = json!({ "apiVersion": "v1", "kind": "ReplicationController", "name": "old", "uid": "old",
            "controller": true });
        let pod: Pod = from_value(json!({ "metadata": { "name": "old-a", "namespace": "x", "uid": "a",
            "labels": { "app": "old" }, "ownerReferences": [owner] } }))
        .unwrap();
        let pods = vec![Arc::new(pod)];
        let view = View { set: Some(Arc::new(controller)), pods, orphans: vec![], related: vec![] };
        let plan = plan(&view, &Memory::default(), Timestamp::UNIX_EPOCH);
        let [Action::Patch(status), Action::Create(create)] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!(
            status.body["status"],
            json!({ "replicas": 1, "fullyLabeledReplicas": 1, "observedGeneration": 1 })
        );
        assert_eq!(create.object["metadata"]["generateName"], "old-");
        assert_eq!(create.object["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
    }

    #[test]
    fn one_without_labels_selects_nothing() {
        let empty: ReplicationController = from_value(json!({ "spec": { "selector": {} } })).unwrap();
        assert!(empty.selector().is_none());
    }
}
