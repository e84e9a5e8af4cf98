//! `cargo xtask test`: every test of the house, and what they need.

use std::path::Path;

use anyhow::Result;

use crate::{layers, tools};

/// Installs what is missing, checks the arrows, runs all tests.
///
/// In the dev profile, which builds in a third of the time; `bench` and `soak` run the optimised binary. Benchmarks
/// are left to clippy.
///
/// # Errors
/// At the first thing that fails.
pub fn run(root: &Path, filter: &[String]) -> Result<()> {
    tools::install(root)?;
    print!("layers: {}", layers::run(root)?);
    tools::run(
        tools::cargo()
            .args(["nextest", "run", "--workspace", "--no-fail-fast"])
            .args(filter)
            .env("MONOPLANE_TOOLS", tools::folder(root))
            .current_dir(root),
    )
}
