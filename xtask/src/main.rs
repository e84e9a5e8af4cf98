//! `cargo xtask`: everything a developer of Monoplane does besides `cargo build`. Start with `cargo xtask --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod api;
mod bench;
mod docs;
mod fuzz;
mod guests;
mod house;
mod layers;
mod paths;
mod schemas;
mod soak;
mod test;
mod tools;
mod wheel;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Develop Monoplane: tests, rules of the house, benchmarks, generated files"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test, installing what they need first
    Test {
        /// Words for `cargo nextest run`, a test's name for instance
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        filter: Vec<String>,
    },
    /// Measure the figures of the README, each beside a peer or a limit
    Bench {
        /// Which figures; all when none is named
        families: Vec<bench::Family>,
        /// Seconds of load a figure
        #[arg(long, default_value_t = 8)]
        seconds: u32,
        /// Of `scheduler`, only the figure of this name: leases, plain, affinity, anti-affinity, spread or deployment
        #[arg(long)]
        only: Option<String>,
        /// Take the dev build, to see that a benchmark runs; its figures mean nothing
        #[arg(long)]
        dev: bool,
    },
    /// The part of a benchmark that runs in a network namespace of its own, or in a release build of this program
    #[command(hide = true)]
    Inside {
        /// Which
        family: bench::Family,
        /// Seconds of load a figure
        #[arg(long)]
        seconds: u32,
        /// Only the figure of this name
        #[arg(long)]
        only: Option<String>,
    },
    /// What takes too long for every change: kill storms, fuzzing, property tests with many cases
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Bring kubectl, helm, etcd, Redis and what else the tests need into target/tools
    Tools,
    /// Build the example guests, or compare the checked-in ones with a fresh build
    Guests {
        /// Compare, do not write
        #[arg(long)]
        check: bool,
    },
    /// Make the table of Kubernetes' own schemas, or compare the checked-in one with a fresh one
    Schemas {
        /// Compare, do not write
        #[arg(long)]
        check: bool,
    },
    /// Make the table of the paths and verbs that Kubernetes serves, or compare the checked-in one with a fresh one
    Paths {
        /// Compare, do not write
        #[arg(long)]
        check: bool,
    },
    /// Write what docs/kubernetes.md says of every path anew (a test says when it is stale)
    Docs,
    /// Fail on an arrow or a word that ARCHITECTURE.md forbids
    Layers {
        /// The workspace to check
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    match Arguments::parse().command {
        Task::Test { filter } => test::run(root, &filter)?,
        Task::Bench { families, seconds, only, dev } => {
            let build = if dev { bench::Build::Dev } else { bench::Build::Release };
            bench::run(root, &families, seconds, only.as_deref(), build)?;
        }
        Task::Inside { family, seconds, only } => bench::inside(root, family, seconds, only.as_deref())?,
        Task::Soak(soak) => soak::run(root, &soak)?,
        Task::Tools => tools::install(root)?,
        Task::Guests { check } => guests::run(check)?,
        Task::Schemas { check } => schemas::run(root, check)?,
        Task::Paths { check } => paths::run(root, check)?,
        Task::Docs => docs::run(root)?,
        Task::Layers { root: other } => {
            print!("{}", layers::run(other.as_deref().unwrap_or(root))?);
        }
    }
    Ok(())
}
