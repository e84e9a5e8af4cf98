//! A store whose backend never sees some of its values.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    Changes, Committed, Entry, Error, Event, Expect, Page, Range, Revision, Scan, Store, Txn, Watch, Write,
};

/// Batches of a watch that are opened ahead of whoever listens.
const AHEAD: usize = 4;
/// Entries that are looked at together when values are sealed anew.
const PAGE: usize = 200;

/// Seals values and opens them. Which keys it does that with is its own affair. The errors are for people.
pub trait Cipher: Send + Sync + 'static {
    /// A value as the backend keeps it at a key.
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, String>;
    /// What it was; `None`: it was never sealed.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Option<Bytes>, String>;
    /// Whether it is sealed as one would be now.
    fn is_current(&self, sealed: &[u8]) -> bool;
}

/// Wraps a backend: values below some prefixes are sealed there. What lies there unsealed, from before, is read as it is.
pub struct Encrypted<S: ?Sized> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: ?Sized> {
    inner: Arc<S>,
    prefixes: Vec<Bytes>,
    cipher: Arc<dyn Cipher>,
}

impl<S: ?Sized> Clone for Encrypted<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Store + ?Sized> Encrypted<S> {
    /// Seals with this cipher whatever is below these prefixes.
    pub fn new(inner: Arc<S>, prefixes: Vec<Bytes>, cipher: Arc<dyn Cipher>) -> Self {
        Self { shared: Arc::new(Shared { inner, prefixes, cipher }) }
    }

    /// The store behind.
    pub fn inner(&self) -> &Arc<S> {
        &self.shared.inner
    }

    /// Seals anew all that is not sealed as it would be now, and says how much that was. A value that somebody writes
    /// meanwhile is theirs.
    ///
    /// # Errors
    /// The backend's, or when a value cannot be opened; what was done stays.
    pub async fn renew(&self) -> Result<u64, Error> {
        let (shared, mut renewed) = (&self.shared, 0);
        for prefix in &shared.prefixes {
            let mut range = Range { prefix: prefix.clone(), limit: PAGE, ..Range::default() };
            loop {
                let page = shared.inner.range(range.clone()).await?;
                let Some(last) = page.entries.last() else { break };
                range.after = Some(last.key.clone());
                let old = page.entries.iter().filter(|entry| !shared.cipher.is_current(&entry.value));
                for entry in old {
                    let value = shared.opened(&entry.key, entry.value.clone())?;
                    let txn = Txn {
                        expect: vec![(entry.key.clone(), Expect::ModRevision(entry.mod_revision))],
                        writes: vec![Write::Put(entry.key.clone(), shared.sealed(&entry.key, value)?)],
                        ..Txn::default()
                    };
                    match shared.inner.commit(txn).await {
                        Ok(_) => renewed += 1,
                        Err(Error::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                if page.remaining == 0 {
                    break;
                }
            }
        }
        Ok(renewed)
    }
}

impl<S: ?Sized> Shared<S> {
    fn is_secret(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    fn has_secrets_below(&self, prefix: &Bytes) -> bool {
        self.prefixes.iter().any(|secret| secret.starts_with(prefix) || prefix.starts_with(secret))
    }

    fn sealed(&self, key: &[u8], value: Bytes) -> Result<Bytes, Error> {
        if !self.is_secret(key) {
            return Ok(value);
        }
        self.cipher.seal(key, &value).map_err(|why| unreadable(key, &why))
    }

    fn opened(&self, key: &[u8], value: Bytes) -> Result<Bytes, Error> {
        if !self.is_secret(key) {
            return Ok(value);
        }
        let opened = self.cipher.open(key, &value).map_err(|why| unreadable(key, &why))?;
        Ok(opened.unwrap_or(value))
    }

    fn entry(&self, entry: Entry) -> Result<Entry, Error> {
        let value = self.opened(&entry.key, entry.value)?;
        Ok(Entry { value, ..entry })
    }

    fn event(&self, event: Event) -> Result<Event, Error> {
        let entry = event.entry.map(|entry| self.entry(entry)).transpose()?;
        let previous = event.previous.map(|entry| self.entry(entry)).transpose()?;
        Ok(Event { entry, previous, ..event })
    }

    fn changes(&self, changes: Changes) -> Result<Changes, Error> {
        let events = changes.events.into_iter().map(|event| self.event(event));
        Ok(Changes { events: events.collect::<Result<_, _>>()?, ..changes })
    }

    /// What a caller may see of a failure.
    fn failure(&self, error: Error) -> Error {
        match error {
            Error::Conflict { key, current: Some(current) } => match self.entry(*current) {
                Ok(current) => Error::Conflict { key, current: Some(Box::new(current)) },
                Err(error) => error,
            },
            other => other,
        }
    }
}

fn unreadable(key: &[u8], why: &str) -> Error {
    Error::Unavailable(format!("the value of {}: {why}", String::from_utf8_lossy(key)))
}

#[async_trait]
impl<S: Store + ?Sized> Store for Encrypted<S> {
    async fn commit(&self, mut txn: Txn) -> Result<Committed, Error> {
        // In the words that are about what the caller gave.
        txn.check()?;
        for write in &mut txn.writes {
            if let Write::Put(key, value) = write {
                *value = self.shared.sealed(key, std::mem::take(value))?;
            }
        }
        self.shared.inner.commit(txn).await.map_err(|error| self.shared.failure(error))
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let found = self.shared.inner.get(key, at).await?;
        found.map(|entry| self.shared.entry(entry)).transpose()
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        let page = self.shared.inner.range(range).await?;
        let entries = page.entries.into_iter().map(|entry| self.shared.entry(entry));
        Ok(Page { entries: entries.collect::<Result<_, _>>()?, ..page })
    }

    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        let mut inner = self.shared.inner.scan(prefix.clone()).await?;
        if !self.shared.has_secrets_below(&prefix) {
            return Ok(inner);
        }
        let (sender, scan) = Scan::channel(inner.revision(), AHEAD);
        let shared = self.shared.clone();
        // It ends with the backend's scan or with whoever reads.
        tokio::spawn(async move {
            loop {
                let opened = inner.next().await.and_then(|batch| {
                    let opened = |batch: Vec<Entry>| batch.into_iter().map(|e| shared.entry(e)).collect();
                    batch.map(opened).transpose()
                });
                let ends = !matches!(opened, Ok(Some(_)));
                if sender.send(opened).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(scan)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        let mut inner = self.shared.inner.watch(prefix.clone(), after).await?;
        if !self.shared.has_secrets_below(&prefix) {
            return Ok(inner);
        }
        let (sender, events) = mpsc::channel(AHEAD);
        let shared = self.shared.clone();
        // It ends with the backend's watch or with whoever listens.
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = inner.events.recv() => batch,
                    () = sender.closed() => return,
                };
                let Some(batch) = batch else { return };
                let opened = batch.and_then(|changes| shared.changes(changes));
                let ends = opened.is_err();
                if sender.send(opened).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Watch { events })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.shared.inner.compact(revision).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.shared.inner.head().await
    }

    async fn health(&self) -> Result<(), Error> {
        self.shared.inner.health().await
    }
}
