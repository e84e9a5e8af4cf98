//! Images to and from registries.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use images::{Credential, Keyring, Reference};

use super::flags::{Pull, Push, Who};
use super::open;
use super::progress::Bars;
use crate::layout::Layout;
use crate::role::registries;
use crate::say;

pub fn pull(flags: &Pull) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    let image: Reference = flags.image.parse()?;
    let registries = registries::of_person(&layout, flags.who.registries.as_deref())?;
    let store = Arc::new(open(&layout)?);
    let how = |credential| images::Pull {
        credential,
        all_platforms: flags.all_platforms,
        unpack: crate::up::can_run_node(),
    };
    let bars = Bars::new();
    let pulled = block_on(async {
        let mut result = None;
        for credential in askers(&flags.who, &image)? {
            match registries.pull(&store, &image, &how(credential), &bars).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => result = Some(error),
            }
        }
        let failed = result.map_or_else(|| anyhow::anyhow!("nobody asked"), anyhow::Error::from);
        Err(failed.context(format!("pulling {image}")))
    })?;
    bars.done();
    say::line(format!("pulled {image}\ndigest {}", pulled.target));
    Ok(())
}

pub fn push(flags: &Push) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    let to: Reference = flags.to.as_ref().unwrap_or(&flags.image).parse()?;
    let registries = registries::of_person(&layout, flags.who.registries.as_deref())?;
    let store = Arc::new(open(&layout)?);
    let credential = askers(&flags.who, &to)?.into_iter().next().flatten();
    let how = images::Push { credential, chunk: flags.chunk.map(|mib| u64::from(mib) << 20) };
    let bars = Bars::new();
    let pushed = block_on(async {
        let pushed = registries.push(&store, &flags.image, &to, &how, &bars).await;
        pushed.with_context(|| format!("pushing {} to {to}", flags.image))
    })?;
    bars.done();
    say::line(format!("pushed {to}\ndigest {pushed}"));
    Ok(())
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(work)
}

/// As whom to ask, one after the other; as nobody in particular when no file says more.
fn askers(who: &Who, image: &Reference) -> Result<Vec<Option<Credential>>> {
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker/config.json"));
    let file = match &who.authfile {
        Some(file) => Some(file.clone()),
        None => usual().filter(|file| file.exists()),
    };
    let mut ring = Keyring::default();
    if let Some(file) = file {
        let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        ring.add_config_json(&bytes).with_context(|| format!("reading {}", file.display()))?;
    }
    let found: Vec<_> = ring.lookup(image).into_iter().map(Some).collect();
    Ok(if found.is_empty() { vec![None] } else { found })
}
