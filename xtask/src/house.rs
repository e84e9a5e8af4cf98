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

/// The file's lines without line comments, string contents and what is compiled for tests alone: what the rules look at.
/// Unit tests in the file end it; another item of tests leaves empty lines, so that lines keep their numbers.
/// A scan, not a parser: good enough for words that have no business in a file at all.
pub fn blank(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut skipping = None;
    for line in text.lines().map(without_words) {
        let Some(item) = &mut skipping else {
            if line.trim_start().starts_with("#[cfg(test)]") {
                skipping = Some(Item::default());
                lines.push(String::new());
            } else {
                lines.push(line);
            }
            continue;
        };
        if item.begins_a_module(&line) {
            // The line of the attribute goes too.
            lines.pop();
            break;
        }
        lines.push(String::new());
        if item.ends_with(&line) {
            skipping = None;
        }
    }
    lines
}

/// An item that is being skipped.
#[derive(Default)]
struct Item {
    begun: bool,
    depth: i32,
}

impl Item {
    /// Whether it is `mod … {`, of which this is the first line.
    fn begins_a_module(&self, line: &str) -> bool {
        let line = line.trim();
        let named = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        !self.begun && named.starts_with("mod ") && line.contains('{')
    }

    /// Takes a line of it in; whether that was the last.
    fn ends_with(&mut self, line: &str) -> bool {
        let line = line.trim();
        if !self.begun && line.starts_with("#[") {
            return false;
        }
        self.begun = true;
        let mut braced = false;
        for c in line.chars() {
            match c {
                '{' | '(' | '[' => self.depth += 1,
                '}' | ')' | ']' => self.depth -= 1,
                _ => {}
            }
            braced |= c == '}';
        }
        self.depth <= 0 && (braced || line.ends_with(';') || line.ends_with(','))
    }
}

fn without_words(line: &str) -> String {
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
    kept
}
