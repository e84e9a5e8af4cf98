//! `monoplane image`: what this machine's store of images holds, and what goes in and out.

mod archive;
mod flags;
mod progress;
mod transfer;

use anyhow::{Context, Result, bail};
use images::{Reference, Store, StoredImage};

pub use flags::Image;

use crate::layout::Layout;
use crate::say;

/// Runs the verb.
///
/// # Errors
/// When the store cannot be used, or a registry refuses; the message says what to do.
pub fn run(verb: &Image) -> Result<()> {
    match verb {
        Image::Pull(flags) => transfer::pull(flags),
        Image::Push(flags) => transfer::push(flags),
        Image::Save(flags) => archive::save(flags),
        Image::Load(flags) => archive::load(flags),
        Image::Ls(flags) => list(flags),
        Image::Inspect(flags) => inspect(flags),
        Image::Tag(flags) => {
            let store = open(&Layout::new(&flags.at)?)?;
            let image = find(&store, &flags.image)?;
            let name: Reference = flags.name.parse()?;
            store.tag(image.target, &name)?;
            say::line(format!("tagged {name}"));
            Ok(())
        }
        Image::Rm(flags) => remove(flags),
        Image::Prune(flags) => prune(flags),
        Image::Pin(flags) => {
            let store = open(&Layout::new(&flags.at)?)?;
            let image = find(&store, &flags.image)?;
            store.pin(&image, !flags.undo)?;
            say::line(format!("{} {}", if flags.undo { "unpinned" } else { "pinned" }, image.id));
            Ok(())
        }
    }
}

fn list(flags: &flags::Ls) -> Result<()> {
    let images = open(&Layout::new(&flags.at)?)?.list()?;
    if flags.quiet {
        images.iter().for_each(|image| say::line(image.id));
        return Ok(());
    }
    let rows: Vec<(String, &StoredImage)> =
        images.iter().flat_map(|image| names(image).into_iter().map(move |name| (name, image))).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(40);
    say::line(format!("{:<width$} {:<20} SIZE", "NAME", "IMAGE ID"));
    for (name, image) in rows {
        let id: String = image.id.to_string().chars().take(19).collect();
        let pinned = if image.pinned { "  pinned" } else { "" };
        say::line(format!("{name:<width$} {id:<20} {:.1} MB{pinned}", megabytes(image.size)));
    }
    Ok(())
}

fn inspect(flags: &flags::Inspect) -> Result<()> {
    let image = find(&open(&Layout::new(&flags.at)?)?, &flags.image)?;
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    let all = serde_json::json!({
        "id": image.id.to_string(),
        "names": names,
        "digest": image.target.to_string(),
        "manifest": image.manifest.to_string(),
        "size": image.size,
        "pinned": image.pinned,
        "config": image.config,
    });
    say::line(serde_json::to_string_pretty(&all)?);
    Ok(())
}

fn remove(flags: &flags::Rm) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    let store = open(&layout)?;
    for wanted in &flags.images {
        let image = find(&store, wanted)?;
        let named = wanted.parse::<Reference>().ok().filter(|name| image.names.contains(name));
        let keeps = named
            .as_ref()
            .is_some_and(|name| image.names.iter().any(|other| other != name && other.digest().is_none()));
        let used = sandbox::in_use(&layout.containers()).context("reading what containers use")?;
        if !keeps && !flags.force && used.images.contains(&image.id.to_string()) {
            bail!("{wanted} is used by a container of this node; --force removes it nevertheless");
        }
        match named.filter(|_| keeps) {
            Some(name) => {
                store.untag(&name)?;
                say::line(format!("untagged {name}"));
            }
            None => {
                store.untag_all(&image)?;
                say::line(format!("removed {}", image.id));
            }
        }
    }
    free(&layout, &store).map(drop)
}

fn prune(flags: &flags::Prune) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    let store = open(&layout)?;
    if flags.all {
        let used = sandbox::in_use(&layout.containers()).context("reading what containers use")?;
        for image in store.list()?.iter().filter(|image| !image.pinned) {
            if !used.images.contains(&image.id.to_string()) {
                store.untag_all(image)?;
                say::line(format!("removed {} ({})", image.id, names(image).join(", ")));
            }
        }
    }
    let freed = free(&layout, &store)?;
    say::line(format!("{:.1} MB are free again", megabytes(freed)));
    Ok(())
}

/// Gives back the room of what neither names nor containers need.
fn free(layout: &Layout, store: &Store) -> Result<u64> {
    let containers = layout.containers();
    Ok(store.prune(|| sandbox::in_use(&containers).map(|used| used.layers))?)
}

fn find(store: &Store, name: &str) -> Result<StoredImage> {
    let found = store.find(name)?;
    found.with_context(|| format!("no image {name} is here (`monoplane image ls` lists them)"))
}

fn names(image: &StoredImage) -> Vec<String> {
    let tagged: Vec<String> =
        image.names.iter().filter(|name| name.digest().is_none()).map(ToString::to_string).collect();
    match (tagged.is_empty(), image.names.first()) {
        (false, _) => tagged,
        (true, Some(name)) => vec![name.to_string()],
        (true, None) => vec!["<none>".to_owned()],
    }
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
