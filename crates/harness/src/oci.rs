//! A real registry of images.

use std::process::{Child, Command, Stdio};

use crate::wait::eventually;

/// Debian's `docker-registry` on a free port of loopback, in memory. Dropping it ends it.
pub struct Registry {
    /// Its port.
    pub port: u16,
    child: Child,
    _directory: tempfile::TempDir,
}

/// `user`, `password`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$6uqaoHnG7Ywai7NUmycCUueSgUdGhQAazbYUMqdyUU7ibG2QpDpsK\n";

impl Registry {
    /// Starts one that gives everything to `user` with the password `password`, and nothing to anybody else.
    pub fn start() -> Self {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let directory = tempfile::tempdir().expect("a directory");
        let (config, passwords) = (directory.path().join("config.yml"), directory.path().join("htpasswd"));
        std::fs::write(&passwords, HTPASSWD).expect("a file");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{inmemory: {{}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: '{}'}}}}\n",
            passwords.display()
        );
        std::fs::write(&config, text).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry runs: `cargo xtask tools` installs it");
        eventually("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, child, _directory: directory }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
