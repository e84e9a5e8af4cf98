//! Lives of containers and sandboxes, one for each line read, as the node makes them: `cargo xtask bench node` sets them
//! beside other runtimes. `cargo bench -p sandbox` alone prints their medians.
//!
//! A line is `sandbox`, `container` or `memory`, and `machine` or `own` for whose users; the answer is one number:
//! nanoseconds of a life from creation to removal, of a new sandbox with one container or of a container in a sandbox that
//! is there; or KiB of proportional set size of a shim among ten that each hold a running container. The environment's
//! `MONOPLANE_BINARY` plays the shims as in earnest; without it a program with nothing else in it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // figures go to the terminal
#![allow(dead_code)] // the machine is the tests'

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use runtime::{ContainerConfig, Runtime, SandboxConfig, UserNamespace};

#[path = "../tests/it/machine.rs"]
mod machine;

use machine::Machine;

/// Lives of each kind, when nobody asks.
const TIMES: usize = 40;
const SHIMS: usize = 10;

fn main() {
    let served = std::env::args().any(|word| word == "--serve");
    machine::with_machine(async |machine| {
        let mut bench = Bench { machine: &machine, sandboxes: BTreeMap::new() };
        if served {
            println!("ready");
            for line in std::io::stdin().lines() {
                println!("{}", bench.figure(&line.unwrap()).await);
                std::io::stdout().flush().unwrap();
            }
            return;
        }
        for kind in ["sandbox machine", "sandbox own", "container machine", "container own"] {
            let mut times = Vec::new();
            for _ in 0..TIMES {
                times.push(bench.figure(kind).await);
            }
            times.sort_unstable();
            println!("{kind:<20} {:>7} µs", times[TIMES / 2] / 1000);
        }
        println!("shim                 {:>7} KiB", bench.figure("memory machine").await);
    });
}

struct Bench<'a> {
    machine: &'a Machine,
    /// By whose users.
    sandboxes: BTreeMap<bool, String>,
}

impl Bench<'_> {
    async fn figure(&mut self, line: &str) -> u64 {
        let own = line.ends_with(" own");
        match line.split(' ').next() {
            Some("sandbox") => self.sandbox(own).await,
            Some("container") => self.container(own).await,
            Some("memory") => self.memory(own).await,
            _ => panic!("{line:?}"),
        }
    }

    fn config(&self, own: bool) -> SandboxConfig {
        let ids = UserNamespace { base: 65536, size: 65536 };
        SandboxConfig { user_namespace: own.then_some(ids), ..self.machine.sandbox() }
    }

    async fn sandbox(&self, own: bool) -> u64 {
        let began = Instant::now();
        let sandbox = self.machine.runtime.run_sandbox(self.config(own)).await.unwrap();
        self.life(&sandbox).await;
        self.machine.runtime.remove_sandbox(&sandbox).await.unwrap();
        since(began)
    }

    async fn container(&mut self, own: bool) -> u64 {
        if !self.sandboxes.contains_key(&own) {
            let sandbox = self.machine.runtime.run_sandbox(self.config(own)).await.unwrap();
            self.sandboxes.insert(own, sandbox);
        }
        let began = Instant::now();
        self.life(&self.sandboxes[&own]).await;
        since(began)
    }

    async fn life(&self, sandbox: &str) {
        let config = ContainerConfig { command: vec!["true".into()], ..machine::shell("") };
        let id = self.machine.start_with(sandbox, config).await;
        assert_eq!(self.machine.ended(&id).await.exit_code, 0);
        self.machine.runtime.remove_container(&id).await.unwrap();
    }

    async fn memory(&self, own: bool) -> u64 {
        let mut sandboxes = Vec::new();
        for _ in 0..SHIMS {
            let sandbox = self.machine.runtime.run_sandbox(self.config(own)).await.unwrap();
            self.machine.start(&sandbox, "echo running; exec sleep 1000").await;
            sandboxes.push(sandbox);
        }
        let sizes = sandboxes.iter().map(|sandbox| self.pss(sandbox));
        let largest = sizes.max().unwrap();
        for sandbox in &sandboxes {
            self.machine.runtime.remove_sandbox(sandbox).await.unwrap();
        }
        largest
    }

    fn pss(&self, sandbox: &str) -> u64 {
        let path = self.machine.directory.path().join("state/sandboxes").join(sandbox).join("shim.json");
        let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim["pid"])).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap()
}
