//! Volumes: what each comes to, and putting that on the disk. A file a kind; each is a [`Volume`].
//!
//! Volumes are made with the pod's sandbox. What is made from the API is brought up to date while the pod runs, each
//! volume all at once ([`files`]); what holds secrets is kept in memory ([`memory`]).

pub(crate) mod claim;
mod config_map;
mod downward;
mod empty_dir;
mod files;
mod host_path;
mod image;
mod memory;
mod projected;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use api::k8s::api::core::v1::{self as core, KeyToPath, PersistentVolume, Pod};

use super::config::{PODS, Paths};
use crate::environment::{Place, Sources};
use files::File;

const DEFAULT_MODE: i32 = 0o644;

/// A kind of volume, as a pod asks for it.
pub(crate) trait Volume {
    /// What it takes from the API.
    fn needs(&self, _needs: &mut Needs) {}

    /// What it comes to, or why this node cannot give it.
    fn content(&self, material: &Material<'_>) -> Result<Content, String>;

    /// Whether what it is made from may change while the pod runs.
    fn refresh(&self) -> bool {
        false
    }
}

impl<T: Volume + ?Sized> Volume for &T {
    fn needs(&self, needs: &mut Needs) {
        (**self).needs(needs);
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        (**self).content(material)
    }

    fn refresh(&self) -> bool {
        (**self).refresh()
    }
}

/// What volumes are made from.
pub(crate) struct Material<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) sources: &'a Sources,
    pub(crate) tokens: &'a BTreeMap<TokenRequest, String>,
    pub(crate) place: &'a Place,
    /// The volumes that claims are bound to, by the claims' names.
    pub(crate) volumes: &'a BTreeMap<String, PersistentVolume>,
    /// The node's name.
    pub(crate) node: &'a str,
}

/// What a volume comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A directory of the pod's own; in memory with so many bytes at most, or on the disk.
    Empty { memory: bool, limit: Option<i64> },
    /// A path of the machine, and what it has to be.
    Host { path: PathBuf, kind: String },
    /// The volume that a claim is bound to: a path of the machine, and what is there.
    Claimed { path: PathBuf, place: claim::Place },
    /// An image's files, which containers find without the kubelet.
    Image,
    /// Files, on the disk or in memory.
    Files { files: Vec<File>, memory: bool },
}

/// A token that a projected volume asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenRequest {
    pub(crate) audience: String,
    pub(crate) expiration_seconds: i64,
}

/// What has to be fetched before volumes can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) tokens: BTreeSet<TokenRequest>,
    pub(crate) claims: BTreeSet<String>,
}

/// The name of the claim that is made for a volume of a pod.
pub(crate) fn own_claim(pod: &Pod, volume: &core::Volume) -> Option<String> {
    volume.ephemeral.as_ref()?;
    Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name))
}

/// The kind of a pod's volume, or why this node has none such.
pub(crate) fn kind<'a>(pod: &Pod, volume: &'a core::Volume) -> Result<Box<dyn Volume + 'a>, String> {
    // Every kind there is, without `..`: one that upstream adds has to be decided upon.
    let core::Volume {
        name: _,
        config_map,
        downward_api,
        empty_dir,
        host_path,
        projected,
        secret,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        csi,
        ephemeral: _,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        image,
        iscsi,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        quobyte,
        rbd,
        scale_io,
        storageos,
        vsphere_volume,
    } = volume;
    fn of<'a, T: Volume>(kind: &'a Option<T>) -> Option<Box<dyn Volume + 'a>> {
        kind.as_ref().map(|kind| Box::new(kind) as Box<dyn Volume + 'a>)
    }
    let claim = persistent_volume_claim.as_ref().map(claim::Claim::from);
    let claim = claim.or_else(|| own_claim(pod, volume).map(claim::Claim));
    let ours = [
        of(config_map),
        of(downward_api),
        of(empty_dir),
        of(host_path),
        of(image),
        of(projected),
        of(secret),
        claim.map(|claim| Box::new(claim) as Box<dyn Volume>),
    ];
    if let Some(found) = ours.into_iter().flatten().next() {
        return Ok(found);
    }
    let others = [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("csi", csi.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ];
    let found =
        others.into_iter().find(|(_, set)| *set).map_or("a volume without a source", |(name, _)| name);
    Err(format!("{found} is not supported on this node"))
}

fn of_pod(pod: &Pod) -> impl Iterator<Item = &core::Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// Whether any of a pod's volumes is made from what may change.
pub(crate) fn refreshes(pod: &Pod) -> bool {
    of_pod(pod).filter_map(|volume| kind(pod, volume).ok()).any(|kind| kind.refresh())
}

/// What a pod's volumes take from the API.
pub(crate) fn needs(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
    for volume in of_pod(pod).filter_map(|volume| kind(pod, volume).ok()) {
        volume.needs(&mut needs);
    }
    needs
}

/// What a pod's volumes come to, by their names: all of them, or those that may have changed.
pub(crate) fn contents(material: &Material<'_>, all: bool) -> Result<Vec<(String, Content)>, String> {
    let mut contents = Vec::new();
    for volume in of_pod(material.pod) {
        let content = kind(material.pod, volume).and_then(|kind| match all || kind.refresh() {
            true => kind.content(material).map(Some),
            false => Ok(None),
        });
        let content = content.map_err(|error| failed(&volume.name, &error))?;
        contents.extend(content.map(|content| (volume.name.clone(), content)));
    }
    Ok(contents)
}

/// Upstream's words for a volume that cannot be had.
pub(crate) fn failed(volume: &str, error: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}")
}

/// A ConfigMap or a Secret that is named, and which of its keys become files.
struct Keyed<'a> {
    kind: &'static str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
}

impl Keyed<'_> {
    /// The files of what it holds, if it is there: those that `items` name, or all.
    fn files<'d>(
        &self,
        data: Option<impl Iterator<Item = (&'d str, &'d [u8])>>,
    ) -> Result<Vec<File>, String> {
        let optional = self.optional == Some(true);
        let Some(data) = data.map(Iterator::collect::<Vec<_>>) else {
            let missing = format!("{} \"{}\" not found", self.kind, self.name);
            return if optional { Ok(Vec::new()) } else { Err(missing) };
        };
        let file =
            |path: &str, bytes: &[u8], mode| Ok(File { path: inside(path)?, bytes: bytes.to_vec(), mode });
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            return data.into_iter().map(|(key, bytes)| file(key, bytes, self.mode)).collect();
        };
        let mut files = Vec::new();
        for item in items {
            match data.iter().find(|(key, _)| *key == item.key) {
                Some((_, bytes)) => {
                    files.push(file(&item.path, bytes, item.mode.map_or(self.mode, |mode| mode as u32))?)
                }
                None if optional => {}
                None => return Err(format!("references non-existent config key: {}", item.key)),
            }
        }
        Ok(files)
    }
}

fn default_mode(mode: Option<i32>) -> u32 {
    mode.unwrap_or(DEFAULT_MODE) as u32
}

fn inside(path: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(path).components();
    // Names that begin with two dots are those of the volume itself.
    if path.is_empty() || path.starts_with("..") || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("path {path:?} must be relative and stay within the volume"));
    }
    Ok(PathBuf::from(path))
}

/// Puts a volume of a pod on the disk; what is there already is kept, or brought up to date. Blocks.
pub(crate) fn make(
    content: &Content,
    paths: &Paths,
    uid: &str,
    name: &str,
    group: Option<u32>,
) -> std::io::Result<()> {
    let directory = paths.volume(uid, name);
    match content {
        Content::Host { path, kind } => host_path::make(path, kind),
        Content::Claimed { path, place } => claim::make(path, place, &directory, group),
        Content::Image => Ok(()),
        Content::Empty { memory, limit } => {
            let limit = memory.then_some(*limit);
            empty_dir::make(&directory, &paths.volume_marker(uid, name), limit, group)
        }
        Content::Files { files, memory } => {
            std::fs::create_dir_all(&directory)?;
            if *memory && !memory::is_mounted(&directory)? {
                memory::mount(&directory, None)?;
            }
            files::write(&directory, files, group)
        }
    }
}

/// Where a part of a volume really is, made as a directory if there is nothing. Links within the volume are followed;
/// one that leads out of it is an error. Blocks.
pub(crate) fn settle(root: &Path, part: &Path) -> std::io::Result<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
    use std::os::fd::{AsRawFd, OwnedFd};
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let (path_only, none) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let real = |found: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let volume = open(root, path_only, none)?;
    match openat2(&volume, part, path_only, none, inside) {
        Ok(found) => return real(&found),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut directory = volume;
    for name in part.components().filter(|name| matches!(name, Component::Normal(_))) {
        match mkdirat(&directory, name.as_os_str(), Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = path_only | OFlags::DIRECTORY;
        directory = openat2(&directory, name.as_os_str(), flags, none, inside | ResolveFlags::NO_SYMLINKS)?;
    }
    real(&directory)
}

/// Where a volume of a pod is.
pub(crate) fn directory(pod: &Pod, paths: &Paths, name: &str) -> Option<PathBuf> {
    let volume = of_pod(pod).find(|volume| volume.name == name)?;
    let host = volume.host_path.as_ref().map(|host| PathBuf::from(&host.path));
    Some(host.unwrap_or_else(|| paths.volume(pod.metadata.uid.as_deref().unwrap_or_default(), name)))
}

/// Removes the volumes of a pod that has ended, those in memory too. Blocks.
pub(crate) fn release(paths: &Paths, uid: &str) -> std::io::Result<()> {
    let pod = paths.pod(uid);
    unmount_of(&pod)?;
    // The marks go last: a volume without one is made anew.
    ["volumes", "made"]
        .iter()
        .map(|part| pod.join(part))
        .filter(|part| part.exists())
        .try_for_each(|part| images::remove_tree(&part))
}

/// Removes what pods have left, volumes and logs, for each pod UID that `is_gone`. Blocks.
pub(crate) fn sweep(paths: &Paths, is_gone: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let entries = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    for directory in entries(&paths.pods).into_iter().chain(entries(&paths.logs)) {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A log directory is called NAMESPACE_NAME_UID.
        let uid = name.rsplit('_').next().unwrap_or_default();
        if is_gone(uid) {
            remove(&directory)?;
        }
    }
    Ok(())
}

/// Gives back the memory of all volumes of a node that runs no more: mounts outlive it. What is on the disk stays.
///
/// # Errors
/// When a directory cannot be read or a mount not be taken away.
pub fn unmount_volumes(data_dir: &Path) -> std::io::Result<()> {
    for pod in std::fs::read_dir(data_dir.join(PODS)).into_iter().flatten() {
        unmount_of(&pod?.path())?;
    }
    Ok(())
}

fn unmount_of(pod: &Path) -> std::io::Result<()> {
    for volume in std::fs::read_dir(pod.join("volumes")).into_iter().flatten() {
        memory::unmount(&volume?.path())?;
    }
    Ok(())
}

/// Removes what a pod has left, unmounting what is in memory. Blocks.
fn remove(directory: &Path) -> std::io::Result<()> {
    unmount_of(directory)?;
    images::remove_tree(directory)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolve(volume: serde_json::Value) -> Result<Content, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}], "volumes": [volume]},
        }))
        .unwrap();
        let sources = Sources {
            config_maps: [(
                "c".to_owned(),
                serde_json::from_value(json!({"data": {"k": "v", "l": "w"}})).unwrap(),
            )]
            .into(),
            secrets: [("s".to_owned(), serde_json::from_value(json!({"data": {"k": "eA=="}})).unwrap())]
                .into(),
            ..Sources::default()
        };
        let place = Place { host_ips: vec![], pod_ips: vec![], allocatable: Default::default() };
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        let (tokens, volumes) = (Default::default(), Default::default());
        let material = Material {
            pod: &pod,
            sources: &sources,
            tokens: &tokens,
            place: &place,
            volumes: &volumes,
            node: "n",
        };
        kind(&pod, volume)?.content(&material)
    }

    fn files(volume: serde_json::Value) -> Vec<(String, String, u32)> {
        let Content::Files { files, .. } = resolve(volume).unwrap() else { panic!("no files") };
        let text =
            |file: File| (file.path.display().to_string(), String::from_utf8(file.bytes).unwrap(), file.mode);
        files.into_iter().map(text).collect()
    }

    fn file(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn generated_volumes() {
        assert_eq!(
            files(json!({"name": "v", "configMap": {"name": "c"}})),
            [file("k", "v", 0o644), file("l", "w", 0o644)]
        );
        assert_eq!(
            files(
                json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400, "items": [{"key": "k", "path": "a/b"}]}})
            ),
            [file("a/b", "x", 0o400)]
        );
        assert_eq!(files(json!({"name": "v", "secret": {"secretName": "none", "optional": true}})), []);
        let projected = json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "c", "items": [{"key": "l", "path": "l", "mode": 0o600}]}},
            {"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
            ]}},
        ]}});
        assert_eq!(
            files(projected),
            [file("l", "w", 0o600), file("labels", "a=\"b\"", 0o644), file("cpu", "2", 0o644)]
        );
    }

    #[test]
    fn what_cannot_be_given_is_said() {
        let check = |volume: serde_json::Value, message: &str| {
            assert_eq!(resolve(volume.clone()).unwrap_err(), message, "{volume}");
        };
        let claim = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        check(claim, "persistentvolumeclaim \"c\" not found");
        check(json!({"name": "v", "ephemeral": {}}), "persistentvolumeclaim \"p-v\" not found");
        check(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}), "nfs is not supported on this node");
        check(json!({"name": "v", "configMap": {"name": "no"}}), "configmap \"no\" not found");
        let key = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "no", "path": "p"}]}});
        check(key, "references non-existent config key: no");
        let out = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../p"}]}});
        check(out, "path \"../p\" must be relative and stay within the volume");
    }

    #[test]
    fn what_is_in_memory_is_mounted_again_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { pods: root.path().join("pods"), logs: root.path().join("logs") };
        let file = File { path: "k".into(), bytes: "secret".into(), mode: 0o400 };
        let secret = Content::Files { files: vec![file], memory: true };
        let empty = Content::Empty { memory: true, limit: Some(1 << 20) };
        let (secrets, scratch) = (paths.volume("u", "s"), paths.volume("u", "e"));
        for round in 0..2 {
            make(&secret, &paths, "u", "s", None).unwrap();
            make(&empty, &paths, "u", "e", None).unwrap();
            assert!(memory::is_mounted(&secrets).unwrap() && memory::is_mounted(&scratch).unwrap());
            assert_eq!(std::fs::read_to_string(secrets.join("k")).unwrap(), "secret");
            use std::os::unix::fs::MetadataExt;
            assert_eq!(std::fs::metadata(&scratch).unwrap().mode() & 0o7777, 0o777, "{round}");
            // As after the machine has been off.
            memory::unmount(&scratch).unwrap();
            memory::unmount(&secrets).unwrap();
            assert!(!secrets.join("k").exists(), "nothing of it is on the disk");
        }
        make(&secret, &paths, "u", "s", None).unwrap();
        unmount_volumes(root.path()).unwrap();
        assert!(!memory::is_mounted(&secrets).unwrap());
        make(&secret, &paths, "u", "s", None).unwrap();
        sweep(&paths, |uid| uid == "u").unwrap();
        assert!(!paths.pod("u").exists());
    }

    #[test]
    fn what_is_left_of_a_pod_goes_by_its_uid() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { pods: root.path().join("pods"), logs: root.path().join("logs") };
        for uid in ["u", "w"] {
            std::fs::create_dir_all(paths.volume(uid, "v")).unwrap();
            std::fs::create_dir_all(paths.log("n", "p", uid).join("a")).unwrap();
        }
        sweep(&paths, |uid| uid == "u").unwrap();
        assert!(!paths.pod("u").exists() && !paths.log("n", "p", "u").exists());
        assert!(paths.pod("w").exists() && paths.log("n", "p", "w").exists());
    }

    #[test]
    fn a_part_of_a_volume_never_lies_outside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("volume");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("within")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("up")).unwrap();
        assert_eq!(settle(&root, Path::new("within")).unwrap(), root.join("real"));
        assert_eq!(settle(&root, Path::new("new/deep")).unwrap(), root.join("new/deep"));
        assert!(root.join("new/deep").is_dir());
        for part in ["out", "out/passwd", "up", "up/made", "out/made"] {
            assert!(settle(&root, Path::new(part)).is_err(), "{part}");
        }
        assert!(!directory.path().parent().unwrap().join("made").exists());
    }
}
