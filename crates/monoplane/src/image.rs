//! `monoplane image`: what this machine's store of images holds.

use anyhow::{Context, Result};
use images::{Reference, Store, StoredImage};

use crate::flags::Image;
use crate::layout::Layout;
use crate::say;

/// Runs the verb.
///
/// # Errors
/// When the store cannot be used, or the archive is none.
pub fn run(verb: &Image) -> Result<()> {
    match verb {
        Image::Import { at, path, tag } => {
            let name = tag.as_deref().map(str::parse::<Reference>).transpose().context("--tag")?;
            let store = open(&Layout::new(at)?)?;
            let imported = store.import(path, name.as_ref());
            for image in imported.with_context(|| format!("importing {}", path.display()))? {
                // Now, while somebody waits for it, rather than at the first pod's start.
                if crate::up::can_run_node() {
                    store
                        .unpack(&image)
                        .with_context(|| format!("unpacking {}", names(&image).join(", ")))?;
                }
                say::line(format!("imported {}", names(&image).join(", ")));
            }
            Ok(())
        }
        Image::Ls { at } => {
            say::line(format!("{:<60} {:<20} SIZE", "NAME", "IMAGE ID"));
            for image in open(&Layout::new(at)?)?.list()? {
                let id: String = image.id.to_string().chars().take(19).collect();
                for name in names(&image) {
                    say::line(format!("{name:<60} {id:<20} {:.1} MB", megabytes(image.size)));
                }
            }
            Ok(())
        }
    }
}

fn names(image: &StoredImage) -> Vec<String> {
    if image.names.is_empty() {
        return vec!["<none>".to_owned()];
    }
    image.names.iter().map(ToString::to_string).collect()
}

fn megabytes(bytes: u64) -> f64 {
    std::time::Duration::from_micros(bytes).as_secs_f64()
}

/// The store of the node in this data directory.
///
/// # Errors
/// When it cannot be opened.
pub fn open(layout: &Layout) -> Result<Store> {
    let folder = layout.node().join("images");
    Store::open(&folder).with_context(|| format!("opening the image store {}", folder.display()))
}
