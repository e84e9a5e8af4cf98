//! A Redis server of the test's own, on a free loopback port, without persistence.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use capabilities::{KeyValue, Redis};
use egress::{Connector, Policy};

pub struct RedisServer {
    child: Option<Child>,
    port: u16,
    directory: tempfile::TempDir,
}

impl RedisServer {
    pub async fn start() -> Self {
        // Free now; should somebody take it before the server does, the server ends and another one is tried.
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Self { child: None, port, directory: tempfile::tempdir().unwrap() };
            server.spawn();
            if server.answers().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    fn spawn(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need the program redis-server (Debian: apt-get install redis-server)");
        self.child = Some(child);
    }

    async fn answers(&mut self) -> bool {
        for _ in 0..500 {
            if self.store("").check().await.is_ok() {
                return true;
            }
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_some()
            {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.spawn();
        assert!(self.answers().await, "redis-server does not start again");
    }

    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn egress(&self) -> Connector {
        Connector::new(Policy { allow: vec!["127.0.0.1".parse().unwrap()], ..Policy::default() })
    }

    pub fn store(&self, prefix: &str) -> Arc<dyn KeyValue> {
        Arc::new(Redis::new(&self.address(), prefix, self.egress()).unwrap())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
