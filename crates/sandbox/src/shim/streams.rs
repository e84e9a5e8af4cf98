//! Calls of which more comes than an answer: commands on a terminal, attached callers, connections.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketAddr, SocketAddrV4, SocketAddrV6, SocketFlags, SocketType};

use super::attachment::{self, Attachment};
use super::making::{Job, Wanted};
use super::server::Server;
use crate::protocol::Reply;

impl Server {
    /// Runs a command on a terminal of the container's own.
    pub(super) fn run_on_terminal(&mut self, caller: u64, id: String, command: &[String]) -> Option<Reply> {
        let null = match File::options().read(true).write(true).open("/dev/null") {
            Ok(null) => null,
            Err(error) => return Some(Reply::Error(format!("terminal: {error}"))),
        };
        self.begin(caller, id, Wanted { job: Job::Run, command, terminal: true }, [null.as_fd(); 3])
    }

    /// Adds a caller who takes what a container writes.
    pub(super) fn attach(&mut self, caller: u64, id: &str, stdin: bool) -> Option<Reply> {
        let Some(container) = self.containers.get_mut(id) else { return Some(Reply::NotFound) };
        if !container.is_running() {
            return Some(Reply::Error(format!("container {id} is not running")));
        }
        let files = self.connections.get_mut(&caller).map(|connection| connection.take_fds());
        let mut files = files.unwrap_or_default().into_iter();
        let (Some(output), Some(errors)) = (files.next(), files.next()) else {
            return Some(Reply::Error("attach needs two files".to_owned()));
        };
        let attached = Attachment::new(caller, output, errors).and_then(|to| container.attach(to, stdin));
        match attached {
            Ok(input) => {
                self.reply_with(caller, &Reply::Started, input.as_ref().map(AsFd::as_fd));
                None
            }
            Err(error) => Some(Reply::Error(format!("attach: {error}"))),
        }
    }

    /// Passes on what callers have not taken yet, and tells those who leave why.
    pub(super) fn pass_on(&mut self) {
        let left: Vec<_> = self.containers.values_mut().flat_map(|container| container.pass_on()).collect();
        for (caller, exit_code) in left {
            let reply = exit_code.map_or_else(
                || Reply::Error(format!("nothing of the output was taken for {:?}", attachment::PATIENCE)),
                Reply::Exited,
            );
            self.reply(caller, &reply);
        }
    }

    /// Begins a connection to the pod's loopback address. The shim is in the pod's network namespace, so its sockets are;
    /// it waits for nobody, so the caller sees how it goes on.
    pub(super) fn connect(&mut self, caller: u64, port: u16, ipv6: bool) -> Option<Reply> {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let (family, address): (_, SocketAddr) = match ipv6 {
            true => (AddressFamily::INET6, SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0).into()),
            false => (AddressFamily::INET, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let begun = socket.and_then(|socket| match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        });
        match begun {
            Ok(socket) => {
                self.reply_with(caller, &Reply::Started, Some(socket.as_fd()));
                None
            }
            Err(error) => Some(Reply::Error(error.to_string())),
        }
    }
}
