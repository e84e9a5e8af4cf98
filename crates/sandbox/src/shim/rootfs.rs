//! A container's root: an overlay of its image's layers, mounted in a mount namespace that only it will see. And the files of
//! other images, for it to mount.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::user_namespace;
use crate::files::{ContainerFiles, ImagePlan, Plan};

/// Mounts the overlay, over the directory that it works in. With a user namespace its layers, which all pods share, are mounted with
/// that namespace's ids, and what the container writes has them. The caller has a mount namespace to itself: the mount lives
/// on in the container's namespace alone, and goes with it.
pub(crate) fn mount_overlay(
    files: &ContainerFiles,
    plan: &Plan,
    layers: &mut Layers<'_>,
) -> Result<(), String> {
    let at = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    for directory in [plan.writable.upper(files), plan.writable.work(files)] {
        fs::create_dir_all(directory).map_err(at("writable layer"))?;
    }
    std::env::set_current_dir(plan.writable.directory(files)).map_err(at("writable layer"))?;
    let lower = layers.open(&plan.layers)?;
    let nothing: &[&str] = if lower.is_empty() { &["none"] } else { &[] };
    nothing.iter().try_for_each(fs::create_dir_all).map_err(at("writable layer"))?;
    if let Some(ids) = plan.user_namespace {
        chown("upper", Some(ids.base), Some(ids.base)).map_err(at("writable layer"))?;
    }
    let options = format!("lowerdir={},upperdir=upper,workdir=work", names(&lower, nothing));
    // Volatile: without it the end of every container waits until all of the file system below is on disk. A writable
    // layer is mounted once and outlives neither its container nor the machine's boot, so nobody misses the sync.
    // Kernels before 5.10 do not know the word.
    let mounted = match mount_at_work(&format!("{options},volatile")) {
        Err(nix::errno::Errno::EINVAL) => mount_at_work(&options),
        other => other,
    };
    mounted.map_err(|error| format!("overlay of {} layers: {error}", lower.len()))?;
    std::env::set_current_dir("/").map_err(at("root directory"))
}

/// Mounts images' files, each at its place, for a container to find them there: read-only, and nothing in them to be executed
/// or to be a device. The mounts go as the root's does.
pub(crate) fn mount_images(images: &[ImagePlan], layers: &mut Layers<'_>) -> Result<(), String> {
    for image in images {
        mount_image(image, layers).map_err(|error| format!("an image's files: {error}"))?;
    }
    std::env::set_current_dir("/").map_err(|error| format!("root directory: {error}"))
}

fn mount_image(image: &ImagePlan, layers: &mut Layers<'_>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(image.files()).map_err(failed)?;
    std::env::set_current_dir(&image.at).map_err(failed)?;
    let lower = layers.open(&image.layers)?;
    // An overlay that nobody writes to is one of two layers at least, and all of them are named.
    let nothing = ["none", "nothing"];
    nothing.iter().try_for_each(fs::create_dir_all).map_err(failed)?;
    let options = format!("lowerdir={}", names(&lower, &nothing));
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("overlay"), Path::new("files"), Some("overlay"), flags, Some(options.as_str()))
        .map_err(|error| format!("overlay of {} layers: {error}", image.layers.len()))
}

/// The layers of the overlays that a process mounts, in a mount namespace to itself.
pub(crate) struct Layers<'a> {
    user_namespace: Option<BorrowedFd<'a>>,
    /// Those that have the user namespace's ids by now.
    mapped: BTreeSet<PathBuf>,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(user_namespace: Option<BorrowedFd<'a>>) -> Self {
        Self { user_namespace, mapped: BTreeSet::new() }
    }

    /// Opens layers for an overlay, the topmost first.
    fn open(&mut self, layers: &[PathBuf]) -> Result<Vec<OwnedFd>, String> {
        let opened = layers.iter().rev().map(|layer| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = self.map(layer).and_then(|()| Ok(rustix::fs::open(layer, flags, Mode::empty())?));
            opened.map_err(|error| format!("layer {}: {error}", layer.display()))
        });
        opened.collect()
    }

    /// Has a layer, which all pods share, show the user namespace's ids where it lies: nobody else sees that.
    fn map(&mut self, layer: &Path) -> std::io::Result<()> {
        let Some(namespace) = self.user_namespace else { return Ok(()) };
        if !self.mapped.insert(layer.to_owned()) {
            return Ok(());
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, layer, flags)?;
        user_namespace::map_ids(&tree, namespace, false)?;
        Ok(move_mount(&tree, "", CWD, layer, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }
}

/// Names of open layers and of directories in the working directory, as an overlay's options have them. These are limited to
/// a page, which the paths of many layers pass, and the container reads them: it is not to learn the machine's paths.
fn names(layers: &[OwnedFd], nothing: &[&str]) -> String {
    let open = layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd()));
    let all: Vec<String> = open.chain(nothing.iter().map(|name| (*name).to_owned())).collect();
    all.join(":")
}

fn mount_at_work(options: &str) -> nix::Result<()> {
    // Without devices: an image may hold nodes of any disk, and a device is for the device cgroup only to refuse.
    mount(Some("overlay"), Path::new("work"), Some("overlay"), MsFlags::MS_NODEV, Some(options))
}

/// Makes the working directory where the image lacks it, as other runtimes do.
pub(crate) fn make_directory(root: impl AsFd, path: &Path, owner: (u32, u32)) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
    let mut so_far = std::path::PathBuf::from("/");
    for part in path.components() {
        let std::path::Component::Normal(part) = part else { continue };
        let above = open(&so_far).map_err(|error| format!("working directory {path:?}: {error}"))?;
        so_far.push(part);
        if !matches!(open(&so_far), Err(rustix::io::Errno::NOENT)) {
            continue;
        }
        let made = rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o755)).and_then(|()| {
            let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
            rustix::fs::chownat(&above, part, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        });
        made.map_err(|error| format!("working directory {path:?}: {error}"))?;
    }
    Ok(())
}
