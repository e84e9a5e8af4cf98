//! `cargo xtask soak fuzz`: builds the targets of `fuzz/` with libFuzzer and runs one after the other.
//!
//! The instruments are those of the compiler's own optimiser, which a stable one has too; they go into everything that runs
//! on the target, so that build has a directory of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tools;

/// What libFuzzer needs to see which way an input takes.
const INSTRUMENTS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Runs these targets, or all, for so many seconds each.
///
/// # Errors
/// When a target finds something; the input lies in `fuzz/artifacts`.
pub fn run(root: &Path, targets: &[String], seconds: u32) -> Result<()> {
    let folder = root.join("fuzz");
    let all = all(&folder)?;
    for target in targets {
        ensure!(all.contains(target), "there is no target {target}; there are {}", all.join(", "));
    }
    // Of the versions that the program has.
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("copying Cargo.lock")?;
    let host = host()?;
    let mut build = tools::cargo();
    build.args(["build", "--release", "--target", &host]);
    build.args(targets.iter().map(|target| format!("--bin={target}")));
    tools::run(build.env("RUSTFLAGS", INSTRUMENTS).env_remove("CARGO_TARGET_DIR").current_dir(&folder))?;
    let (mut found, chosen) = (Vec::new(), if targets.is_empty() { &all[..] } else { targets });
    for target in chosen {
        println!("{target}: {seconds} s");
        if let Err(error) = fuzz(&folder, &host, target, seconds) {
            eprintln!("{target}: {error:#}");
            found.push(target.as_str());
        }
    }
    ensure!(found.is_empty(), "{} found something: see fuzz/artifacts", found.join(", "));
    Ok(())
}

/// The names of the targets.
fn all(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The machine's own triple.
fn host() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").output().context("starting rustc")?;
    let said = String::from_utf8(said.stdout)?;
    let line = said.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc does not say what it compiles for")
}

fn fuzz(folder: &Path, host: &str, target: &str, seconds: u32) -> Result<()> {
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| folder.join(kind).join(target));
    for directory in [&corpus, &artifacts] {
        std::fs::create_dir_all(directory)?;
    }
    let mut command = Command::new(folder.join("target").join(host).join("release").join(target));
    command.arg(&corpus);
    let seeds = folder.join("seeds").join(target);
    if seeds.exists() {
        command.arg(seeds);
    }
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_total_time={seconds}"));
    command.args([
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-max_len=16384",
        "-verbosity=0",
        "-print_final_stats=1",
    ]);
    // Some inputs become files each, which no disk has to keep.
    if Path::new("/dev/shm").is_dir() {
        command.env("TMPDIR", "/dev/shm");
    }
    tools::run(command.current_dir(folder))
}
