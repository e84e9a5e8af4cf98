//! Reads the house as it stands: the workspace's crates, the arrows between them and their sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One crate of `crates/`.
#[derive(Clone, Debug)]
pub struct Room {
    /// Folder and crate name.
    pub name: String,
    /// Direct dependencies that reach a user (normal and build), by name.
    pub dependencies: Vec<String>,
    /// Cargo features it declares.
    pub features: Vec<String>,
    /// Its files under `src/`.
    pub sources: Vec<Source>,
}

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path relative to the crate's `src/`.
    pub path: PathBuf,
    /// Its lines with comments and string contents blanked out and unit tests cut off.
    pub code: Vec<String>,
}

/// All crates of `crates/` in the workspace at `root`, read without touching the network.
pub fn read(root: &Path) -> Result<Vec<Room>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let mut rooms = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let Some(folder) = manifest.parent() else { continue };
        if folder.parent().and_then(Path::file_name) != Some("crates".as_ref()) {
            continue;
        }
        rooms.push(read_room(package, folder)?);
    }
    rooms.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rooms)
}

fn read_room(package: &Value, folder: &Path) -> Result<Room> {
    let name = package["name"].as_str().unwrap_or_default().to_owned();
    if folder.file_name().and_then(|n| n.to_str()) != Some(&name) {
        bail!("crate {name} lives in {}: folder and crate name must be the same", folder.display());
    }
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let dependencies = all
        .iter()
        .filter(|d| d["kind"].as_str() != Some("dev"))
        .filter_map(|d| d["name"].as_str().map(str::to_owned))
        .collect();
    let features = package["features"].as_object().map(|f| f.keys().cloned().collect()).unwrap_or_default();
    let src = folder.join("src");
    let mut sources = Vec::new();
    read_sources(&src, &src, &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Room { name, dependencies, features, sources })
}

fn read_sources(folder: &Path, src: &Path, found: &mut Vec<Source>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, src, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            found.push(Source { path: path.strip_prefix(src)?.to_owned(), code: blank(&text) });
        }
    }
    Ok(())
}

/// The file's lines without line comments, string contents and what follows `#[cfg(test)]`: what the rules look at.
/// A scan, not a parser: good enough for words that have no business in a file at all.
pub fn blank(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        let mut kept = String::with_capacity(line.len());
        let mut characters = line.chars().peekable();
        let mut in_string = false;
        while let Some(c) = characters.next() {
            match c {
                '\\' if in_string => {
                    characters.next();
                }
                '"' => {
                    in_string = !in_string;
                    kept.push('"');
                }
                '/' if !in_string && characters.peek() == Some(&'/') => break,
                c if !in_string => kept.push(c),
                _ => {}
            }
        }
        lines.push(kept);
    }
    lines
}
