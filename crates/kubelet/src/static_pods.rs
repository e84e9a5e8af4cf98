//! Pods that the node's own files ask for. They run whether the API is there or not, and their names and UIDs come from the
//! files: another text is another pod.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use api::k8s::api::core::v1::{Pod, Toleration};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain};
use client::ObjectKey;
use tokio::sync::watch;

use crate::context::Context;
use crate::pod::containers;

/// Where a pod comes from, and which text it was made of: upstream's annotations.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
pub(crate) const HASH: &str = "kubernetes.io/config.hash";
/// On the image of such a pod in the API: the text that the pod was made of.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The longest text that is read.
const MAX_TEXT: u64 = 1 << 20;

/// The pods that files ask for, by UID.
#[derive(Default)]
pub(crate) struct StaticPods {
    all: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// Whether the directory has been read: until then nobody knows whether what runs has a file.
    looked: watch::Sender<bool>,
}

impl StaticPods {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        self.all().get(uid).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        self.all().values().cloned().collect()
    }

    /// Returns once it is known which pods files ask for.
    pub(crate) async fn known(&self) {
        // An error would mean that the sender is gone, and it is borrowed here.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Takes over what was found; gives the pods that are new or gone.
    fn replace(&self, found: BTreeMap<String, Arc<Pod>>) -> Vec<Arc<Pod>> {
        let mut all = self.all();
        let before = std::mem::replace(&mut *all, found);
        let fresh = all.iter().filter(|(uid, _)| !before.contains_key(*uid));
        let gone = before.iter().filter(|(uid, _)| !all.contains_key(*uid));
        fresh.chain(gone).map(|(_, pod)| pod.clone()).collect()
    }
}

/// The UID of the pod that an object of the API is the image of.
pub(crate) fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

/// Follows the directory, for ever.
pub(crate) async fn run(cx: Arc<Context>, directory: PathBuf) {
    let mut known = Files::default();
    loop {
        let (node, place) = (cx.node_name.clone(), directory.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let read = known.look(&place, &node);
            (known, read)
        });
        let read;
        (known, read) = looked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the directory of pods could not be looked at");
            (Files::default(), false)
        });
        for pod in cx.statics.replace(known.pods()) {
            if let Some(uid) = &pod.metadata.uid {
                cx.inbox.add(uid, Some(ObjectKey::of(&*pod)));
            }
            cx.pods_changed.send_modify(|()| {});
        }
        if read {
            cx.statics.looked.send_replace(true);
        }
        cx.ambient.clock.sleep(LOOK).await;
    }
}

/// What is known of one file.
struct File {
    /// When it was changed, and its length: as long as they are the same it is not read again.
    stamp: (Option<SystemTime>, u64),
    pod: Option<Arc<Pod>>,
}

/// What is known of the directory.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, File>);

impl Files {
    fn pods(&self) -> BTreeMap<String, Arc<Pod>> {
        let pods = self.0.values().filter_map(|file| file.pod.clone());
        pods.map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod)).collect()
    }

    /// Whether it could be read; one that is not there holds nothing.
    fn look(&mut self, directory: &Path, node: &str) -> bool {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.0.clear();
                return true;
            }
            Err(error) => {
                // What runs goes on: that it cannot be read does not mean that it is gone.
                tracing::warn!(directory = %directory.display(), %error, "the directory of pods cannot be read");
                return false;
            }
        };
        let mut there = BTreeSet::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if hidden || !metadata.is_file() {
                continue;
            }
            there.insert(path.clone());
            let stamp = (metadata.modified().ok(), metadata.len());
            if self.0.get(&path).is_some_and(|file| file.stamp == stamp) {
                continue;
            }
            let before = self.0.get(&path).and_then(|file| file.pod.clone());
            let pod = match read(&path).and_then(|text| pod(&text, &path, node)) {
                Ok(pod) => Some(Arc::new(pod)),
                Err(why) => {
                    // Half written, or wrong: the pod that the file asked for until now goes on.
                    tracing::warn!(file = %path.display(), why, "this is no pod");
                    before
                }
            };
            self.0.insert(path, File { stamp, pod });
        }
        self.0.retain(|path, _| there.contains(path));
        true
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut text));
    opened.map_err(|error| error.to_string())?;
    match text.len() as u64 > MAX_TEXT {
        true => Err(format!("longer than {MAX_TEXT} bytes")),
        false => Ok(text),
    }
}

/// The pod that a file asks for, as it runs on this node.
fn pod(text: &[u8], path: &Path, node: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_yaml_ng::from_slice(text).map_err(|error| error.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("apiVersion and kind are not those of a v1 Pod".to_owned());
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let uid = fingerprint(&[node.as_bytes(), path.as_os_str().as_encoded_bytes(), text]);
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or("metadata.name is missing")?;
    let name = format!("{name}-{}", node.to_lowercase());
    let namespace = pod.metadata.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    check("metadata.name", dns1123_subdomain(&name))?;
    check("metadata.namespace", dns1123_label(&namespace))?;
    // Names become parts of paths here, and no API has checked them.
    for container in containers::all(&pod) {
        check("the name of a container", dns1123_label(container.name()))?;
        if container.spec.image.as_deref().unwrap_or_default().is_empty() {
            return Err(format!("container {} has no image", container.name()));
        }
    }
    let spec = pod.spec.as_mut().ok_or("spec is missing")?;
    if spec.containers.is_empty() {
        return Err("spec.containers is empty".to_owned());
    }
    for volume in spec.volumes.iter().flatten() {
        check("the name of a volume", dns1123_label(&volume.name))?;
    }
    spec.node_name = Some(node.to_owned());
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.remove(MIRROR);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(HASH.to_owned(), uid.clone());
    pod.metadata.uid = Some(uid);
    pod.metadata.name = Some(name);
    pod.metadata.namespace = Some(namespace);
    pod.metadata.resource_version = None;
    pod.metadata.deletion_timestamp = None;
    pod.status = None;
    Ok(pod)
}

fn check(what: &str, faults: Vec<String>) -> Result<(), String> {
    match faults.into_iter().next() {
        Some(fault) => Err(format!("{what}: {fault}")),
        None => Ok(()),
    }
}

/// 128 bits in hexadecimal (FNV-1a): nothing depends on it being hard to forge, since whoever may write the files may
/// have any pod.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for part in parts {
        // A byte that is in no name keeps the parts apart.
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: i}]}\n";

    #[test]
    fn a_file_is_a_pod_until_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        let mut look = || {
            files.look(directory.path(), "Node");
            files.pods().into_values().collect::<Vec<_>>()
        };
        assert!(look().is_empty());
        let path = directory.path().join("web.yaml");
        std::fs::write(directory.path().join(".hidden"), TEXT).unwrap();
        std::fs::write(&path, TEXT).unwrap();
        let first = look().remove(0);
        let meta = &first.metadata;
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("web-node"), Some("default")));
        assert_eq!(meta.annotations.as_ref().unwrap()[HASH], meta.uid.clone().unwrap());
        assert_eq!(look()[0].metadata.uid, meta.uid);
        // Half of a file does not end a pod.
        std::fs::write(&path, &TEXT[..40]).unwrap();
        assert_eq!(look()[0].metadata.uid, meta.uid);
        std::fs::write(&path, TEXT.replace("image: i", "image: other")).unwrap();
        assert_ne!(look()[0].metadata.uid, meta.uid);
        std::fs::remove_file(&path).unwrap();
        assert!(look().is_empty());
        assert!(Files::default().pods().is_empty());
    }

    #[test]
    fn what_is_no_pod_is_said() {
        for (text, why) in [
            ("kind: Service\napiVersion: v1", "not those of a v1 Pod"),
            ("a: [", ""),
            (
                "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: i}]}",
                "metadata.name is missing",
            ),
            (&TEXT.replace("name: a", "name: ../a"), "the name of a container"),
            (&TEXT.replace("name: web", "name: ../web"), "metadata.name"),
            (&TEXT.replace(", image: i", ""), "has no image"),
            (&TEXT.replace("spec:", "other:"), "spec is missing"),
        ] {
            let error = pod(text.as_bytes(), Path::new("f"), "n").unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
