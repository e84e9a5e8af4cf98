//! `cargo xtask soak`: what takes too long for every change. Kill storms over a whole plane, fuzzing, simulated histories, and
//! property tests with many more cases.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use harness::{Plane, eventually, send};

use crate::{fuzz, tools};

mod storm;
mod wireguard;

/// A soak.
#[derive(Clone, Debug, Subcommand)]
pub enum Soak {
    /// SIGKILL random processes of a plane under load; nothing acknowledged may be lost, nothing durable done twice
    Kill {
        /// How many kills
        #[arg(long, default_value_t = 40)]
        rounds: u32,
        /// Seed of the choice [default: the time]
        #[arg(long)]
        seed: Option<u64>,
    },
    /// SIGKILL the server, and with etcd its members, under load; nothing that was acknowledged may be lost
    Store {
        /// How many kills on each kind of store
        #[arg(long, default_value_t = 500)]
        rounds: u32,
        /// Which; both when none is named
        backends: Vec<storm::Backend>,
        /// Seed of the choice [default: the time]
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Feed the targets of `fuzz/` with bytes that nobody would send
    Fuzz {
        /// Which targets; all when none is named
        targets: Vec<String>,
        /// Seconds a target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Live whole histories of the control plane in simulated time, one a seed; a single seed prints its steps
    Simulate {
        /// How many seeds
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// The first
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Lead pods to those of other machines in a virtual machine whose kernel has WireGuard
    Wireguard,
    /// Run every property test with this many cases, or as many times more than usual as that is
    Cases {
        /// Cases a property
        #[arg(long, default_value_t = 2_000)]
        cases: u32,
    },
}

/// Runs one.
///
/// # Errors
/// When something was lost, or done twice.
pub fn run(root: &Path, soak: &Soak) -> Result<()> {
    match soak {
        Soak::Fuzz { targets, seconds } => fuzz::run(root, targets, *seconds),
        Soak::Kill { rounds, seed } => {
            tools::install(root)?;
            tools::run(tools::cargo().args(["build", "--release", "-p", "monoplane"]).current_dir(root))?;
            kill(root, *rounds, seed.unwrap_or_else(by_time))
        }
        Soak::Store { rounds, backends, seed } => {
            tools::install(root)?;
            tools::run(tools::cargo().args(["build", "--release", "-p", "monoplane"]).current_dir(root))?;
            storm::run(root, backends, *rounds, seed.unwrap_or_else(by_time))
        }
        Soak::Simulate { seeds, from } => tools::run(
            tools::cargo()
                .args(["run", "--quiet", "--release", "-p", "simulator", "--bin", "simulate", "--"])
                .args(["--seeds", &seeds.to_string(), "--from", &from.to_string()])
                .current_dir(root),
        ),
        Soak::Wireguard => wireguard::run(root),
        Soak::Cases { cases } => tools::run(
            tools::cargo()
                .args([
                    "nextest",
                    "run",
                    "--profile",
                    "soak",
                    "--workspace",
                    "--exclude",
                    "monoplane",
                    "--no-fail-fast",
                ])
                .env("PROPTEST_CASES", cases.to_string())
                .env("MONOPLANE_TOOLS", tools::folder(root))
                .current_dir(root),
        ),
    }
}

fn by_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| u64::from(d.subsec_nanos()) | 1)
}

/// Numbers that look random (xorshift), so that a seed replays the choice of kills.
pub struct Dice(pub u64);

impl Dice {
    /// One of so many.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn kill(root: &Path, rounds: u32, seed: u64) -> Result<()> {
    println!("seed {seed}");
    let binary = root.join("target/release/monoplane");
    let mut plane = Plane::start(binary.to_str().context("a path that is no text")?, &["--disable", "node"]);
    let guest = std::fs::read(root.join("examples/order/order.wasm"))?;
    plane.apply("apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {name: orders}\nspec: {embedded: {}}\n");
    let rest = "  keyValue: [{name: default, store: orders}]\n  durable: {suspendAfter: 500ms}\n";
    plane.apply(&harness::component("order", "order.soak", &guest, rest));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "component/order", "--timeout=60s"]);

    let (written, ordered) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let mut dice = Dice(seed);
    let started = Instant::now();
    for round in 0..rounds {
        let done = AtomicBool::new(false);
        let victim = ["server", "edge", "everything"][usize::try_from(dice.below(3))?];
        let pause = Duration::from_millis(200 + dice.below(1500));
        std::thread::scope(|scope| {
            scope.spawn(|| write(&plane, round, &done, &written));
            scope.spawn(|| order(&plane, round, &done, &ordered));
            std::thread::sleep(pause);
            match victim {
                "everything" => {
                    ["up", "server", "edge"].iter().for_each(|role| harness::kill(plane.pid(role), 9))
                }
                role => harness::kill(plane.pid(role), 9),
            }
            done.store(true, Ordering::Relaxed);
        });
        if victim == "everything" {
            plane.revive();
        }
        plane.wait_until_up();
        let (objects, orders) =
            (written.lock().map_or(0, |w| w.len()), ordered.lock().map_or(0, |o| o.len()));
        println!(
            "round {round:>3}: killed {victim:<10} {objects} objects and {orders} orders acknowledged so far"
        );
    }
    verify(&plane, &written, &ordered)?;
    println!("{rounds} kills in {:.0} s: nothing lost, nothing done twice", started.elapsed().as_secs_f64());
    Ok(())
}

fn write(plane: &Plane, round: u32, done: &AtomicBool, written: &Mutex<BTreeSet<String>>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("soak-{round}-{number}");
        if plane.kubectl(&["create", "configmap", &name, "--request-timeout=5s"]).ok
            && let Ok(mut written) = written.lock()
        {
            written.insert(format!("configmap/{name}"));
        }
    }
}

fn order(plane: &Plane, round: u32, done: &AtomicBool, ordered: &Mutex<BTreeSet<String>>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{round}-{number}");
        let headers = [&*format!("idempotency-key: {id}"), "prefer: respond-async"];
        let body = r#"{"item":"soak","sleepSeconds":1}"#;
        let answer = send(&plane.endpoint("gateway"), "order.soak", "POST", "/orders", &headers, body);
        if answer.is_some_and(|a| a.status == 202)
            && let Ok(mut ordered) = ordered.lock()
        {
            ordered.insert(id);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that was written is listed; and something was written, or nothing was tried.
fn nothing_lost(written: &BTreeSet<String>, listed: &str) -> Result<()> {
    ensure!(!written.is_empty(), "no object was acknowledged: nothing was tested");
    let listed: BTreeSet<&str> = listed.lines().collect();
    let lost: Vec<&String> = written.iter().filter(|name| !listed.contains(name.as_str())).collect();
    ensure!(lost.is_empty(), "{} acknowledged objects are gone: {lost:?}", lost.len());
    Ok(())
}

fn verify(plane: &Plane, written: &Mutex<BTreeSet<String>>, ordered: &Mutex<BTreeSet<String>>) -> Result<()> {
    let listed = plane.kubectl_ok(&["get", "configmaps", "-o", "name"]);
    nothing_lost(&*written.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?, &listed)?;
    let ordered = ordered.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    ensure!(!ordered.is_empty(), "no order was acknowledged: nothing was tested");
    for id in ordered.iter() {
        let counts = eventually(&format!("order {id} is confirmed"), || {
            let path = format!("/orders/{id}");
            let answer = send(&plane.endpoint("gateway"), "order.soak", "GET", &path, &[], "")?;
            let counts: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
            (counts["confirmed"].as_i64()? >= 1).then_some(counts)
        });
        ensure!(counts["placed"] == 1 && counts["confirmed"] == 1, "order {id}: {counts}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_that_wrote_nothing_has_shown_nothing() {
        let written = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert!(nothing_lost(&written(&[]), "configmap/a").is_err());
        assert!(nothing_lost(&written(&["configmap/a", "configmap/b"]), "configmap/a").is_err());
        assert!(nothing_lost(&written(&["configmap/a"]), "configmap/other\nconfigmap/a").is_ok());
    }
}
