//! `cargo xtask docs`: writes the generated part of docs/kubernetes.md. The server says what it serves; a test of `apiserver`
//! fails when the page says something else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tools;

const PAGE: &str = "docs/kubernetes.md";
/// What is between these lines is generated.
const BEGIN: &str = "<!-- made by `cargo xtask docs` -->\n";
const END: &str = "<!-- end -->\n";

/// Writes it.
///
/// # Errors
/// When the server does not start, or the page has no place for it.
pub fn run(root: &Path) -> Result<()> {
    let mut ask: Command = tools::cargo();
    ask.args(["run", "--quiet", "-p", "apiserver", "--example", "served"]).current_dir(root);
    let said = ask.output().context("starting the API server")?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let section = String::from_utf8(said.stdout)?;
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END:?}"))?;
    std::fs::write(&path, format!("{before}{BEGIN}{section}{END}{after}"))?;
    Ok(())
}
