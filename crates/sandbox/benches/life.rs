//! A container's whole life, and a sandbox's; beside crun and runc where they are installed. `cargo bench -p sandbox`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // figures go to the terminal
#![allow(dead_code)] // the machine is the tests'

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use runtime::Runtime;

#[path = "../tests/it/machine.rs"]
mod machine;

const TIMES: usize = 60;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    machine::with_machine(async |machine| {
        let runtime = &machine.runtime;
        let mut sandboxes = Vec::new();
        for _ in 0..TIMES / 3 {
            let began = Instant::now();
            let id = machine.run_sandbox().await;
            sandboxes.push(began.elapsed());
            runtime.remove_sandbox(&id).await.unwrap();
        }
        println!("sandbox, run:                {:>9.2?}", median(sandboxes));

        let sandbox = machine.run_sandbox().await;
        let mut steps = [const { Vec::new() }; 5];
        for _ in 0..TIMES {
            let began = Instant::now();
            let id = runtime.create_container(&sandbox, machine::shell("true")).await.unwrap();
            let created = Instant::now();
            runtime.start_container(&id).await.unwrap();
            let started = Instant::now();
            machine.ended(&id).await;
            let ended = Instant::now();
            runtime.remove_container(&id).await.unwrap();
            let took =
                [created - began, started - created, ended - started, ended.elapsed(), began.elapsed()];
            steps.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
        for (name, times) in ["create", "start", "end", "delete", "whole life"].into_iter().zip(steps) {
            println!("container, {name:<17} {:>9.2?}", median(times));
        }
        println!("shim memory: {}", memory(&machine, &sandbox));
        for program in ["crun", "runc"] {
            match other(program, machine.directory.path()) {
                Some(took) => println!("{program}, whole life:            {took:>9.2?}"),
                None => println!("{program}: not here, or refuses this machine"),
            }
        }
    });
}

/// What the shim of a sandbox holds, in the kernel's words.
fn memory(machine: &machine::Machine, sandbox: &str) -> String {
    let path = machine.directory.path().join("state/sandboxes").join(sandbox).join("shim.json");
    let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim["pid"])).unwrap();
    let wanted = ["Rss:", "Pss:", "Private_Clean:", "Private_Dirty:", "Anonymous:"];
    let lines = rollup.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}

/// `run` of another runtime, with the same root file system and command, in a mount namespace without the hybrid
/// layout's v2 tree, which crun refuses.
fn other(program: &str, directory: &Path) -> Option<Duration> {
    let bundle = directory.join(program);
    std::fs::create_dir_all(bundle.join("rootfs/bin")).ok()?;
    for name in ["busybox", "true", "sh"] {
        std::fs::copy("/bin/busybox", bundle.join("rootfs/bin").join(name)).ok()?;
    }
    Command::new(program).arg("spec").current_dir(&bundle).output().ok()?;
    let text = std::fs::read_to_string(bundle.join("config.json")).ok()?;
    let mut spec: serde_json::Value = serde_json::from_str(&text).ok()?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = ["/bin/sh", "-c", "true"].as_slice().into();
    std::fs::write(bundle.join("config.json"), spec.to_string()).ok()?;
    let script =
        "umount /sys/fs/cgroup/unified 2>/dev/null; for n in $(seq 20); do $0 run x$n || exit 1; done";
    let began = Instant::now();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, program])
        .current_dir(&bundle)
        .output()
        .ok()?;
    output.status.success().then(|| began.elapsed() / 20)
}
