//! The demo's container image: one small static program of the workspace, `examples/hello`, and nothing else.

use anyhow::{Context, Result};
use images::{ImageBuilder, Reference};

use crate::image;
use crate::layout::Layout;

/// The program, compiled by this crate's build script.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));

/// Builds the image and brings it into the node's store under `name`; returns the program's size in bytes.
///
/// # Errors
/// When the store cannot be written.
pub fn import(layout: &Layout, name: &str) -> Result<usize> {
    let name: Reference = name.parse().context("the image's name")?;
    let image = ImageBuilder::new().file("/hello", 0o755, PROGRAM).entrypoint(["/hello"]).user("65532:65532");
    let folder = tempfile::tempdir().context("making a directory")?;
    image.build(&name)?.write_layout(folder.path())?;
    image::open(layout)?.import(folder.path(), None)?;
    Ok(PROGRAM.len())
}
