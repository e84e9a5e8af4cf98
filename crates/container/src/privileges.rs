//! Becoming the container's user: who it is, and what it may do.

use nix::unistd::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::failed;
use crate::seccomp::{self, Filter};

/// The kernel may know more capabilities than have names: until it says that there is none of a number.
const MAX_CAPABILITIES: u64 = 64;

/// Who a process is, in its own user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// Capabilities, as the kernel numbers them.
    pub capabilities: u64,
    /// Whether no program that it executes gives it more.
    pub no_new_privileges: bool,
    /// A filter that has to be installed while there is the privilege to.
    pub filter: Option<&'a Filter>,
}

/// Gives up all that the process is not to have, but for what [`confine`] needs. The caller is root of its user namespace, with
/// all capabilities in it.
///
/// # Errors
/// The kernel's.
pub fn become_user(identity: &Identity, limits: Limits<'_>) -> Result<(), String> {
    let keeps = CapabilitySet::from_bits_retain(limits.capabilities);
    for number in 0..MAX_CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keeps.contains(one) {
            continue;
        }
        match thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(format!("capabilities: {error}")),
        }
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    nix::unistd::setgroups(&groups).map_err(failed("groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(failed(format!("group {gid}")))?;
    // What is permitted, so that it can be chosen from once the user has changed.
    thread::set_keep_capabilities(true).map_err(failed("capabilities"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed(format!("user {uid}")))?;
    thread::set_keep_capabilities(false).map_err(failed("capabilities"))?;
    if limits.no_new_privileges {
        thread::set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    }
    // Installing a filter takes this one.
    let meanwhile = limits.filter.map_or(CapabilitySet::empty(), |_| CapabilitySet::SYS_ADMIN);
    have(keeps | meanwhile)
}

/// Installs the filter that takes a privilege to be installed, and gives that up. What is called from here on the filter has
/// to allow.
///
/// # Errors
/// The kernel's.
pub fn confine(limits: Limits<'_>) -> Result<(), String> {
    let Some(filter) = limits.filter else { return Ok(()) };
    seccomp::install(filter).map_err(failed("seccomp"))?;
    have(CapabilitySet::from_bits_retain(limits.capabilities))
}

fn have(all: CapabilitySet) -> Result<(), String> {
    let inheritable = CapabilitySet::empty();
    thread::set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable })
        .map_err(failed("capabilities"))
}

/// Goes to the working directory, which has to be one of the container: what a link of the kernel's leads to may be none
/// (CVE-2024-21626).
///
/// # Errors
/// When it is not there, may not be entered, or lies outside.
pub fn enter_directory(path: &std::path::Path) -> Result<(), String> {
    let what = || format!("chdir to working directory {path:?}");
    nix::unistd::chdir(path).map_err(|error| format!("{}: {}", what(), std::io::Error::from(error)))?;
    match nix::unistd::getcwd() {
        // The kernel's mark of a directory that is not below the root begins with no slash.
        Ok(found) if found.is_absolute() => Ok(()),
        Ok(_) | Err(_) => Err(format!("{}: it is not within the container", what())),
    }
}
