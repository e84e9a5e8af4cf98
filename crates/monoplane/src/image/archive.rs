//! Images to and from files.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use images::Reference;

use super::flags::{Load, Save};
use super::{find, names, open};
use crate::layout::Layout;
use crate::say;

/// Standard input or output.
const STANDARD: &str = "-";

pub fn save(flags: &Save) -> Result<()> {
    let store = open(&Layout::new(&flags.at)?)?;
    let mut images = Vec::new();
    for wanted in &flags.images {
        let image = find(&store, wanted)?;
        // Under the name that was said; under all where it was an id.
        let named = wanted.parse::<Reference>().ok().filter(|name| image.names.contains(name));
        let names = named.map_or_else(|| image.names.clone(), |name| vec![name]);
        images.push((image, names));
    }
    if flags.output == Path::new(STANDARD) {
        if io::stdout().is_terminal() {
            bail!("an archive is nothing for a terminal: name a file with --output, or pipe it on");
        }
        return Ok(store.export(&images, io::stdout().lock())?);
    }
    // A file appears when all of it is there.
    let folder =
        flags.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("writing {}", flags.output.display()))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    store.export(&images, &mut writer)?;
    writer.flush()?;
    drop(writer);
    file.persist(&flags.output).with_context(|| format!("writing {}", flags.output.display()))?;
    say::line(format!("saved {}", flags.output.display()));
    Ok(())
}

pub fn load(flags: &Load) -> Result<()> {
    let name = flags.tag.as_deref().map(str::parse::<Reference>).transpose().context("--tag")?;
    let store = open(&Layout::new(&flags.at)?)?;
    let piped = match flags.path == Path::new(STANDARD) {
        true => Some(standard_input(store.root())?),
        false => None,
    };
    let path = piped.as_ref().map_or(flags.path.as_path(), tempfile::NamedTempFile::path);
    let imported = store.import(path, name.as_ref());
    for image in imported.with_context(|| format!("loading {}", flags.path.display()))? {
        // Now, while somebody waits for it, rather than at the first pod's start.
        if crate::up::can_run_node() {
            store.unpack(&image).with_context(|| format!("unpacking {}", names(&image).join(", ")))?;
        }
        say::line(format!("loaded {}", names(&image).join(", ")));
    }
    Ok(())
}

/// An archive is read at random, which a pipe does not allow.
fn standard_input(folder: &Path) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(folder).context("keeping standard input")?;
    io::copy(&mut io::stdin().lock(), file.as_file_mut() as &mut File).context("reading standard input")?;
    Ok(file)
}
