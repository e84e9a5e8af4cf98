//! One role as a child process: how it is started, and told apart from the others.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};
use tokio::process::Child;

use crate::notify;

/// The running program, whatever has become of its file since.
const SELF: &str = "/proc/self/exe";

/// The first descriptor that a service manager passes (sd_listen_fds).
const FIRST_PASSED: i32 = 3;

/// What it takes to start a role.
pub struct Recipe {
    /// `server`, `node` or `edge`: the subcommand.
    pub role: &'static str,
    /// The rest of its command line.
    pub words: Vec<OsString>,
    /// Listening sockets that it inherits. They stay open here, so clients wait in their queues while the role restarts.
    pub listeners: Vec<TcpListener>,
    /// User and group to run as, when this process may choose.
    pub identity: Option<u32>,
    /// Control group that it lives in, where this process may make some.
    pub group: Option<sandbox::Group>,
    /// Log filter.
    pub log: String,
}

impl Recipe {
    /// Starts the role. It reports its readiness to the socket `notify_name`.
    pub fn start(&self, notify_name: &str) -> Result<Child> {
        let mut command = Command::new(SELF);
        command
            .arg0("monoplane")
            .arg(self.role)
            .args(&self.words)
            .args(["--supervised", &std::process::id().to_string()])
            .arg("--log")
            .arg(&self.log)
            .env(notify::VARIABLE, notify_name)
            .env_remove("LISTEN_PID")
            .stdin(Stdio::null())
            // Its own process group: Ctrl-C reaches `up` alone, which then stops the roles in order.
            .process_group(0);
        if let Some(id) = self.identity {
            command.uid(id).gid(id);
        }
        let mut mappings = Vec::new();
        for (child_fd, listener) in (FIRST_PASSED..).zip(&self.listeners) {
            let socket: OwnedFd = listener.try_clone().context("duplicating a listening socket")?.into();
            mappings.push(FdMapping { parent_fd: socket, child_fd });
        }
        command.env("LISTEN_FDS", mappings.len().to_string());
        command.fd_mappings(mappings).context("passing sockets on")?;
        let child = tokio::process::Command::from(command)
            .spawn()
            .with_context(|| format!("starting the {}", self.role))?;
        if let (Some(group), Some(pid)) = (&self.group, child.id()) {
            // It runs nobody else's code in its first moments, so it need not be born in the group.
            if let Err(error) = group.admit(pid) {
                tracing::warn!(role = self.role, %error, "the role runs without a control group of its own");
            }
        }
        Ok(child)
    }

    /// Removes what the role leaves when it does not run any more.
    pub fn retire(&self) {
        if let Some(group) = &self.group {
            group.remove_if_empty();
        }
    }
}

/// The listening sockets that a supervisor passed, or new ones on these addresses, in order; and what it passed beyond
/// them. To be called once: the environment that says so is used up by it.
pub fn inherited_or_bound<const COUNT: usize>(
    addresses: [std::net::SocketAddr; COUNT],
) -> Result<([TcpListener; COUNT], Vec<TcpListener>)> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut all = Vec::with_capacity(COUNT);
    for index in 0..COUNT.max(passed.len()) {
        let socket = passed.take_tcp_listener(index).context("taking an inherited socket")?;
        all.extend(match (socket, addresses.get(index)) {
            (None, Some(address)) => {
                Some(TcpListener::bind(address).with_context(|| format!("listening on {address}"))?)
            }
            (socket, _) => socket,
        });
    }
    let further = all.split_off(COUNT);
    Ok((all.try_into().map_err(|_| anyhow::anyhow!("a listening socket is missing"))?, further))
}
