//! Images in the API of the pods that the node's own files ask for, for people and controllers to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Node, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::OwnerReference;
use client::{Api, DeleteParams, Error, ObjectKey, ObjectMeta, PostParams, Preconditions, write};

use crate::context::Context;
use crate::static_pods::{MIRROR, mirrored};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the images right, for ever.
pub(crate) async fn run(cx: Arc<Context>) {
    let mut changed = cx.pods_changed.subscribe();
    loop {
        let failed = match keep(&cx).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "the images of static pods could not be brought up to date");
                true
            }
        };
        tokio::select! {
            Ok(()) = changed.changed(), if !failed => {}
            () = cx.ambient.clock.sleep(RETRY) => {}
        }
    }
}

async fn keep(cx: &Context) -> Result<(), Error> {
    let wanted: BTreeMap<ObjectKey, Arc<Pod>> =
        cx.statics.list().into_iter().map(|pod| (ObjectKey::of(&*pod), pod)).collect();
    for known in cx.pods.list() {
        let Some(hash) = mirrored(&known) else { continue };
        let key = ObjectKey::of(&*known);
        let current = wanted.get(&key).is_some_and(|pod| pod.metadata.uid.as_deref() == Some(hash));
        // One that somebody deletes comes back: it is the file that decides.
        if !current || known.metadata.deletion_timestamp.is_some() {
            remove(cx, &key, &known).await?;
        }
    }
    for (key, pod) in &wanted {
        if cx.pods.get(key).is_none() {
            create(cx, key, pod).await?;
        }
    }
    Ok(())
}

async fn remove(cx: &Context, key: &ObjectKey, known: &Pod) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    let preconditions = Preconditions { uid: known.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match pods.delete(&key.name, &params).await {
        Err(error) if !write::is_not_found(&error) && !write::is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

async fn create(cx: &Context, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(cx.client.clone());
    // Until the node is registered there is nothing that the image could belong to.
    let Some(node) = nodes.get_opt(&cx.node_name).await? else { return Ok(()) };
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: cx.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(MIRROR.to_owned(), pod.metadata.uid.clone().unwrap_or_default());
    let metadata = ObjectMeta {
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        labels: pod.metadata.labels.clone(),
        annotations: Some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let image = Pod { metadata, spec: pod.spec.clone(), status: None };
    let pods: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    match pods.create(&PostParams::default(), &image).await {
        // Somebody else's of that name is theirs; one of ours is seen soon.
        Err(error) if !write::is_already_exists(&error) => Err(error),
        _ => Ok(()),
    }
}
