//! The volumes that this node keeps on its disk, one directory each. A node holds a volume from before it has data of it; when
//! the volume is to be deleted and nothing is bound to it any more, the data go, then the node lets go, and the empty directory
//! goes last: whatever is held can be told from what is on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::PersistentVolume;
use api::local_volumes::{DATA, node};
use client::kube::core::ObjectMeta;
use client::{Api, Patch, PatchParams, ResourceExt};
use serde_json::json;

use crate::context::Context;

/// What is deleted goes from the disk within this time.
const LOOK: Duration = Duration::from_secs(5);
/// Holds a volume that is bound.
const IN_USE: &str = "kubernetes.io/pv-protection";

/// Removes what is to go, until the node ends.
pub(crate) async fn run(cx: Arc<Context>) {
    loop {
        for name in names(&cx.local_volumes) {
            if let Err(error) = look(&cx, &name).await {
                tracing::debug!(volume = name, error, "a volume's data are kept for now");
            }
        }
        cx.ambient.clock.sleep(LOOK).await;
    }
}

/// The volumes that there are data of. What a making that broke has left begins with a dot.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.')).collect()
}

async fn look(cx: &Context, name: &str) -> Result<(), String> {
    let volumes: Api<PersistentVolume> = Api::all(cx.client.clone());
    let message = |error| client::message(&error);
    let path: PathBuf = cx.local_volumes.join(name);
    let Some(volume) = volumes.get_opt(name).await.map_err(message)? else {
        // One that nobody knows may have been let go of by hand: what data there are, are kept.
        let _ = std::fs::remove_dir(&path);
        return Ok(());
    };
    if !is_to_go(&volume, &cx.node_name) {
        return Ok(());
    }
    let emptied = path.clone();
    let emptied = tokio::task::spawn_blocking(move || empty(&emptied)).await;
    emptied.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let left = volume.finalizers().iter().filter(|held| *held != DATA);
    hold(&volumes, &volume.metadata, left.cloned().collect()).await?;
    tracing::info!(volume = name, "the data of a deleted volume are gone");
    std::fs::remove_dir(&path).map_err(|error| error.to_string())
}

/// Removes what is in a directory. Blocks.
fn empty(directory: &Path) -> std::io::Result<()> {
    std::fs::read_dir(directory)?.try_for_each(|entry| images::remove_tree(&entry?.path()))
}

/// Whether the volume is deleted with its data, and nobody needs them.
fn is_to_go(volume: &PersistentVolume, own: &str) -> bool {
    let has = |finalizer: &str| volume.finalizers().iter().any(|held| held == finalizer);
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    node(volume) == Some(own)
        && volume.metadata.deletion_timestamp.is_some()
        && policy == Some("Delete")
        && has(DATA)
        && !has(IN_USE)
}

/// Holds a volume of this node's before there are data of it.
pub(crate) async fn take(cx: &Context, volume: PersistentVolume) -> Result<PersistentVolume, String> {
    if node(&volume) != Some(cx.node_name.as_str()) || volume.finalizers().iter().any(|held| held == DATA) {
        return Ok(volume);
    }
    let volumes: Api<PersistentVolume> = Api::all(cx.client.clone());
    let mut finalizers = volume.finalizers().to_vec();
    finalizers.push(DATA.to_owned());
    hold(&volumes, &volume.metadata, finalizers).await
}

async fn hold(
    volumes: &Api<PersistentVolume>,
    of: &ObjectMeta,
    finalizers: Vec<String>,
) -> Result<PersistentVolume, String> {
    let metadata = json!({ "uid": of.uid, "resourceVersion": of.resource_version, "finalizers": finalizers });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let name = of.name.as_deref().unwrap_or_default();
    volumes.patch(name, &PatchParams::default(), &patch).await.map_err(|error| client::message(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;

    #[test]
    fn data_go_only_with_a_volume_that_is_deleted_and_free() {
        let to_go = |own: &str, more: Value| {
            let mut volume = json!({
                "metadata": {
                    "name": "v", "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": [DATA],
                    "annotations": {
                        "pv.kubernetes.io/provisioned-by": api::local_volumes::PROVISIONER, api::local_volumes::NODE: "n",
                    },
                },
                "spec": { "persistentVolumeReclaimPolicy": "Delete" },
            });
            testkit::merge(&mut volume, &more);
            is_to_go(&from_value(volume).unwrap(), own)
        };
        assert!(to_go("n", json!({})));
        assert!(!to_go("m", json!({})));
        assert!(!to_go("n", json!({ "metadata": { "deletionTimestamp": null } })));
        assert!(!to_go("n", json!({ "metadata": { "finalizers": [DATA, IN_USE] } })));
        assert!(!to_go("n", json!({ "spec": { "persistentVolumeReclaimPolicy": "Retain" } })));
        assert!(!to_go(
            "n",
            json!({ "metadata": { "annotations": { "pv.kubernetes.io/provisioned-by": "other" } } })
        ));
    }
}
