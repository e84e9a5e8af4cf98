//! A pod's user namespace: its root is nobody on the machine.
//!
//! It is made once and owns the pod's network, IPC and UTS namespaces, so that the pod's root may do in them what root
//! may. The shim itself enters those three and stays in the machine's user namespace: it has control groups to keep and
//! files to write. Containers and commands enter the user namespace by the shim's descriptor of it, which, like the
//! namespaces owned by it, keeps it in being.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use runtime::UserNamespace;

use crate::attributes;
use crate::process;

/// Makes a user namespace with these ids and the namespaces of `owned`, and enters the latter.
pub(crate) fn make(ids: UserNamespace, owned: CloneFlags) -> Result<OwnedFd, String> {
    if ids.base == 0 || ids.size == 0 || ids.on_machine(ids.size - 1).is_none() {
        return Err(format!("user namespace: {} ids from {} are no range", ids.size, ids.base));
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| format!("user namespace: {error}"))?;
    let first = process::fork(|| {
        // It only has to be there until it has been looked at, and never longer than who looks.
        let made = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .and_then(|()| unshare(CloneFlags::CLONE_NEWUSER | owned));
        let code = made.map_or_else(|error| error as i32, |()| 0);
        if rustix::io::write(&writer, &code.to_ne_bytes()) == Ok(4) && code == 0 {
            loop {
                nix::unistd::pause();
            }
        }
        1
    });
    let first = first.map_err(|error| format!("user namespace: {error}"))?;
    drop(writer);
    let entered = enter(first, &reader, ids, owned);
    // The shim waits for it with its other children.
    let _ = kill(first, Signal::SIGKILL);
    entered.map_err(|error| format!("user namespace: {error}"))
}

/// Maps the ids of the namespace that `first` is in, and enters those that it owns.
fn enter(first: Pid, reader: &OwnedFd, ids: UserNamespace, owned: CloneFlags) -> io::Result<OwnedFd> {
    let mut code = [0; 4];
    if rustix::io::read(reader, &mut code)? != code.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match i32::from_ne_bytes(code) {
        0 => {}
        // The kernel's word for "too many", or for none allowed.
        nix::libc::ENOSPC => {
            return Err(io::Error::other(
                "no more of them are allowed here (sysctl user.max_user_namespaces)",
            ));
        }
        code => return Err(io::Error::from_raw_os_error(code)),
    }
    let of = PathBuf::from(format!("/proc/{first}"));
    for map in ["uid_map", "gid_map"] {
        fs::write(of.join(map), format!("0 {} {}\n", ids.base, ids.size))?;
    }
    let namespace = File::open(of.join("ns/user"))?;
    if !owned.is_empty() {
        let first = rustix::process::Pid::from_raw(first.as_raw()).ok_or(io::ErrorKind::NotFound)?;
        setns(rustix::process::pidfd_open(first, rustix::process::PidfdFlags::empty())?, owned)?;
    }
    Ok(namespace.into())
}

/// Enters the namespace and becomes its root. For a fresh fork.
pub(crate) fn become_root(namespace: impl AsFd) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWUSER)?;
    be_root()
}

/// Becomes the root of the user namespace that the process has entered.
pub(crate) fn be_root() -> nix::Result<()> {
    let root = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(root.1, root.1, root.1)?;
    nix::unistd::setresuid(root.0, root.0, root.0)
}

/// Does something as the namespace's root, in a process for it.
pub(crate) fn as_root(namespace: impl AsFd, what: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let lost = |error: &dyn std::fmt::Display| format!("user namespace: {error}");
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| lost(&error))?;
    let done = process::fork(|| {
        let done = become_root(&namespace).map_err(|error| lost(&error)).and_then(|()| what());
        let told = done.as_ref().err().map(|why| File::from(writer).write_all(why.as_bytes()));
        i32::from(done.is_err() || told.is_some_and(|told| told.is_err()))
    });
    let status = done.and_then(|pid| nix::sys::wait::waitpid(pid, None)).map_err(|error| lost(&error))?;
    if matches!(status, WaitStatus::Exited(_, 0)) {
        return Ok(());
    }
    let mut why = String::new();
    match File::from(reader).take(4096).read_to_string(&mut why) {
        Ok(1..) => Err(why),
        _ => Err(lost(&"its process ended early")),
    }
}

/// Has a mount that hangs nowhere yet, and all below it, show the namespace's ids for those on the disk.
pub(crate) fn map_ids(tree: impl AsFd, namespace: impl AsFd, recursive: bool) -> io::Result<()> {
    attributes::set(tree, recursive, 0, Some(namespace.as_fd())).map_err(|error| match error.raw_os_error() {
        // A kernel before 5.12, a file system that was never taught, or a mount of such a one.
        Some(nix::libc::EINVAL | nix::libc::ENOSYS | nix::libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel or this file system cannot map ids of mounts, which a pod with a user namespace needs",
        ),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_takes_in_the_machines_root_or_leaves_the_ids_that_there_are() {
        for (base, size) in [(0, 65536), (65536, 0), (u32::MAX - 65536, 65538)] {
            let why = make(UserNamespace { base, size }, CloneFlags::empty()).unwrap_err();
            assert!(why.contains("are no range"), "{why}");
        }
    }
}
