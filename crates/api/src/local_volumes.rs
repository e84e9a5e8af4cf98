//! Volumes on the disks of nodes, as those who make them and those who keep them must understand each other.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;

/// Who provisions them, as a StorageClass names it.
pub const PROVISIONER: &str = "monoplane.dev/local";
/// The annotation by which a node says where it keeps volumes.
pub const DIRECTORY: &str = "monoplane.dev/local-volumes";
/// The annotation by which a volume says on which node it is.
pub const NODE: &str = "monoplane.dev/node";
/// The finalizer by which a node holds a volume of which it keeps data.
pub const DATA: &str = "monoplane.dev/local-data";

/// Who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The node that keeps a volume, if it is such a one.
pub fn node(volume: &PersistentVolume) -> Option<&str> {
    let annotation = |name| volume.annotations().get(name).map(String::as_str);
    annotation(PROVISIONED_BY).filter(|provisioner| *provisioner == PROVISIONER)?;
    annotation(NODE)
}
