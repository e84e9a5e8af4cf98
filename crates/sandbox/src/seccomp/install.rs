//! Confining the calling process, for good: what the kernel is asked last before a container's own program runs.
//!
//! The kernel takes a filter from a process that can gain no privileges, or has SYS_ADMIN. So a container that may gain
//! privileges (set-uid programs work in it) is confined while it has that capability still: libcontainer is told to leave
//! it two more than it is to have ([`widen`]), and once the filter is there they go ([`confine_privileged`]). All of it
//! happens before the process says that it is ready, so nobody meets one that has more than it should for long.
#![allow(unsafe_code)] // installing a filter has no safe form

use std::io;

use nix::libc;

use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::Filter;
use super::profile::SPEC_ALLOW;

/// What installing a filter takes, and taking capabilities from the bounding set.
const NEEDED: [(&str, CapabilitySet); 2] =
    [("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN), ("CAP_SETPCAP", CapabilitySet::SETPCAP)];

/// Adds to the capabilities in an OCI configuration's process what installing a filter takes.
pub(crate) fn widen(process: &mut serde_json::Value) {
    for set in ["bounding", "effective", "permitted"] {
        let Some(listed) = process["capabilities"][set].as_array_mut() else { continue };
        for (name, _) in NEEDED {
            if !listed.iter().any(|known| known == name) {
                listed.push(name.into());
            }
        }
    }
}

/// Installs a filter in a process whose configuration was widened, and leaves it the capabilities that it is to have.
pub(crate) fn confine_privileged(filter: &Filter) -> io::Result<()> {
    let keeps = CapabilitySet::from_bits_retain(filter.capabilities);
    for (_, needed) in NEEDED {
        if !keeps.contains(needed) {
            thread::remove_capability_from_bounding_set(needed)?;
        }
    }
    install(filter)?;
    let mut sets = thread::capabilities(None)?;
    sets.effective &= keeps;
    sets.permitted &= keeps;
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..sets };
    Ok(thread::set_capabilities(None, sets)?)
}

/// Installs a filter in the calling thread.
pub(crate) fn install(filter: &Filter) -> io::Result<()> {
    let instruction = |word: &u64| libc::sock_filter {
        code: (word >> 48) as u16,
        jt: (word >> 40) as u8,
        jf: (word >> 32) as u8,
        k: *word as u32,
    };
    let mut program: Vec<libc::sock_filter> = filter.program.iter().map(instruction).collect();
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    match set(&program, filter.flags) {
        // Kernels before 4.17 do not know it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && filter.flags & SPEC_ALLOW != 0 => {
            set(&program, filter.flags & !SPEC_ALLOW)
        }
        other => other,
    }
}

fn set(program: &libc::sock_fprog, flags: u32) -> io::Result<()> {
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags));
    // SAFETY: the structure and the instructions that it points to live through the call, which writes to neither.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, std::ptr::from_ref(program)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
