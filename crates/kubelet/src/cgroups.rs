//! The control groups above those of pods, arranged as upstream does: one for all pods with what the node lets them have,
//! and in it one for each class of service that is not guaranteed. Guaranteed pods are directly in the first.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::Pod;
use runtime::Resources;

use crate::context::Context;
use crate::resources::{self, Qos};

/// How often the groups are put right though no pod has come or gone, as upstream.
const AGAIN: Duration = Duration::from_secs(60);

/// The group of a pod, below `root`.
pub(crate) fn of_pod(root: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    format!("{}/pod{uid}", of_class(root, Qos::of(pod)))
}

fn of_class(root: &str, class: Qos) -> String {
    match class {
        Qos::Guaranteed => root.to_owned(),
        Qos::Burstable => format!("{root}/burstable"),
        Qos::BestEffort => format!("{root}/besteffort"),
    }
}

/// What each group is to have: all pods what the node does not keep for itself, the best-effort ones next to nothing while
/// others want it, and the burstable ones what they ask for.
fn wanted(cx: &Context, pods: &[Arc<Pod>]) -> Vec<(String, Resources)> {
    let of_pods = |name: &str| cx.of_pods.get(name).copied().unwrap_or_default();
    let all = Resources {
        cpu_shares: Some(resources::shares(of_pods("cpu").milli_value())),
        memory_limit: Some(of_pods("memory").value()).filter(|memory| *memory > 0),
        ..Resources::default()
    };
    let burstable = pods.iter().filter(|pod| Qos::of(pod) == Qos::Burstable && !has_ended(pod));
    let asked = burstable.map(|pod| resources::pod_request(pod, "cpu")).fold(0_i64, i64::saturating_add);
    let weighed = |milli| Resources { cpu_shares: Some(resources::shares(milli)), ..Resources::default() };
    vec![
        (cx.cgroup.clone(), all),
        (of_class(&cx.cgroup, Qos::BestEffort), weighed(0)),
        (of_class(&cx.cgroup, Qos::Burstable), weighed(asked)),
    ]
}

/// Whether nothing of a pod is to run any more.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Keeps the groups right, for ever.
pub(crate) async fn run(cx: Arc<Context>) {
    let mut changed = cx.pods_changed.subscribe();
    let mut known = Vec::new();
    loop {
        let wanted = wanted(&cx, &cx.all_pods());
        if wanted != known {
            let (groups, now) = (cx.groups.clone(), wanted.clone());
            let set = move || now.iter().try_for_each(|(group, resources)| groups.set(group, resources));
            match tokio::task::spawn_blocking(set).await {
                Ok(Ok(())) => known = wanted,
                Ok(Err(error)) => tracing::warn!(%error, "the control groups above pods could not be set"),
                Err(error) => tracing::error!(%error, "the control groups above pods could not be set"),
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = cx.ambient.clock.sleep(AGAIN) => known.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_lies_in_the_group_of_its_class() {
        let check = |resources: serde_json::Value, expected: &str| {
            let pod = json!({"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "a", "resources": resources}]}});
            assert_eq!(of_pod("p/kubepods", &serde_json::from_value(pod).unwrap()), expected);
        };
        check(json!({}), "p/kubepods/besteffort/podu");
        check(json!({"requests": {"cpu": "1"}}), "p/kubepods/burstable/podu");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "p/kubepods/podu");
    }
}
