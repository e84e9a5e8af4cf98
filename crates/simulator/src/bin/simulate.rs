//! Runs seeds, and prints the steps of those that fail.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use simulator::{Sabotage, simulate};

/// What to run.
#[derive(Debug, Parser)]
struct Flags {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first; a single seed prints its steps
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many at once
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Print the hash of the steps of each
    #[arg(long)]
    hashes: bool,
    /// With a bug on purpose
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    let (next, failed) = (AtomicU64::new(flags.from), AtomicU64::new(0));
    let (end, began) = (flags.from.saturating_add(flags.seeds), Instant::now());
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let run = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return Ok(());
                }
                failed.fetch_add(u64::from(!passes(seed, &flags)?), Ordering::Relaxed);
            }
        };
        let threads: Vec<_> = (0..flags.threads.min(flags.seeds)).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|outcome| outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("a simulation panicked"))))
            .collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    let (failed, took) = (failed.into_inner(), began.elapsed().as_secs_f64());
    say(&format!("{} seeds in {took:.1} s, {failed} failed", flags.seeds));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn passes(seed: u64, flags: &Flags) -> Result<bool> {
    let outcome = simulate(seed, flags.sabotage)?;
    if flags.seeds == 1 {
        outcome.trace.iter().for_each(|line| say(line));
    }
    if flags.hashes || flags.seeds == 1 {
        say(&format!("seed {seed}: {}", outcome.hash));
    }
    match &outcome.violation {
        None => Ok(true),
        Some(violation) => {
            say(&format!("seed {seed} failed: {violation}"));
            say(&format!("  replay: cargo xtask soak simulate --seeds 1 --from {seed}"));
            Ok(false)
        }
    }
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
