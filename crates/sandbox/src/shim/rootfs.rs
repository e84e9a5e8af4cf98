//! A container's root: an overlay of its image's layers, mounted in a mount namespace that only it will see. And the files of
//! other images, for it to mount.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::user_namespace;
use crate::files::{ContainerFiles, ImagePlan, Plan};

/// Mounts the overlay at the bundle's `rootfs`. With a user namespace its layers, which all pods share, are mounted with
/// that namespace's ids, and what the container writes has them. The caller has a mount namespace to itself: the mount lives
/// on in the container's namespace alone, and goes with it.
pub(crate) fn mount_overlay(
    files: &ContainerFiles,
    plan: &Plan,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), String> {
    let at = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    // Short names: a mount's options are limited to a page, which full paths of many layers pass.
    let short = files.0.join("l");
    for directory in [&short, &files.upper(), &files.0.join("work"), &files.rootfs()] {
        fs::create_dir_all(directory).map_err(at("container directory"))?;
    }
    let mut lower = place_layers(&short, &plan.layers, user_namespace)?;
    if lower.is_empty() {
        fs::create_dir_all(short.join("none")).map_err(at("container directory"))?;
        lower.push("none".to_owned());
    }
    if let Some(ids) = plan.user_namespace {
        chown(files.0.join("upper"), Some(ids.base), Some(ids.base)).map_err(at("writable layer"))?;
    }
    std::env::set_current_dir(&short).map_err(at("container directory"))?;
    let options = format!("lowerdir={},upperdir=../upper,workdir=../work", lower.join(":"));
    // Volatile: without it the end of every container waits until all of the file system below is on disk. A writable
    // layer is mounted once and outlives neither its container nor the machine's boot, so nobody misses the sync.
    // Kernels before 5.10 do not know the word.
    let mounted = match mount_at_rootfs(&format!("{options},volatile")) {
        Err(nix::errno::Errno::EINVAL) => mount_at_rootfs(&options),
        other => other,
    };
    mounted.map_err(|error| format!("overlay of {} layers: {error}", lower.len()))?;
    std::env::set_current_dir("/").map_err(at("root directory"))
}

/// Mounts images' files, each at its place, for a container to find them there: read-only, and nothing in them to be executed
/// or to be a device. The mounts go as the root's does.
pub(crate) fn mount_images(
    images: &[ImagePlan],
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), String> {
    for image in images {
        mount_image(image, user_namespace).map_err(|error| format!("an image's files: {error}"))?;
    }
    std::env::set_current_dir("/").map_err(|error| format!("root directory: {error}"))
}

fn mount_image(image: &ImagePlan, user_namespace: Option<BorrowedFd<'_>>) -> Result<(), String> {
    let (short, failed) = (image.at.join("l"), |error: std::io::Error| error.to_string());
    let mut lower = place_layers(&short, &image.layers, user_namespace)?;
    // An overlay that nobody writes to is one of two layers at least, and all of them are named.
    for nothing in ["none", "nothing"] {
        fs::create_dir_all(short.join(nothing)).map_err(failed)?;
        lower.push(nothing.to_owned());
    }
    fs::create_dir_all(image.files()).map_err(failed)?;
    std::env::set_current_dir(&short).map_err(failed)?;
    let options = format!("lowerdir={}", lower.join(":"));
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("overlay"), Path::new("../files"), Some("overlay"), flags, Some(options.as_str()))
        .map_err(|error| format!("overlay of {} layers: {error}", image.layers.len()))
}

/// Puts layers into a directory under short names, and gives these, the topmost layer's first.
fn place_layers(
    short: &Path,
    layers: &[PathBuf],
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Vec<String>, String> {
    fs::create_dir_all(short).map_err(|error| format!("container directory: {error}"))?;
    let mut names = Vec::new();
    for (index, layer) in layers.iter().rev().enumerate() {
        let name = index.to_string();
        let placed = match user_namespace {
            None => symlink(layer, short.join(&name)),
            Some(namespace) => mount_mapped(layer, &short.join(&name), namespace),
        };
        match placed {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("layer {}: {error}", layer.display()));
            }
            _ => names.push(name),
        }
    }
    Ok(names)
}

/// Mounts a layer with a user namespace's ids.
fn mount_mapped(layer: &Path, at: &Path, namespace: BorrowedFd<'_>) -> std::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)?;
    user_namespace::map_ids(&tree, namespace, false)?;
    fs::create_dir_all(at)?;
    Ok(move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn mount_at_rootfs(options: &str) -> nix::Result<()> {
    // Without devices: an image may hold nodes of any disk, and a device is for the device cgroup only to refuse.
    mount(Some("overlay"), Path::new("../rootfs"), Some("overlay"), MsFlags::MS_NODEV, Some(options))
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
