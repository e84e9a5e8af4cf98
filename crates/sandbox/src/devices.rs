//! Which devices a container may use, and how the kernel is told on cgroup v2: by a program that it asks each time.
//!
//! On v1 the device controller takes the same rules as text.
#![allow(unsafe_code)] // bpf(2) has no safe form

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;

/// A character device: major number, and minor unless it is all of them.
pub(crate) type Device = (u32, Option<u32>);

/// What every container has: null, zero, full, random, urandom, tty, console, ptmx and pseudo-terminals.
pub(crate) const DEFAULT: [Device; 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

// From the kernel's linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Groups above keep their say.
const ALLOW_MULTI: u32 = 2;
const CHARACTER: u32 = 2;
const LICENSE: &CStr = c"Apache-2.0";

/// The beginning of `union bpf_attr` when loading a program; what is behind it is nought.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same when attaching one.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets the processes of a v2 group use no other devices than these, whatever they do to them.
pub(crate) fn limit(group: &Path, devices: &[Device]) -> io::Result<()> {
    let group = File::open(group)?;
    let program = program(devices);
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len()).unwrap_or(u32::MAX),
        program: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    let loaded = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else knows of it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // The group keeps the program from here on.
    bpf(PROG_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    let attributes: *const T = attributes;
    // SAFETY: the structure, and the program and the text that it points to, live through the call, which reads as many
    // bytes of it as it is told and writes to none.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One instruction of the kernel's 64-bit machine.
fn instruction(operation: u8, destination: u8, source: u8, offset: u16, value: u32) -> u64 {
    u64::from(operation)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset) << 16
        | u64::from(value) << 32
}

/// Answers 1, allowed, or 0. Register 1 points to what is asked: kind (in the low half) and access, major, minor.
fn program(devices: &[Device]) -> Vec<u64> {
    let load = |register, offset| instruction(0x61, register, 1, offset, 0);
    let unless = |register, value, skip| instruction(0x55, register, 0, skip, value);
    let answer = |value| [instruction(0xb7, 0, 0, 0, value), instruction(0x95, 0, 0, 0, 0)];
    let mut program = vec![load(2, 0), load(4, 4), load(5, 8)];
    // The access does not matter: it is all or nothing.
    program.push(instruction(0x54, 2, 0, 0, 0xffff));
    for (major, minor) in devices {
        let rest = if minor.is_some() { 4 } else { 3 };
        program.push(unless(2, CHARACTER, rest));
        program.push(unless(4, *major, rest - 1));
        program.extend(minor.map(|minor| unless(5, minor, rest - 2)));
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Where a v2 tree is mounted; on a machine with v1 beside it, it has no controllers, and takes programs all the same.
    fn tree() -> Option<std::path::PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        Some(line.split(' ').nth(4)?.into())
    }

    #[test]
    #[allow(clippy::print_stderr)] // says why it did nothing
    fn a_group_uses_the_devices_it_was_given() {
        let Some(tree) = tree().filter(|_| rustix::process::geteuid().is_root()) else {
            eprintln!("SKIPPED: needs root and a cgroup2 mount");
            return;
        };
        let group = tree.join(format!("mono-test-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("disk").display().to_string();
        let run = |script: &str| {
            let enter = format!("echo $$ >{}/cgroup.procs; {script}", group.display());
            Command::new("sh").args(["-c", &enter]).output().unwrap().status.code()
        };
        let disk = format!("mknod {node} b 7 77 && rm {node}");
        assert_eq!(run(&disk), Some(0), "a machine that lets nobody make nodes shows nothing");
        limit(&group, &DEFAULT).unwrap();
        assert_eq!(run("echo x >/dev/null && head -c 1 /dev/zero >/dev/null"), Some(0));
        assert_ne!(run(&disk), Some(0));
        // Of the same number, and another kind.
        assert_ne!(run(&format!("mknod {node} b 1 3")), Some(0));
        assert_eq!(run(&format!("mknod {node} c 1 3 && rm {node}")), Some(0));
        assert_ne!(run(&format!("mknod {node} c 1 11")), Some(0));
        std::fs::remove_dir(&group).unwrap();
    }
}
