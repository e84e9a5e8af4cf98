//! Processes by number and birth, and the fork that makes one.
#![allow(unsafe_code)] // fork, and what a fork does to itself (descriptors, signals, environment), have no safe form

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid};

/// Which boot of the machine this is.
///
/// # Errors
/// The kernel's.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process began, in the kernel's ticks since boot; `None` when there is none, or only its remains. An error is
/// not knowing: who acts on an end must not take it for one.
pub fn start_ticks(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists() => {
            return Ok(None);
        }
        // It ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    parse_stat(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, stat))
}

fn parse_stat(stat: &str) -> Option<Option<u64>> {
    // The command in parentheses may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    Some((state != "Z" && state != "X").then_some(ticks))
}

/// The children of this process, which has one thread.
pub fn children() -> Vec<Pid> {
    let own = std::process::id();
    let text = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

/// Runs `child` in a copy of this process that ends with the code it returns, and gives the copy's number.
///
/// For single-threaded processes only, which the shim is: in a copy of a process with threads, a lock that another
/// thread held stays locked for ever.
///
/// # Errors
/// The kernel's; then there is no child.
pub fn fork(child: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: the process has one thread (a shim never starts another), so the copy's memory is consistent.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = child();
            // SAFETY: ends the process at once; exit handlers belong to the original.
            unsafe { nix::libc::_exit(code) }
        }
    }
}

/// The process namespace of a child.
#[derive(Clone, Copy, Debug)]
pub enum ProcessNamespace<'a> {
    /// The calling process' own.
    Inherited,
    /// One of its own, whose first process it is.
    New,
    /// Another.
    Of(BorrowedFd<'a>),
}

/// Has the next children of this process be in a process namespace: the process itself stays where it is.
///
/// # Errors
/// The kernel's.
pub fn enter_for_children(namespace: ProcessNamespace<'_>) -> nix::Result<()> {
    match namespace {
        ProcessNamespace::Inherited => Ok(()),
        ProcessNamespace::New => unshare(CloneFlags::CLONE_NEWPID),
        ProcessNamespace::Of(other) => setns(other, CloneFlags::CLONE_NEWPID),
    }
}

/// [`fork`]s one child into a process namespace; the next ones are in this process' own again.
///
/// # Errors
/// The kernel's; then there is no child.
pub fn fork_into(namespace: ProcessNamespace<'_>, child: impl FnOnce() -> i32) -> nix::Result<Pid> {
    if matches!(namespace, ProcessNamespace::Inherited) {
        return fork(child);
    }
    let own = File::open("/proc/self/ns/pid").map_err(|_| nix::errno::Errno::ENOENT)?;
    enter_for_children(namespace)?;
    let forked = fork(child);
    setns(&own, CloneFlags::CLONE_NEWPID)?;
    forked
}

/// In a fresh fork: makes these three the standard files and `report` descriptor 3, and closes all others, so that a
/// container's first process holds nothing of the shim's.
///
/// # Errors
/// The kernel's.
pub fn arrange_descriptors(stdio: [RawFd; 3], report: RawFd) -> io::Result<File> {
    let moves = stdio.into_iter().zip(0..).chain([(report, 3)]);
    for (from, to) in moves {
        // SAFETY: dup2 takes any numbers; what it closes belongs to the original process, which keeps its own.
        if from != to && unsafe { nix::libc::dup2(from, to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    close_from(4)?;
    // SAFETY: descriptor 3 was made just now, and for this.
    Ok(unsafe { File::from_raw_fd(3) })
}

/// Closes all descriptors from a number on. For a process that has just begun, or is a fresh fork: nothing in it may own
/// one of them and use it again.
///
/// # Errors
/// The kernel's.
pub fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing takes any numbers; the callers' callers promise that no owner is left.
    match unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The descriptors that this process has open.
///
/// # Errors
/// When /proc cannot be read.
pub fn open_files() -> io::Result<Vec<RawFd>> {
    let listed = fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let listed = listed.collect::<io::Result<Vec<_>>>()?;
    let numbers = listed.iter().filter_map(|name| name.to_str()?.parse().ok());
    // The listing itself is open no more.
    Ok(numbers.filter(|number| Path::new(&format!("/proc/self/fd/{number}")).is_symlink()).collect())
}

/// In a process whose other files belong to nobody any more: closes all but the standard ones and these.
///
/// # Errors
/// The kernel's.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|number| u32::try_from(*number).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().filter(|number| *number >= 3) {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

/// Ends the process at once: nothing of what was begun above the caller is to go on.
pub fn end(code: i32) -> ! {
    // SAFETY: ends the process; what its exit handlers would do belongs to the process that it was forked from.
    unsafe { nix::libc::_exit(code) }
}

/// In a fresh fork: signals as a program expects them. What is ignored or blocked here (Rust ignores PIPE, a shell's
/// background job INT, the shim blocks what it reads as a file) would pass through exec.
pub fn default_signals() {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    let _ = SigSet::all().thread_unblock();
}

/// In a fresh fork: children that end are forgotten by the kernel itself.
pub fn ignore_children() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring runs no code of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
}

/// The reverse: children that end are there to be waited for.
pub fn heed_children() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Replaces this process's environment.
pub fn replace_environment(variables: &HashMap<String, String>) {
    for (name, _) in std::env::vars_os() {
        // SAFETY: the process has one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // An empty name, or one with `=` or NUL, would panic.
        if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_birth() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_ticks(me).unwrap(), start_ticks(me).unwrap());
        assert!(start_ticks(me).unwrap().is_some());
        assert_eq!(start_ticks(-1).unwrap(), None);
    }
}
