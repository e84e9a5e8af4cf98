//! What workload controllers ask about pods.

use crate::plan::controller_of;
use crate::pod::{Phase, Pod};
use client::kube::Resource;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Neither ended nor ending.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Its containers have ended for good.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.phase, Phase::Succeeded | Phase::Failed)
}

pub(crate) fn node(pod: &Pod) -> &str {
    pod.spec.node_name.as_deref().unwrap_or_default()
}

/// Ready, and since when.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    pod.status.ready_since
}

/// When a pod counts as available, if nothing changes: at once when ready and no minimum is asked for, else that many
/// seconds after it became ready. `None` when it is not ready.
pub(crate) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let since = ready_since(pod)?;
    since.checked_add(SignedDuration::from_secs(i64::from(min_ready_seconds.max(0)))).ok()
}

/// A new pod of a template, controlled by `owner`, whose name it has with something random behind.
pub(crate) fn from_template<K: Resource<DynamicType = ()>>(
    owner: &K,
    template: PodTemplateSpec,
) -> core::Pod {
    let given = template.metadata.unwrap_or_default();
    // Room for the random part within what a name may be.
    let mut prefix = format!("{}-", owner.meta().name.as_deref().unwrap_or_default());
    prefix.truncate(248);
    core::Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: owner.meta().namespace.clone(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller_of(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
