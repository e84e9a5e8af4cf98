//! The socket at which a shim is called.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A listening socket in a directory. An address holds 107 bytes, and a data directory's path may be longer; the shim's
/// own working directory is nobody's business but its.
pub(crate) fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    std::env::set_current_dir(directory)?;
    let bound = rustix::net::bind(&listener, &SocketAddrUnix::new(name)?);
    std::env::set_current_dir("/")?;
    bound?;
    rustix::net::listen(&listener, 64)?;
    Ok(listener)
}
