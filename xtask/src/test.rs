//! `cargo xtask test`: every test of the house, and what they need.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{layers, tools};

/// Installs what is missing, checks the arrows, runs all tests.
///
/// One profile for everything: the whole-system tests drive the binary that users get, and the crates are built once.
///
/// # Errors
/// At the first thing that fails.
pub fn run(root: &Path, filter: &[String]) -> Result<()> {
    tools::install(root)?;
    print!("layers: {}", layers::run(root)?);
    tools::run(
        Command::new("cargo").args(["build", "--release", "--workspace", "--bins"]).current_dir(root),
    )?;
    tools::run(
        Command::new("cargo")
            .args(["nextest", "run", "--release", "--workspace", "--no-fail-fast"])
            .args(filter)
            .env("MONOPLANE_TOOLS", tools::folder(root))
            .current_dir(root),
    )
}
