//! Confining the calling process, for good: what the kernel is asked last before a container's own program runs.
//!
//! The kernel takes a filter from a process that can gain no privileges, or has SYS_ADMIN. So a container that may gain
//! privileges (set-uid programs work in it) is confined while it has that capability still: see
//! [`crate::privileges::confine`]. All of it happens before the process says that it is ready, so nobody meets one that
//! has more than it should for long.
#![allow(unsafe_code)] // installing a filter has no safe form

use std::io;

use nix::libc;
use serde::{Deserialize, Serialize};

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
const SPEC_ALLOW: u32 = 1 << 2;

/// A compiled profile, as it lies in a container's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The kernel's `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Instructions: 16 bits of operation, 8 and 8 bits of jumps, 32 bits of operand, the first in the highest bits.
    pub program: Vec<u64>,
    /// Whether installing it takes a privilege, since the container may gain some.
    pub privileged: bool,
    /// The capabilities that the container has, as the kernel numbers them.
    pub capabilities: u64,
}

/// Installs a filter in the calling thread.
///
/// # Errors
/// The kernel's: it takes none from a process that could gain privileges by it.
pub fn install(filter: &Filter) -> io::Result<()> {
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
