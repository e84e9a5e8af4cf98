//! The maintenance of nodes.

use client::Error;
use client::kube::ResourceExt;
use client::kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::User;

async fn set_schedulable(user: &User, name: &str, schedulable: bool) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(user.client.clone());
    let patch = json!({ "spec": { "unschedulable": !schedulable } });
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

async fn names(user: &User) -> Result<Vec<String>, Error> {
    let nodes: Api<Node> = Api::all(user.client.clone());
    Ok(nodes.list(&ListParams::default()).await?.items.iter().map(ResourceExt::name_any).collect())
}

/// One node is closed, maybe emptied too, or opened again.
pub fn maintain(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let nodes = names(user).await?;
        if nodes.is_empty() {
            return Ok(());
        }
        let node = user.chance.pick(&nodes);
        match user.chance.below(4) {
            0 => set_schedulable(user, node, false).await,
            1 => drain(user, node).await,
            _ => set_schedulable(user, node, true).await,
        }
    }
    .boxed()
}

async fn drain(user: &User, node: &str) -> Result<(), Error> {
    set_schedulable(user, node, false).await?;
    evict(user, &ListParams::default().fields(&format!("spec.nodeName={node}"))).await
}

/// Refusals are for the budgets to make, and the user lets them be.
pub async fn evict(user: &User, those: &ListParams) -> Result<(), Error> {
    let pods: Api<Pod> = Api::all(user.client.clone());
    for pod in pods.list(those).await?.items {
        let pods: Api<Pod> = Api::namespaced(user.client.clone(), &pod.namespace().unwrap_or_default());
        match pods.evict(&pod.name_any(), &EvictParams::default()).await {
            Err(Error::Api(status)) if matches!(status.code, 404 | 429) => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

pub async fn uncordon_all(user: &User) -> Result<(), Error> {
    for name in names(user).await? {
        set_schedulable(user, &name, true).await?;
    }
    Ok(())
}
