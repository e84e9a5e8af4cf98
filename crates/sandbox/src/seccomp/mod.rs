//! Which system calls a container may make: profiles, and what the kernel is given of them.
//!
//! A [`profile`] is read from the form that Docker, containerd and the OCI configuration share; the runtime's own default
//! (`default.json`) is one like any other. What of it holds for a container's capabilities on this machine is compiled
//! by [`program`] into the instructions that the kernel runs at each call, over the numbers that [`architecture`] knows.
//! The node's process does all that, so a profile that cannot be used is an error before anything is made; the shim's
//! children only install ([`container::seccomp`]) what lies in the container's plan.

mod architecture;
mod profile;
mod program;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use runtime::{Error, SecurityContext, SecurityProfile};

use crate::capabilities;
use architecture::Architecture;
pub(crate) use container::seccomp::Filter;
use profile::Profile;

/// How much of a profile is read; the default one has 12 KiB.
const MAX_PROFILE: u64 = 1 << 20;
const DEFAULT: &str = include_str!("default.json");

/// What a container is confined by; `None`: nothing. `capabilities` are its own, with `CAP_`.
pub(crate) fn filter(security: &SecurityContext, capabilities: &[String]) -> Result<Option<Filter>, Error> {
    let (name, text) = match &security.seccomp {
        // As CRI has it: who is privileged is not confined.
        _ if security.privileged => return Ok(None),
        SecurityProfile::Unconfined => return Ok(None),
        SecurityProfile::RuntimeDefault => ("the default".to_owned(), DEFAULT.to_owned()),
        SecurityProfile::Localhost(path) => {
            let read = read(Path::new(path));
            let read = read.map_err(|error| format!("cannot load seccomp profile {path:?}: {error}"));
            (format!("{path:?}"), read.map_err(Error::Failed)?)
        }
    };
    let unusable = |why: String| Error::Failed(format!("cannot use seccomp profile {name}: {why}"));
    let native = Architecture::native().ok_or_else(|| unusable("unknown architecture".to_owned()))?;
    let profile = Profile::parse(&text).map_err(unusable)?;
    let kernel = rustix::system::uname();
    let kernel = profile::kernel_version(&kernel.release().to_string_lossy());
    let resolved = profile.resolve(native, capabilities, kernel).map_err(unusable)?;
    let program = program::compile(&resolved).map_err(unusable)?;
    Ok(Some(Filter {
        flags: resolved.flags,
        program,
        privileged: !security.no_new_privs,
        capabilities: capabilities::bits(capabilities),
    }))
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let count = file.take(MAX_PROFILE + 1).read_to_string(&mut text)?;
    match count as u64 > MAX_PROFILE {
        true => Err(std::io::Error::other(format!("it has more than {MAX_PROFILE} bytes"))),
        false => Ok(text),
    }
}
