//! Runs the client verbs against the plane that the flags or the data directory name.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use client::Client;

use crate::flags::AtDataDir;
use crate::layout::Layout;

/// Runs a future on a small runtime of its own.
///
/// # Errors
/// The future's own.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Runs one verb against the plane of `kubeconfig`, or of the usual data directory.
///
/// # Errors
/// When there is no plane, and the verb's own.
pub fn run(
    kubeconfig: Option<PathBuf>,
    verb: impl AsyncFnOnce(&Client, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let kubeconfig = match kubeconfig {
        Some(file) => file,
        None => Layout::new(&AtDataDir { data_dir: None })?.read_endpoints()?.kubeconfig,
    };
    block_on(async {
        let client = client::transport::from_kubeconfig_file(&kubeconfig, "monoplane")
            .await
            .with_context(|| format!("reading {}", kubeconfig.display()))?;
        verb(&client, &mut std::io::stdout().lock()).await
    })
}
