//! The first process of a process namespace that a pod's containers share.
//!
//! Whoever shares the namespace sees it as process 1, and may be allowed to trace it. So it holds nothing worth having:
//! a root directory of its own, empty and read-only; no capability, and no way to gain one; no file but the pipe that
//! it waits at.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::user_namespace;
use crate::process;

/// A running one. It ends, and with it all in its namespace, when this value goes: at the latest when the shim ends,
/// however it ends.
pub(crate) struct Pause {
    pub(crate) pid: Pid,
    /// The namespace itself, which no later process of the same number can stand for.
    pub(crate) namespace: OwnedFd,
    _lifeline: OwnedFd,
}

impl Pause {
    /// Starts it, in the pod's user namespace if it has one, as a child of the calling process, which must be a subreaper
    /// of one thread.
    pub(crate) fn start(user: Option<&OwnedFd>) -> Result<Self, String> {
        let pipe =
            || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| error.to_string());
        let ((life, lifeline), (report, reporter)) = (pipe()?, pipe()?);
        // An extra process: entering a process namespace takes effect for children only, and is for good.
        let between = process::fork(|| {
            let entered = user.map_or(Ok(()), user_namespace::become_root);
            let made = entered.and_then(|()| unshare(CloneFlags::CLONE_NEWPID));
            let (Ok(()), Ok((ready, readier))) = (made, pipe()) else {
                return 1;
            };
            let Ok(pause) = process::fork(|| wait_confined(&life, &readier)) else { return 1 };
            drop(readier);
            // Its word, before which nobody may see it.
            if rustix::io::read(&ready, &mut [0; 1]) != Ok(1) {
                return 1;
            }
            i32::from(rustix::io::write(&reporter, &pause.as_raw().to_ne_bytes()).is_err())
        });
        let between = between.map_err(|error| format!("pause: {error}"))?;
        let _ = nix::sys::wait::waitpid(between, None);
        drop(reporter);
        let mut number = [0; 4];
        if rustix::io::read(&report, &mut number) != Ok(4) {
            return Err("the pod's shared process namespace could not be made".to_owned());
        }
        let pid = Pid::from_raw(i32::from_ne_bytes(number));
        // It is our child, so its number is its own until we wait for it.
        let namespace = File::open(format!("/proc/{pid}/ns/pid"))
            .map_err(|error| format!("the pod's shared process namespace: {error}"))?;
        Ok(Self { pid, namespace: namespace.into(), _lifeline: lifeline })
    }
}

/// The process itself: gives everything up, says so, and waits for the end of the lifeline.
fn wait_confined(life: &OwnedFd, readier: &OwnedFd) -> i32 {
    process::default_signals();
    process::ignore_children();
    let (Ok(_), Ok(_)) = (nix::unistd::setsid(), nix::sys::prctl::set_name(c"pause")) else {
        return 1;
    };
    let Ok(()) = confine() else { return 1 };
    if rustix::io::write(readier, &[1]) != Ok(1) {
        return 1;
    }
    // The lifeline's reading end alone stays open; its other end is the shim's and nobody else's.
    let numbers = [life.as_raw_fd(); 3];
    let Ok(life) = process::arrange_descriptors(numbers, life.as_raw_fd()) else { return 1 };
    let mut nothing = [0; 1];
    while let Err(rustix::io::Errno::INTR) = rustix::io::read(&life, &mut nothing) {}
    0
}

/// An empty root, and no power over anything.
fn confine() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // Over a directory that is there on every machine; nobody else sees it.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), "/proc", Some("tmpfs"), flags | MsFlags::MS_RDONLY, Some("size=4k,mode=555"))?;
    std::env::set_current_dir("/proc").map_err(|_| nix::errno::Errno::ENOTDIR)?;
    // Onto itself: the old root then lies on top, and is taken away.
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    drop_privileges().map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error()))
}

fn drop_privileges() -> rustix::io::Result<()> {
    use rustix::thread;
    thread::set_no_new_privs(true)?;
    // The kernel may know more than we have names for: until it says that there is none of a number.
    for number in 0..64 {
        match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    let none = CapabilitySet::empty();
    thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    // Having less than anybody, it could be traced by anybody: not without SYS_PTRACE.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}
