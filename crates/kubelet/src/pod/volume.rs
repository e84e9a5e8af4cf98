//! Volumes: what a pod's words come to ([`content`]), and putting that on the disk ([`make`]).
//!
//! A generated volume is written when a container starts, each file whole or not at all, and not followed further: a
//! running container does not see later changes of a ConfigMap.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use api::k8s::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};
use apimachinery::quantity::Quantity;

use super::config::Paths;
use super::containers;
use crate::environment::{self, Place, Sources};

const DEFAULT_MODE: i32 = 0o644;

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A directory of the pod's own; in memory with so many bytes at most, or on the disk.
    Empty { memory: bool, limit: Option<i64> },
    /// A path of the machine, and what it has to be.
    Host { path: PathBuf, kind: String },
    /// Files.
    Files(Vec<File>),
}

/// A file of a generated volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// A token that a projected volume asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenRequest {
    pub(crate) audience: String,
    pub(crate) expiration_seconds: i64,
}

/// What has to be fetched before a pod's volumes can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) tokens: BTreeSet<TokenRequest>,
}

/// Whether any of a pod's volumes is made from what may change.
pub(crate) fn renews(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    })
}

/// What a pod's volumes take from the API.
pub(crate) fn needs(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        needs.config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
        needs.secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            needs.config_maps.extend(source.config_map.as_ref().map(|source| source.name.clone()));
            needs.secrets.extend(source.secret.as_ref().map(|source| source.name.clone()));
            needs.tokens.extend(source.service_account_token.as_ref().map(token_request));
        }
    }
    needs
}

fn token_request(source: &api::k8s::api::core::v1::ServiceAccountTokenProjection) -> TokenRequest {
    TokenRequest {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(3600),
    }
}

/// What a volume comes to, or why this node cannot give it.
pub(crate) fn content(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    tokens: &std::collections::BTreeMap<TokenRequest, String>,
    place: &Place,
) -> Result<Content, String> {
    let mode = |mode: Option<i32>| mode.unwrap_or(DEFAULT_MODE) as u32;
    let maker = Maker { pod, sources, tokens, place };
    if let Some(source) = &volume.empty_dir {
        let limit = source.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok());
        return match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Content::Empty { memory: false, limit: None }),
            "Memory" => Ok(Content::Empty { memory: true, limit: limit.map(|limit| limit.value()) }),
            medium => Err(format!("emptyDir medium {medium:?} is not supported on this node")),
        };
    }
    if let Some(source) = &volume.host_path {
        let kind = source.type_.clone().unwrap_or_default();
        return Ok(Content::Host { path: PathBuf::from(&source.path), kind });
    }
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        return maker
            .config_map(&source.name, source.items.as_deref(), optional, mode(source.default_mode))
            .map(Content::Files);
    }
    if let Some(source) = &volume.secret {
        let (name, optional) =
            (source.secret_name.as_deref().unwrap_or_default(), source.optional == Some(true));
        return maker
            .secret(name, source.items.as_deref(), optional, mode(source.default_mode))
            .map(Content::Files);
    }
    if let Some(source) = &volume.downward_api {
        return maker.downward(source.items.as_deref(), mode(source.default_mode)).map(Content::Files);
    }
    if let Some(source) = &volume.projected {
        let mut files = Vec::new();
        for part in source.sources.iter().flatten() {
            files.extend(maker.projection(part, mode(source.default_mode))?);
        }
        return Ok(Content::Files(files));
    }
    Err("its kind of volume is not supported on this node".to_owned())
}

struct Maker<'a> {
    pod: &'a Pod,
    sources: &'a Sources,
    tokens: &'a std::collections::BTreeMap<TokenRequest, String>,
    place: &'a Place,
}

impl Maker<'_> {
    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
    ) -> Result<Vec<File>, String> {
        let Some(map) = self.sources.config_maps.get(name) else {
            return if optional { Ok(Vec::new()) } else { Err(format!("configmap \"{name}\" not found")) };
        };
        let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        select(text.chain(binary).collect(), items, optional, mode)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
    ) -> Result<Vec<File>, String> {
        let Some(secret) = self.sources.secrets.get(name) else {
            return if optional { Ok(Vec::new()) } else { Err(format!("secret \"{name}\" not found")) };
        };
        let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        select(data.collect(), items, optional, mode)
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>, mode: u32) -> Result<Vec<File>, String> {
        let mut files = Vec::new();
        for item in items.unwrap_or_default() {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => environment::field_value(self.pod, field, self.place),
                (None, Some(field)) => {
                    let name = field.container_name.as_deref().unwrap_or_default();
                    let Some(container) = containers::find(self.pod, name) else {
                        return Err(format!("container {name:?} not found in pod"));
                    };
                    environment::resource_value(&container.spec, field, self.place)
                }
                (None, None) => continue,
            };
            let mode = item.mode.map_or(mode, |mode| mode as u32);
            let bytes = text.map_err(|error| error.0)?.into_bytes();
            files.push(File { path: inside(&item.path)?, bytes, mode });
        }
        Ok(files)
    }

    fn projection(&self, part: &VolumeProjection, mode: u32) -> Result<Vec<File>, String> {
        if let Some(source) = &part.config_map {
            return self.config_map(
                &source.name,
                source.items.as_deref(),
                source.optional == Some(true),
                mode,
            );
        }
        if let Some(source) = &part.secret {
            return self.secret(&source.name, source.items.as_deref(), source.optional == Some(true), mode);
        }
        if let Some(source) = &part.downward_api {
            return self.downward(source.items.as_deref(), mode);
        }
        if let Some(source) = &part.service_account_token {
            let token = self.tokens.get(&token_request(source));
            let token = token.ok_or("the service account's token could not be had")?;
            let bytes = token.clone().into_bytes();
            return Ok(vec![File { path: inside(&source.path)?, bytes, mode: 0o600 | mode }]);
        }
        Err("one of its projections is not supported on this node".to_owned())
    }
}

/// The files of a keyed source: those that `items` name, or all.
fn select(
    data: Vec<(&str, &[u8])>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
) -> Result<Vec<File>, String> {
    let file = |path: &str, bytes: &[u8], mode| Ok(File { path: inside(path)?, bytes: bytes.to_vec(), mode });
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data.into_iter().map(|(key, bytes)| file(key, bytes, mode)).collect();
    };
    let mut files = Vec::new();
    for item in items {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, bytes)) => {
                files.push(file(&item.path, bytes, item.mode.map_or(mode, |mode| mode as u32))?)
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

fn inside(path: &str) -> Result<PathBuf, String> {
    let parts = Path::new(path).components();
    if path.is_empty() || !parts.into_iter().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("path {path:?} must be relative and stay within the volume"));
    }
    Ok(PathBuf::from(path))
}

/// Puts a volume on the disk at `directory`; what is there already is kept, its files renewed. Blocks.
pub(crate) fn make(content: &Content, directory: &Path, group: Option<u32>) -> std::io::Result<()> {
    match content {
        Content::Host { path, kind } => host(path, kind),
        Content::Empty { memory, limit } => {
            let fresh = !directory.exists();
            std::fs::create_dir_all(directory)?;
            if *memory && fresh {
                mount_memory(directory, *limit)?;
            }
            if fresh {
                // As upstream: whoever the container runs as may write.
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))?;
                own(directory, group, 0o2777)?;
            }
            Ok(())
        }
        Content::Files(files) => {
            std::fs::create_dir_all(directory)?;
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
            files.iter().try_for_each(|file| write(directory, file, group))
        }
    }
}

fn write(directory: &Path, file: &File, group: Option<u32>) -> std::io::Result<()> {
    let path = directory.join(&file.path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    std::fs::write(&next, &file.bytes)?;
    let mode = file.mode | if group.is_some() { (file.mode & 0o400) >> 3 } else { 0 };
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(mode))?;
    own(&next, group, mode)?;
    std::fs::rename(&next, &path)
}

fn own(path: &Path, group: Option<u32>, mode: u32) -> std::io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn mount_memory(directory: &Path, limit: Option<i64>) -> std::io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let options = limit.map(|limit| format!("size={limit}")).unwrap_or_default();
    let options = std::ffi::CString::new(options).map_err(std::io::Error::other)?;
    mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
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

/// Removes what a pod has left, unmounting what is in memory. Blocks.
fn remove(pod_directory: &Path) -> std::io::Result<()> {
    let volumes = match std::fs::read_dir(pod_directory.join("volumes")) {
        Ok(volumes) => volumes.filter_map(Result::ok).collect(),
        Err(_) => Vec::new(),
    };
    for volume in volumes {
        // Most are no mount points, which this says by failing; a mount that stays makes the removal below fail.
        let _ = rustix::mount::unmount(volume.path(), rustix::mount::UnmountFlags::DETACH);
    }
    match std::fs::remove_dir_all(pod_directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Checks, or makes, a path of the machine, as its `type` says.
fn host(path: &Path, kind: &str) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let found = std::fs::metadata(path);
    let is =
        |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_ok_and(|found| test(&found.file_type()));
    let right = match kind {
        "" => true,
        "DirectoryOrCreate" => {
            if found.is_err() {
                std::fs::create_dir_all(path)?;
            }
            path.is_dir()
        }
        "FileOrCreate" => {
            if found.is_err() {
                std::fs::File::create_new(path)?;
            }
            path.is_file()
        }
        "Directory" => is(std::fs::FileType::is_dir),
        "File" => is(std::fs::FileType::is_file),
        "Socket" => is(FileTypeExt::is_socket),
        "CharDevice" => is(FileTypeExt::is_char_device),
        "BlockDevice" => is(FileTypeExt::is_block_device),
        _ => false,
    };
    let words = format!("hostPath type check failed: {} is not a {kind}", path.display());
    if right { Ok(()) } else { Err(std::io::Error::other(words)) }
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
        };
        let place = Place { host_ips: vec![], pod_ips: vec![], allocatable: Default::default() };
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        content(&pod, volume, &sources, &Default::default(), &place)
    }

    fn files(volume: serde_json::Value) -> Vec<(String, String, u32)> {
        let Content::Files(files) = resolve(volume).unwrap() else { panic!("no files") };
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
        check(claim, "its kind of volume is not supported on this node");
        check(json!({"name": "v", "configMap": {"name": "no"}}), "configmap \"no\" not found");
        let key = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "no", "path": "p"}]}});
        check(key, "references non-existent config key: no");
        let out = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../p"}]}});
        check(out, "path \"../p\" must be relative and stay within the volume");
    }

    #[test]
    fn files_are_written_with_their_modes_and_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volumes/v");
        for text in ["one", "two"] {
            let file = File { path: "sub/k".into(), bytes: text.into(), mode: 0o440 };
            make(&Content::Files(vec![file]), &volume, None).unwrap();
            assert_eq!(std::fs::read_to_string(volume.join("sub/k")).unwrap(), text);
        }
        let mode = std::fs::metadata(volume.join("sub/k")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        assert_eq!(std::fs::read_dir(volume.join("sub")).unwrap().count(), 1);
        remove(directory.path()).unwrap();
        assert!(!directory.path().exists());
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

    #[test]
    fn host_paths_are_what_they_have_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/here");
        let check = |path: &Path, kind: &str, good: bool| {
            let content = Content::Host { path: path.into(), kind: kind.into() };
            assert_eq!(make(&content, Path::new("/unused"), None).is_ok(), good, "{kind}");
        };
        check(&path, "Directory", false);
        check(&path, "DirectoryOrCreate", true);
        check(&path, "Directory", true);
        check(&path, "File", false);
        check(&path.join("file"), "FileOrCreate", true);
        check(&path.join("none"), "", true);
    }
}
