//! A container's mounts, in two steps: what is bound is opened by whoever may ([`bind`]), and then all is mounted below the
//! container's root, in its own mount namespace and by the root of its user namespace ([`mount_all`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::attributes::{self, Change};
use crate::configuration::{Device, Mount};
use crate::failed;
use crate::place::{self, Kind};

/// Character devices that every container has: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that every container has in /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
const DEV: &str = "/dev";

/// A copy of a mount that hangs nowhere yet, and of all below it if `recursive`. `found` is a descriptor of what is to be
/// its root.
///
/// # Errors
/// The kernel's.
pub fn copy(found: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let below = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    open_tree(found, "", flags | below)
}

/// The same of what a path of the machine names.
///
/// # Errors
/// The kernel's.
pub fn copy_path(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    copy(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?, recursive)
}

/// Makes a copied mount what a container's `bind` mount asks for.
///
/// # Errors
/// The kernel's, with the mount's place in the container.
pub fn bind(mount: &Mount, tree: OwnedFd) -> Result<OwnedFd, String> {
    let flag = |option: &str, flag: u64| if mount.has(option) { flag } else { 0 };
    let one = Change {
        set: flag("ro", libc::MOUNT_ATTR_RDONLY)
            | flag("nosuid", libc::MOUNT_ATTR_NOSUID)
            | flag("nodev", libc::MOUNT_ATTR_NODEV)
            | flag("noexec", libc::MOUNT_ATTR_NOEXEC),
        clear: flag("dev", libc::MOUNT_ATTR_NODEV),
        ..Change::default()
    };
    let all = Change {
        set: flag("rro", libc::MOUNT_ATTR_RDONLY) | flag("rnodev", libc::MOUNT_ATTR_NODEV),
        propagation: match mount {
            // What it was copied from is its peer, and is to stay so.
            _ if mount.has("rshared") => 0,
            _ if mount.has("rslave") => libc::MS_SLAVE,
            _ => libc::MS_PRIVATE,
        },
        ..Change::default()
    };
    let changed = attributes::change(&tree, true, all).and_then(|()| match one.set | one.clear {
        0 => Ok(()),
        _ => attributes::change(&tree, false, one),
    });
    changed.map_err(failed(format!("mount {}", mount.destination.display())))?;
    Ok(tree)
}

/// Mounts all of a container's mounts below its root. `bound` holds what is bound, one for each of the mounts. With
/// `own_users`, device nodes are the machine's, since nobody in a user namespace may make any.
///
/// # Errors
/// The kernel's, with the mount's place in the container.
pub fn mount_all(
    root: BorrowedFd<'_>,
    mounts: &[Mount],
    bound: Vec<Option<OwnedFd>>,
    own_users: bool,
) -> Result<(), String> {
    for (mount, bound) in mounts.iter().zip(bound) {
        let at = mount.destination.display();
        let is_dev = mount.kind == "tmpfs" && mount.destination == Path::new(DEV);
        let tree = match bound {
            Some(tree) => tree,
            None => new(mount).map_err(failed(format!("mount {} at {at}", mount.kind)))?,
        };
        if is_dev {
            make_devices(&tree, own_users).map_err(failed("devices"))?;
        }
        let here = attach(root, &mount.destination, &tree);
        here.map_err(failed(format!("mount {} at {at}", mount.source.display())))?;
        if is_dev && own_users {
            bind_devices(&tree).map_err(failed("devices"))?;
        }
    }
    Ok(())
}

/// A new file system that hangs nowhere yet.
fn new(mount: &Mount) -> rustix::io::Result<OwnedFd> {
    // What the configuration calls `cgroup` is of the only kind that can be mounted so.
    let kind = if mount.kind == "cgroup" { "cgroup2" } else { mount.kind.as_str() };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", mount.source.as_path())?;
    let mut attributes = MountAttrFlags::empty();
    for option in &mount.options {
        match (option.as_str(), option.split_once('=')) {
            ("nosuid", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            ("nodev", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            ("noexec", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            ("ro", _) => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            ("strictatime", _) => attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            ("rw" | "relatime", _) => {}
            (_, Some((key, value))) => fsconfig_set_string(context.as_fd(), key, value)?,
            (flag, None) => fsconfig_set_flag(context.as_fd(), flag)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Mounts what hangs nowhere yet, and makes the place for it where there is none.
fn attach(root: BorrowedFd<'_>, destination: &Path, tree: &OwnedFd) -> rustix::io::Result<()> {
    let kind = match file_type(tree)? {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let place = place::open_or_make(root, destination, kind)?;
    put(tree, place)
}

/// Mounts what hangs nowhere yet at an open place.
pub(crate) fn put(tree: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

fn file_type(file: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Fills a /dev that nobody sees yet.
fn make_devices(dev: &OwnedFd, own_users: bool) -> rustix::io::Result<()> {
    // The mode is meant as it is.
    let mask = rustix::process::umask(Mode::empty());
    let made = DEVICES.iter().try_for_each(|(name, major, minor)| {
        let (kind, number) = match own_users {
            true => (FileType::RegularFile, 0),
            false => (FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
        };
        rustix::fs::mknodat(dev, *name, kind, Mode::from_raw_mode(0o666), number)
    });
    rustix::process::umask(mask);
    made?;
    LINKS.iter().try_for_each(|(name, target)| rustix::fs::symlinkat(*target, dev, *name))
}

/// Makes further device nodes below a container's root. What has the place already stays.
///
/// # Errors
/// The kernel's, with the node's path.
pub fn make_nodes(root: BorrowedFd<'_>, devices: &[Device]) -> Result<(), String> {
    // The mode is meant as it is.
    let mask = rustix::process::umask(Mode::empty());
    let made = devices.iter().try_for_each(|device| {
        make_node(root, device).map_err(failed(format!("device {}", device.path.display())))
    });
    rustix::process::umask(mask);
    made
}

fn make_node(root: BorrowedFd<'_>, device: &Device) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let kind = match device.kind.as_str() {
        "b" => FileType::BlockDevice,
        "c" => FileType::CharacterDevice,
        _ => return Err(Errno::INVAL),
    };
    let place = place::open_or_make(root, parent, Kind::Directory)?;
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(&place, name, kind, Mode::from_raw_mode(device.file_mode), number) {
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            rustix::fs::chownat(&place, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// Covers the empty files of a /dev by the machine's devices.
fn bind_devices(dev: &OwnedFd) -> rustix::io::Result<()> {
    for (name, _, _) in DEVICES {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(dev, name, flags, Mode::empty())?;
        put(copy_path(&Path::new(DEV).join(name), false)?, place)?;
    }
    Ok(())
}

/// Covers paths by nothing: files by an empty device, directories by an empty one that refuses writing. What is not there
/// needs no cover.
///
/// # Errors
/// The kernel's, with the path.
pub fn mask(root: BorrowedFd<'_>, paths: &[impl AsRef<Path>]) -> Result<(), String> {
    let mut empty = None;
    for path in paths {
        let path = path.as_ref();
        let cover = || -> rustix::io::Result<()> {
            let place = match place::open(root, path, OFlags::PATH) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                place => place?,
            };
            if file_type(&place)? != FileType::Directory {
                return put(copy_path(Path::new("/dev/null"), false)?, place);
            }
            match &empty {
                None => put(&*empty.insert(nothing()?), place),
                Some(empty) => put(copy(empty, false)?, place),
            }
        };
        let mut cover = cover;
        cover().map_err(failed(format!("mask {}", path.display())))?;
    }
    Ok(())
}

fn nothing() -> rustix::io::Result<OwnedFd> {
    let options = ["nosuid", "nodev", "noexec", "ro", "size=4k"].map(str::to_owned).to_vec();
    new(&Mount { kind: "tmpfs".to_owned(), source: "tmpfs".into(), options, ..Mount::default() })
}

/// Makes paths refuse writing; what is not there needs it not.
///
/// # Errors
/// The kernel's, with the path.
pub fn make_readonly(root: BorrowedFd<'_>, paths: &[impl AsRef<Path>]) -> Result<(), String> {
    for path in paths {
        let path = path.as_ref();
        let cover = || -> std::io::Result<()> {
            let place = match place::open(root, path, OFlags::PATH) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                place => place?,
            };
            let tree = copy(&place, true)?;
            attributes::set(&tree, true, libc::MOUNT_ATTR_RDONLY, None)?;
            Ok(put(tree, place)?)
        };
        cover().map_err(failed(format!("read-only {}", path.display())))?;
    }
    Ok(())
}

/// Opens what a path of the machine names, as somewhere to mount at.
///
/// # Errors
/// The kernel's.
pub fn path_of_machine(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
