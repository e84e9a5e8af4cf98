//! Readiness, told the way service managers understand it: a datagram to the socket that `NOTIFY_SOCKET` names.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The environment variable that names the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// What is sent once a role serves.
pub const READY: &[u8] = b"READY=1";

/// Tells whoever started this process that it serves now. Nobody listening is fine.
pub fn ready() {
    let Some(name) = std::env::var_os(VARIABLE) else { return };
    if let Err(error) = send(name.as_encoded_bytes(), READY) {
        tracing::warn!(%error, "cannot tell the service manager that this role is ready");
    }
}

fn send(name: &[u8], message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match name.strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(message, &SocketAddr::from_abstract_name(name)?)?,
        None => socket.send_to(message, std::path::Path::new(&*String::from_utf8_lossy(name)))?,
    };
    Ok(())
}

/// A socket for children to report to, in the abstract namespace (no path, nothing to clean up), and its name.
pub fn listen(tag: &str) -> io::Result<(UnixDatagram, String)> {
    let name = format!("monoplane-{}-{tag}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    socket.set_nonblocking(true)?;
    Ok((socket, format!("@{name}")))
}
