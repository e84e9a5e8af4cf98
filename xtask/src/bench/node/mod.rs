//! What a node does with containers, beside the programs that others do it with. A file a family of rows; each measures
//! its own and its peers' in turns, so that what else the machine does meets all alike, and prints its [`Samples`].

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{Build, rule};

mod lives;
mod peers;
mod pods;

/// Runs all rows.
///
/// # Errors
/// When a program cannot be installed or started, or a life ends badly.
pub fn run(root: &Path, build: Build) -> Result<()> {
    // First what is measured in milliseconds: what hundreds of pods leave to the file system would be counted too.
    lives::run(root, build)?;
    pods::run(root, build)
}

/// How long one thing took, many times.
struct Samples {
    what: String,
    times: Vec<Duration>,
}

impl Samples {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), times: Vec::new() }
    }

    /// The time that this part of them (of 1000) did not take longer than; zero where there are none.
    fn at(&self, thousandth: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len() * thousandth / 1000).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.at(500)
    }
}

/// Prints rows, and the medians of the first as ratios to each peer's.
fn print(title: &str, rows: &[&Samples], peers: &[&Samples]) {
    println!("\n{title}");
    rule();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for row in rows.iter().chain(peers) {
        let ratios = peers.iter().filter(|_| !peers.iter().any(|peer| std::ptr::eq(*peer, *row)));
        let ratios = ratios.map(|peer| {
            let name = peer.what.split(' ').next().unwrap_or_default();
            format!("{:.2} x {name}", row.median().as_secs_f64() / peer.median().as_secs_f64())
        });
        let ratios = ratios.collect::<Vec<_>>().join(", ");
        println!(
            "{:<58} p50 {:>7.1} ms  p99 {:>7.1} ms  {ratios}",
            row.what,
            ms(row.median()),
            ms(row.at(990))
        );
    }
}
