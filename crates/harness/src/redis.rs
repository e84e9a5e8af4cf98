//! A real Redis server.

use crate::wait::eventually;

/// A Redis server on a free port of loopback, without persistence. Dropping it ends it.
pub struct Redis {
    /// Its port.
    pub port: u16,
    child: std::process::Child,
}

impl Redis {
    /// Starts it and waits until it listens.
    pub fn start() -> Self {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let child = std::process::Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("redis-server runs: `cargo xtask tools` installs it");
        eventually("redis listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, child }
    }

    /// Sends one line of a command, and waits for the answer.
    pub fn say(&self, command: &str) {
        use std::io::{BufRead, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("redis");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("redis");
        let mut answer = String::new();
        std::io::BufReader::new(stream).read_line(&mut answer).expect("redis");
        assert!(answer.starts_with('+'), "{command}: {answer}");
    }

    /// How many keys it holds.
    pub fn keys(&self) -> u64 {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("redis");
        stream.write_all(b"DBSIZE\r\n").expect("redis");
        let mut answer = [0; 64];
        let n = stream.read(&mut answer).expect("redis");
        String::from_utf8_lossy(&answer[..n]).trim_start_matches(':').trim().parse().expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
