//! What the plane costs when nothing happens, and how long it takes to start.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::Plane;

use super::{binary, rule};

/// Starts a whole plane, waits for its node, lets it be for `seconds`, and reads what it used.
///
/// # Errors
/// When the plane does not start, or /proc cannot be read.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    println!("\nstart and idle, server, node and edge together");
    rule();
    let started = Instant::now();
    let plane = Plane::start(&binary(root)?, &[]);
    let serving = started.elapsed();
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "node/test-node", "--timeout=60s"]);
    println!("{:<72} {:>9.0} ms", "process start to every role serving", serving.as_secs_f64() * 1e3);
    let transition = plane.kubectl_ok(&[
        "get",
        "node",
        "test-node",
        "-o",
        "jsonpath={.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}",
    ]);
    println!("{:<72} {transition}", "the node Ready since");
    let pids: Vec<u32> = ["up", "server", "node", "edge"].map(|role| plane.pid(role)).to_vec();
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu(&pids)?;
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let used = cpu(&pids)? - before;
    let mut total = 0;
    for (role, pid) in ["up", "server", "node", "edge"].iter().zip(&pids) {
        let pss = pss(*pid)?;
        total += pss;
        println!("{:<72} {:>9.1} MB", format!("memory of {role} (PSS)"), mb(pss));
    }
    println!("{:<72} {:>9.1} MB", "memory of all roles (sum of PSS)", mb(total));
    println!(
        "{:<72} {:>9.2} %",
        format!("CPU of all roles over {seconds} s, of one core"),
        used / f64::from(seconds) * 100.0
    );
    Ok(())
}

fn mb(kib: u64) -> f64 {
    Duration::from_micros(kib * 1024).as_secs_f64()
}

/// Proportional set size in KiB.
fn pss(pid: u32) -> Result<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("reading smaps_rollup")?;
    let line = text.lines().find(|l| l.starts_with("Pss:")).context("no Pss")?;
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).context("no number")
}

/// Seconds of CPU time that the processes have used, from their schedulers' own nanoseconds, all threads.
pub(super) fn cpu(pids: &[u32]) -> Result<f64> {
    let mut nanoseconds = 0_u64;
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}
