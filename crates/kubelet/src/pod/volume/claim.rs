//! A claim: the volume that it is bound to, a directory of the machine. The pod's own place for it leads there.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use api::k8s::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod,
};
use api::local_volumes;
use client::ResourceExt;

use super::{Content, Material, Needs, Volume, host_path};

/// A claim of the pod's namespace, by its name.
pub(super) struct Claim(pub(super) String);

impl Volume for Claim {
    fn needs(&self, needs: &mut Needs) {
        needs.claims.insert(self.0.clone());
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let volume = material.volumes.get(&self.0);
        let missing = || format!("persistentvolumeclaim {:?} not found", self.0);
        content(volume.ok_or_else(missing)?, material.node)
    }
}

impl From<&PersistentVolumeClaimVolumeSource> for Claim {
    fn from(source: &PersistentVolumeClaimVolumeSource) -> Self {
        Self(source.claim_name.clone())
    }
}

fn content(volume: &PersistentVolume, node: &str) -> Result<Content, String> {
    let name = volume.name_any();
    let none = || format!("PersistentVolume {name:?} has no spec");
    let spec = volume.spec.as_ref().ok_or_else(none)?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(format!("volumeMode Block of PersistentVolume {name:?} is not supported on this node"));
    }
    if let Some(local) = &spec.local {
        let kept = local_volumes::node(volume);
        if let Some(other) = kept.filter(|kept| *kept != node) {
            return Err(format!("PersistentVolume {name:?} is on node {other:?}"));
        }
        let kind = if kept.is_some() { Place::Kept } else { Place::Path("Directory".to_owned()) };
        return Ok(Content::Claimed { path: PathBuf::from(&local.path), place: kind });
    }
    if let Some(host) = &spec.host_path {
        let place = Place::Path(host.type_.clone().unwrap_or_default());
        return Ok(Content::Claimed { path: PathBuf::from(&host.path), place });
    }
    Err(format!("the kind of PersistentVolume {name:?} is not supported on this node"))
}

/// What is at a volume's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory that this node keeps, and makes.
    Kept,
    /// A path of the machine, and what it has to be.
    Path(String),
}

/// Has `link` lead to a volume, which is made if this node keeps it.
pub(super) fn make(path: &Path, place: &Place, link: &Path, group: Option<u32>) -> std::io::Result<()> {
    match place {
        Place::Kept => keep(path, group)?,
        Place::Path(kind) => host_path::make(path, kind)?,
    }
    if std::fs::read_link(link).is_ok_and(|found| found == path) {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(path, link),
    }
}

/// Makes a directory that whoever a container runs as may write, all at once.
fn keep(path: &Path, group: Option<u32>) -> std::io::Result<()> {
    if !path.exists() {
        let name =
            path.file_name().ok_or_else(|| std::io::Error::other("a volume's path ends in no name"))?;
        let begun = path.with_file_name(format!(".{}", name.to_string_lossy()));
        std::fs::create_dir_all(&begun)?;
        let mut mode = 0o777;
        if let Some(group) = group {
            chown(&begun, None, Some(group))?;
            mode |= 0o2000;
        }
        std::fs::set_permissions(&begun, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&begun, path)?;
    }
    Ok(())
}

/// The volume that a claim is bound to, or why a pod cannot have it yet, in upstream's words.
pub(crate) fn bound<'a>(
    claim: &'a PersistentVolumeClaim,
    pod: &Pod,
    is_own: bool,
) -> Result<&'a str, String> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_owned = owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
    if is_own && !is_owned {
        let pod = pod.name_any();
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if phase != "Bound" || volume.is_empty() {
        return Err(format!(
            "PVC {namespace}/{name} has non-bound phase ({phase:?}) or empty pvc.Spec.VolumeName ({volume:?})"
        ));
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_volume_that_is_kept_here_is_made_and_led_to() {
        let root = tempfile::tempdir().unwrap();
        let (path, link) = (root.path().join("pvc-1"), root.path().join("pod/volumes/data"));
        make(&path, &Place::Kept, &link, None).unwrap();
        std::fs::write(link.join("file"), "kept").unwrap();
        make(&path, &Place::Kept, &link, None).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "kept");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o777);
        images::remove_tree(&root.path().join("pod")).unwrap();
        assert!(path.join("file").exists(), "what is led to stays");
        let missing = root.path().join("nowhere");
        assert!(make(&missing, &Place::Path("Directory".into()), &link, None).is_err());
    }

    #[test]
    fn what_this_node_cannot_give_is_said() {
        let volume = |spec: serde_json::Value| -> PersistentVolume {
            let annotations = json!({ "pv.kubernetes.io/provisioned-by": local_volumes::PROVISIONER, local_volumes::NODE: "n" });
            from_value(json!({ "metadata": { "name": "v", "annotations": annotations }, "spec": spec }))
                .unwrap()
        };
        let local = || volume(json!({ "local": { "path": "/data/v" } }));
        assert_eq!(
            content(&local(), "n"),
            Ok(Content::Claimed { path: "/data/v".into(), place: Place::Kept })
        );
        assert_eq!(content(&local(), "m").unwrap_err(), "PersistentVolume \"v\" is on node \"n\"");
        let block = volume(json!({ "volumeMode": "Block", "local": { "path": "/dev/sdb" } }));
        assert!(content(&block, "n").unwrap_err().starts_with("volumeMode Block"));
        let nfs = volume(json!({ "nfs": { "path": "/", "server": "s" } }));
        assert!(content(&nfs, "n").unwrap_err().starts_with("the kind of PersistentVolume"));
    }
}
