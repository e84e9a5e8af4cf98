//! Real etcd servers.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::plane::tools;
use crate::wait::{eventually, kill};

/// A cluster of etcd servers on free ports of loopback. Dropping it ends them.
pub struct Etcd {
    members: Vec<Member>,
    flags: Vec<String>,
    scheme: &'static str,
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
        Self::launch(members, "http", &[])
    }

    /// One server with further flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::launch(1, "http", flags)
    }

    /// One server with further flags, among them those of TLS for its clients.
    pub fn start_tls(flags: &[&str]) -> Self {
        Self::launch(1, "https", flags)
    }

    fn launch(members: usize, scheme: &'static str, flags: &[&str]) -> Self {
        let members = (0..members)
            .map(|number| Member {
                name: format!("member{number}"),
                client: free_port(),
                peer: free_port(),
                directory: tempfile::tempdir().expect("a directory"),
                child: None,
            })
            .collect();
        let mut etcd = Self { members, flags: flags.iter().map(|f| (*f).to_owned()).collect(), scheme };
        for number in 0..etcd.members.len() {
            etcd.spawn(number);
        }
        for number in 0..etcd.members.len() {
            etcd.wait(number);
        }
        etcd
    }

    fn spawn(&mut self, number: usize) {
        let peers: Vec<_> =
            self.members.iter().map(|each| format!("{}=http://127.0.0.1:{}", each.name, each.peer)).collect();
        let member = &mut self.members[number];
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let program = tools().join("etcd");
        assert!(program.exists(), "{} is missing: run `cargo xtask tools`", program.display());
        let child = Command::new(program)
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
        eventually("etcd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// Where clients find them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|each| format!("{}://127.0.0.1:{}", self.scheme, each.client)).collect()
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
