//! Where a server keeps its state: a file of its own, or an etcd cluster that it shares with others.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::Ambient;
use clock::{Clock, Tasks};
use instruments::{Kind, Page};
use store::{Embedded, Etcd, EtcdOptions, History, Requests, Store, Tls};

use crate::flags;
use crate::layout::Layout;

/// How often old history is looked for.
const EVERY: Duration = Duration::from_secs(60);

/// How often a disk that failed is tried out.
const AGAIN: Duration = Duration::from_secs(1);

/// The store of a server.
#[derive(Clone)]
pub enum Storage {
    /// Its own.
    Embedded(Embedded),
    /// A cluster's.
    Etcd(Etcd, Arc<Requests>),
}

impl Storage {
    /// Opens what the flags name.
    ///
    /// # Errors
    /// When the file cannot be opened, or no member of the cluster serves.
    pub async fn open(flags: &flags::Etcd, layout: &Layout) -> Result<Self> {
        if flags.etcd_servers.is_empty() {
            let path = layout.server().join("store.db");
            let opened = Embedded::open(&disk::Options::new(&path), History::default());
            return Ok(Self::Embedded(opened.with_context(|| format!("opening {}", path.display()))?));
        }
        let requests = Arc::new(Requests::by(registry::stored_kind));
        let options = EtcdOptions { requests: Some(requests.clone()), ..options(flags)? };
        let opened = Etcd::open(options).await.context("opening the store on etcd")?;
        Ok(Self::Etcd(opened, requests))
    }

    /// As the registry takes it.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => Arc::new(store.clone()),
            Self::Etcd(store, _) => Arc::new(store.clone()),
        }
    }

    /// Whether other servers may write to it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Etcd(..))
    }

    /// Writes on a page how long the cluster took over requests, if there is one.
    pub fn measure(&self, page: &mut Page) {
        let Self::Etcd(_, requests) = self else { return };
        page.family(
            "etcd_request_duration_seconds",
            Kind::Histogram,
            "How long etcd took, by the operation and by what it is about.",
        );
        requests.each(|operation, kind, took| {
            let (group, resource) = registry::group_and_plural(kind);
            page.histogram(&[("operation", operation), ("group", group), ("resource", resource)], took);
        });
    }

    /// Returns once only opening it anew can help, and will: reads go on until the disk takes writes again.
    pub async fn failed(&self, layout: &Layout, clock: &dyn Clock) -> store::Error {
        let error = match self {
            Self::Embedded(store) => store.failed().await,
            // A cluster comes back by itself.
            Self::Etcd(..) => std::future::pending().await,
        };
        tracing::error!(%error, "the disk failed: nothing is written any more, reads go on");
        loop {
            clock.sleep(AGAIN).await;
            let directory = layout.server();
            match tokio::task::spawn_blocking(move || try_out(&directory)).await {
                Ok(Ok(())) => return error,
                Ok(Err(error)) => tracing::debug!(%error, "the disk still takes no writes"),
                Err(error) => tracing::debug!(%error, "the disk cannot be tried out"),
            }
        }
    }

    /// Lets it forget old history, now and then.
    pub fn maintain(&self, ambient: &Ambient, tasks: &Tasks) {
        let (store, clock) = (self.clone(), ambient.clock.clone());
        tasks.spawn("store maintenance", async move {
            loop {
                clock.sleep(EVERY).await;
                let now = clock.monotonic();
                let maintained = match &store {
                    Self::Embedded(store) => store.maintain(now).await,
                    Self::Etcd(store, _) => store.maintain(now).await,
                };
                if let Err(error) = maintained {
                    tracing::warn!(%error, "store maintenance failed");
                }
            }
        });
    }

    /// Writes out what was accepted, and lets go of it.
    pub async fn close(&self) -> Result<()> {
        match self {
            Self::Embedded(store) => store.close().await.context("closing the store"),
            Self::Etcd(store, _) => {
                store.close().await;
                Ok(())
            }
        }
    }
}

/// Whether a disk takes a write and says that it is durable.
fn try_out(directory: &Path) -> std::io::Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(b"is this kept?")?;
    file.sync_data()
}

/// What the flags say of a cluster.
///
/// # Errors
/// When a file that they name cannot be read.
pub fn options(flags: &flags::Etcd) -> Result<EtcdOptions> {
    let read =
        |flag: &str, path: &Path| std::fs::read(path).with_context(|| format!("{flag} {}", path.display()));
    let tls = match &flags.etcd_cafile {
        None => None,
        Some(file) => {
            let authority = read("--etcd-cafile", file)?;
            let identity = match (&flags.etcd_certfile, &flags.etcd_keyfile) {
                (Some(chain), Some(key)) => {
                    Some((read("--etcd-certfile", chain)?, read("--etcd-keyfile", key)?))
                }
                _ => None,
            };
            Some(Tls { authority, identity })
        }
    };
    let age = flags.etcd_compaction_interval;
    let history = (!age.is_zero()).then_some(History { age, revisions: u64::MAX });
    let prefix = flags.etcd_prefix.trim_end_matches('/').to_owned().into();
    Ok(EtcdOptions { endpoints: flags.etcd_servers.clone(), tls, prefix, history, requests: None })
}
