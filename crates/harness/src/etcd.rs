//! Real etcd servers.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::host::Host;
use crate::plane::tools;
use crate::wait::{eventually, kill};

/// A cluster of etcd servers on free ports of loopback, or of a machine. Dropping it ends them.
pub struct Etcd {
    members: Vec<Member>,
    flags: Vec<String>,
    scheme: &'static str,
    /// The machine that they run on, if not this one.
    host: Option<Host>,
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    directory: TempDir,
    child: Option<Child>,
}

impl Etcd {
    /// One server, which is a whole cluster.
    pub fn start() -> Self {
        Self::cluster(1)
    }

    /// So many servers.
    pub fn cluster(members: usize) -> Self {
        Self::launch(members, "http", &[], None)
    }

    /// One server with further flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::launch(1, "http", flags, None)
    }

    /// One server with further flags, among them those of TLS for its clients.
    pub fn start_tls(flags: &[&str]) -> Self {
        Self::launch(1, "https", flags, None)
    }

    /// One server on a machine, at whose address it is reached.
    pub(crate) fn start_on(host: Host) -> Self {
        Self::launch(1, "http", &[], Some(host))
    }

    fn launch(members: usize, scheme: &'static str, flags: &[&str], host: Option<Host>) -> Self {
        let members = (0..members)
            .map(|number| Member {
                name: format!("member{number}"),
                client: free_port(),
                peer: free_port(),
                directory: tempfile::tempdir().expect("a directory"),
                child: None,
            })
            .collect();
        let mut etcd = Self { members, flags: flags.iter().map(|f| (*f).to_owned()).collect(), scheme, host };
        for number in 0..etcd.members.len() {
            etcd.spawn(number);
        }
        for number in 0..etcd.members.len() {
            etcd.wait(number);
        }
        etcd
    }

    fn spawn(&mut self, number: usize) {
        let at = self.address();
        let peers: Vec<_> =
            self.members.iter().map(|each| format!("{}=http://{at}:{}", each.name, each.peer)).collect();
        let member = &mut self.members[number];
        let client = format!("{}://{at}:{}", self.scheme, member.client);
        let peer = format!("http://{at}:{}", member.peer);
        let program = tools().join("etcd");
        assert!(program.exists(), "{} is missing: run `cargo xtask tools`", program.display());
        let mut command =
            self.host.as_ref().map_or_else(|| Command::new(&program), |host| host.command(&program));
        let child = command
            .args([
                "--name",
                &member.name,
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &peers.join(","),
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
            ])
            .args(["--log-level", "error", "--data-dir"])
            .arg(member.directory.path())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        member.child = Some(child.expect("etcd runs"));
    }

    fn wait(&self, number: usize) {
        let port = self.members[number].client;
        eventually("etcd listens", || match &self.host {
            None => std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop),
            Some(host) => host.listens(port).then_some(()),
        });
    }

    fn address(&self) -> Ipv4Addr {
        self.host.as_ref().map_or(Ipv4Addr::LOCALHOST, Host::address)
    }

    /// Where clients find them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|each| format!("{}://{}:{}", self.scheme, self.address(), each.client))
            .collect()
    }

    /// Ends a server as a power cut would end its process.
    pub fn kill(&mut self, number: usize) {
        let mut child = self.members[number].child.take().expect("the member runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Starts it again over what it kept.
    pub fn revive(&mut self, number: usize) {
        self.spawn(number);
        self.wait(number);
    }

    /// Stops a server in the middle of what it does: its connections stay, and are silent.
    pub fn freeze(&self, number: usize) {
        kill(self.pid(number), 19);
    }

    /// Lets it go on.
    pub fn thaw(&self, number: usize) {
        kill(self.pid(number), 18);
    }

    fn pid(&self, number: usize) -> u32 {
        self.members[number].child.as_ref().expect("the member runs").id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody listens on, outside of the range that outgoing connections take theirs from: a server that is started
/// again must find it free.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = std::process::id().wrapping_mul(61).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + u16::try_from(turn % 20_000).expect("it is small");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
