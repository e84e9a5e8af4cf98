//! `cargo xtask bench`: the figures of the README, each beside a peer or a limit measured in the same run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::tools;
use wrk::Found;

pub mod api;
mod components;
mod gateway;
mod hop;
mod idle;
mod nginx;
mod node;
mod scale;
mod scheduler;
mod unpack;
mod watch;
mod wrk;

/// A family of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// Creates, gets and lists over TLS
    Api,
    /// How late a thousand watchers learn of a change
    Watch,
    /// A large cluster's objects: memory, and the time back after SIGKILL
    Scale,
    /// Pods to 5,000 nodes: per second, by what they ask of one another
    Scheduler,
    /// Components through the gateway, beside wasmtime serve and bare hyper
    Components,
    /// A Service through an Ingress, beside nginx as a reverse proxy
    Gateway,
    /// From pod to pod, directly and by way of a Service
    Hop,
    /// Start, memory and CPU at rest
    Idle,
    /// Images from a directory and a registry to unpacked layers, beside skopeo and umoci
    Unpack,
    /// Containers' lives and shims' memory, beside runc and crun
    Node,
    /// Micro-benchmarks (`cargo bench`): instantiation, the registry, the engines
    Micro,
}

/// Which build is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What users run.
    Release,
    /// To see that a benchmark runs: its figures mean nothing.
    Dev,
}

impl Build {
    /// Words for `cargo bench`, whose own profile is as `release`.
    fn profile(self) -> &'static [&'static str] {
        match self {
            Build::Release => &[],
            Build::Dev => &["--profile", "dev"],
        }
    }

    fn binary(self, root: &Path) -> Result<String> {
        let folder = if self == Build::Release { "release" } else { "debug" };
        let path = root.join("target").join(folder).join("monoplane");
        path.to_str().map(str::to_owned).context("a path that is no text")
    }
}

/// Runs the families, all of them when none is named; of the scheduler's figures only one, when that is named.
///
/// # Errors
/// When a server cannot be started, or answers wrongly.
pub fn run(root: &Path, families: &[Family], seconds: u32, only: Option<&str>, build: Build) -> Result<()> {
    ensure!(only.is_none() || families == [Family::Scheduler], "only `scheduler` has figures to choose from");
    tools::install(root)?;
    let wanted = |family| families.is_empty() || families.contains(&family);
    if wanted(Family::Hop) {
        apart(Family::Hop, seconds)?;
    }
    if families == [Family::Hop] {
        return Ok(());
    }
    ensure!(build == Build::Release || families == [Family::Node], "only `node` runs with the dev build");
    let profile: &[&str] = if build == Build::Release { &["--release"] } else { &[] };
    tools::run(tools::cargo().args(["build", "-p", "monoplane"]).args(profile).current_dir(root))?;
    if wanted(Family::Node) {
        node::run(root, build)?;
    }
    if wanted(Family::Idle) {
        idle::run(root, seconds.max(10) * 6)?;
    }
    if wanted(Family::Api) {
        api::run(root, seconds)?;
    }
    if wanted(Family::Watch) {
        optimised(root, Family::Watch, seconds, None)?;
    }
    if wanted(Family::Scale) {
        optimised(root, Family::Scale, seconds, None)?;
    }
    if wanted(Family::Scheduler) {
        optimised(root, Family::Scheduler, seconds, only)?;
    }
    if wanted(Family::Components) {
        components::run(root, seconds)?;
    }
    if wanted(Family::Gateway) {
        apart(Family::Gateway, seconds)?;
    }
    if wanted(Family::Unpack) {
        unpack::run(root, seconds.clamp(1, 3))?;
    }
    if wanted(Family::Micro) {
        tools::run(tools::cargo().args(["bench", "--workspace"]).current_dir(root))?;
    }
    Ok(())
}

/// Runs a family in a network namespace of its own: nothing of it touches the machine's network or is left of it.
fn apart(family: Family, seconds: u32) -> Result<()> {
    let name = family.to_possible_value().context("a family without a name")?;
    let mut inside = Command::new("unshare");
    inside.arg("--net").arg(std::env::current_exe()?).args(["inside", name.get_name()]);
    tools::run(inside.args(["--seconds", &seconds.to_string()]))
}

/// Runs a family whose load this program makes itself from a release build of it, which leaves the processors to what is measured.
fn optimised(root: &Path, family: Family, seconds: u32, only: Option<&str>) -> Result<()> {
    tools::run(tools::cargo().args(["build", "--release", "-p", "xtask"]).current_dir(root))?;
    let name = family.to_possible_value().context("a family without a name")?;
    let mut inside = Command::new(root.join("target/release/xtask"));
    inside.args(["inside", name.get_name(), "--seconds", &seconds.to_string()]);
    tools::run(inside.args(only.into_iter().flat_map(|only| ["--only", only])))
}

/// What [`apart`] and [`optimised`] run.
///
/// # Errors
/// As [`run`]'s.
pub fn inside(root: &Path, family: Family, seconds: u32, only: Option<&str>) -> Result<()> {
    match family {
        Family::Hop => loopback().and_then(|()| hop::measure(seconds)),
        Family::Gateway => loopback().and_then(|()| gateway::run(root, seconds)),
        Family::Watch => watch::run(root, seconds),
        Family::Scale => scale::run(root),
        Family::Scheduler => scheduler::run(root, only),
        other => bail!("{other:?} runs in the program that was asked for it"),
    }
}

/// Brings up the one interface that a new network namespace has.
fn loopback() -> Result<()> {
    tools::run(Command::new("ip").args(["link", "set", "lo", "up"]))
}

fn binary(root: &Path) -> Result<String> {
    Build::Release.binary(root)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Lets the unprivileged roles read a file that a benchmark made.
fn readable(folder: &Path, file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))?)
}

fn rule() {
    println!("{}", "-".repeat(110));
}

/// Rates side by side.
struct Table {
    title: &'static str,
    rows: Vec<String>,
}

impl Table {
    fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    fn row(&mut self, what: &str, found: &Found, beside: Option<(&str, f64)>) {
        let ratio =
            beside.map(|(peer, rate)| format!("{:.2} x {peer}", found.rate / rate)).unwrap_or_default();
        self.beside(what, found, &ratio);
    }

    /// A row with a ratio that its caller worked out.
    fn beside(&mut self, what: &str, found: &Found, ratio: &str) {
        // A row without a name is another ratio of the one above.
        self.rows.push(match what {
            "" => format!("{:<66} {:>10}  {:<27} {ratio}", "", "", ""),
            _ => format!(
                "{what:<66} {:>8.0}/s  p50 {:<9} p99 {:<9} {ratio}",
                found.rate, found.median, found.high
            ),
        });
    }

    fn print(&self) {
        println!("\n{}", self.title);
        rule();
        for row in &self.rows {
            println!("{row}");
        }
    }
}
