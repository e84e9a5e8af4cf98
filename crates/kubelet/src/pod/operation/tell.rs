//! Telling the API how a pod stands.

use std::sync::Arc;

use api::k8s::api::core::v1::{Pod, PodStatus};
use client::{Api, ObjectKey, Patch, PatchParams, write};
use serde_json::{Value, json};

use super::{Outcome, Scope, Told};

/// Brings the API up to date.
pub(super) async fn run(scope: Scope, key: ObjectKey, status: PodStatus) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(scope.cx.client.clone(), &key.namespace);
    let patch = Patch::Merge(patch(&scope.pod, &status));
    let told = match pods.patch_status(&key.name, &PatchParams::default(), &patch).await {
        Ok(pod) => Told::Taken(Arc::new(pod), status),
        Err(error) if write::is_conflict(&error) => {
            let found = pods.get_opt(&key.name).await.ok().flatten();
            Told::Conflict(found.filter(|pod| pod.metadata.uid == scope.pod.metadata.uid).map(Arc::new))
        }
        // The watch will say so, too.
        Err(error) if write::is_not_found(&error) => Told::Gone(status),
        Err(error) => {
            tracing::warn!(pod = %key, %error, "the pod's status could not be written");
            Told::Failed
        }
    };
    Outcome::Told(Box::new(told))
}

/// What others say in a pod's status, and no node may change: which claims on devices were made for it.
const OF_OTHERS: [&str; 2] = ["extendedResourceClaimStatus", "resourceClaimStatuses"];

/// A merge patch that makes the API's status this one: only of this very pod, and only if nobody wrote in between.
fn patch(pod: &Pod, status: &PodStatus) -> Value {
    let mut fields = serde_json::to_value(status).unwrap_or_default();
    if let (Value::Object(fields), Ok(Value::Object(before))) =
        (&mut fields, serde_json::to_value(&pod.status))
    {
        // What is no longer said has to be unsaid.
        for (name, _) in before.into_iter().filter(|(name, _)| !OF_OTHERS.contains(&name.as_str())) {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": fields,
    })
}
