//! The backend over an etcd cluster: for more than one API server, and for state that outlives a machine.
//!
//! Every call is one request to etcd: a transaction is etcd's transaction, a revision is etcd's revision (plus the
//! [`offset`](Inner::offset) that restoring a backup may have left). What a call may be tried again after, and what not, is
//! decided in one place ([`channel`]): a write whose outcome nobody knows is never sent twice, and its caller is told.
//!
//! The client is our own, of the HTTP/2 that is in the house anyway (docs/decisions/0010-etcd.md). Begin with [`Etcd`];
//! [`messages`] is what is said, [`stream`] how, [`watch`] how changes are followed.

mod channel;
mod messages;
mod read;
mod requests;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod watch;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use clock::Tasks;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::history::Maintenance;
use crate::{
    Committed, Entry, Error, Expect, History, Page, Range, Revision, Scan, Store, Txn, Watch, Write,
};
use channel::{Channel, Repeat};
use messages::{Done, KeyValue, Member};
use requests::Operation;
pub use requests::Requests;
use stream::Failure;
pub use tls::Tls;

/// Where an etcd cluster is, and which part of it is ours.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member.
    pub endpoints: Vec<String>,
    /// How members with `https` are spoken to.
    pub tls: Option<Tls>,
    /// What every key of ours begins with there. Nobody else's key may.
    pub prefix: Bytes,
    /// How much history [`Etcd::maintain`] keeps, for all users of the cluster; `None`: somebody else compacts it.
    pub history: Option<History>,
    /// Where requests are counted, if they are.
    pub requests: Option<Arc<Requests>>,
}

/// A store in an etcd cluster. Clones are handles to the same one.
#[derive(Clone)]
pub struct Etcd {
    inner: Arc<Inner>,
    tasks: Tasks,
}

struct Inner {
    channel: Channel,
    prefix: Bytes,
    /// Our revisions are so much greater than etcd's: a store that was restored goes on above what it held before.
    offset: Revision,
    head: Mutex<Head>,
    /// How many have asked for the head.
    asked: AtomicU64,
    /// Watches are to get as far as this.
    wanted: tokio::sync::watch::Sender<Revision>,
    maintenance: Option<Mutex<Maintenance>>,
    requests: Option<Arc<Requests>>,
}

/// The last answer to where the head is.
struct Head {
    /// It is good for so many of those who asked: they did before it was sent for.
    covers: u64,
    answer: Result<Revision, Error>,
}

impl Etcd {
    /// Connects.
    ///
    /// # Errors
    /// When the options make no sense, and when no member serves.
    pub async fn open(options: EtcdOptions) -> Result<Self, Error> {
        let tasks = Tasks::default();
        let tls = options.tls.as_ref().map(Tls::config).transpose()?;
        let channel = Channel::new(&options.endpoints, tls, tasks.clone())?;
        let mut inner = Inner {
            channel,
            prefix: options.prefix,
            offset: 0,
            head: Mutex::new(Head { covers: 0, answer: Ok(0) }),
            asked: AtomicU64::new(0),
            wanted: tokio::sync::watch::Sender::new(0),
            maintenance: options.history.map(|history| Mutex::new(Maintenance::new(history))),
            requests: options.requests,
        };
        inner.offset = inner.read_offset().await?;
        Ok(Self { inner: Arc::new(inner), tasks })
    }

    /// Makes a part of a cluster, which has to be empty, count from behind a revision. Who has opened it before counts wrongly
    /// from now on, and must not write.
    ///
    /// # Errors
    /// When there is something in it, or the cluster fails.
    pub async fn begin_after(options: EtcdOptions, revision: Revision) -> Result<Self, Error> {
        let store = Self::open(options.clone()).await?;
        let page =
            store.range(Range { prefix: Bytes::from_static(b"/"), limit: 1, ..Range::default() }).await?;
        if !page.entries.is_empty() {
            return Err(unavailable("the store on etcd is not empty"));
        }
        let theirs = page.revision - store.inner.offset;
        let offset = revision.saturating_sub(theirs).max(store.inner.offset);
        let write = Write::Put(Bytes::from_static(read::OFFSET), offset.to_string().into());
        store.commit(Txn { expect: Vec::new(), writes: vec![write], ..Txn::default() }).await?;
        store.close().await;
        Self::open(options).await
    }

    /// Ends watches and connections.
    pub async fn close(&self) {
        self.tasks.stop().await;
    }

    /// Has etcd forget what the [`History`] given at opening no longer keeps. The owner calls it every minute or so, with
    /// the time of its clock; several owners do not hinder each other.
    pub async fn maintain(&self, now: clock::Instant) -> Result<(), Error> {
        let Some(maintenance) = &self.inner.maintenance else { return Ok(()) };
        let head = self.inner.head().await?;
        let forget = maintenance.lock().await.note(now, head);
        if forget > self.inner.offset { self.inner.compact(forget).await } else { Ok(()) }
    }
}

impl Inner {
    /// What etcd calls a revision of ours. `None`: it was before this store was restored.
    fn theirs(&self, revision: Revision) -> Option<Revision> {
        match revision.checked_sub(self.offset)? {
            // Etcd begins with 1, at which nothing is there yet.
            0 if self.offset == 0 => Some(1),
            0 => None,
            revision => Some(revision),
        }
    }

    fn ours(&self, revision: Revision) -> Revision {
        revision + self.offset
    }

    fn key(&self, key: &[u8]) -> Bytes {
        [&self.prefix, key].concat().into()
    }

    /// `None` for what is not ours.
    fn entry(&self, stored: KeyValue) -> Option<Entry> {
        let ours = stored.key.starts_with(&self.prefix);
        ours.then(|| Entry {
            key: stored.key.slice(self.prefix.len()..),
            value: stored.value,
            create_revision: self.ours(stored.create_revision),
            mod_revision: self.ours(stored.mod_revision),
        })
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        txn.check()?;
        let request = messages::txn(&self.prefix, &txn, |revision| self.theirs(revision).unwrap_or(0));
        let began = Instant::now();
        let answered = self.channel.call(messages::TXN, &request, Repeat::IfUnsent).await;
        self.note_writes(&txn, began);
        let answer = match answered {
            Ok(answer) => answer,
            Err(failure) if is_full(&failure) => return self.settle(&txn).await,
            Err(failure) => return Err(write_failed(failure)),
        };
        let done = Done::decode(answer).map_err(unavailable)?;
        let revision = self.ours(done.revision);
        if done.succeeded {
            if !done.changed {
                // No event will tell watches that they are as far as this.
                self.want(revision);
            }
            return Ok(Committed { revision });
        }
        for ((key, expect), found) in txn.expect.into_iter().zip(done.found) {
            let current = found.and_then(|stored| self.entry(stored));
            if !expect.holds(current.as_ref().map(|entry| entry.mod_revision)) {
                return Err(Error::Conflict { key, current: current.map(Box::new) });
            }
        }
        Err(unavailable("etcd refused a transaction all of whose expectations hold"))
    }

    fn note_writes(&self, txn: &Txn, began: Instant) {
        let Some(requests) = &self.requests else { return };
        for write in &txn.writes {
            let (operation, key) = match write {
                Write::Put(key, _) if txn.expect.contains(&(key.clone(), Expect::Absent)) => {
                    (Operation::Create, key)
                }
                Write::Put(key, _) => (Operation::Update, key),
                Write::Delete(key) => (Operation::Delete, key),
            };
            requests.note(operation, key, began);
        }
    }

    /// What became of a transaction of which etcd says that there is no room: the one that fills it up is done all the same.
    async fn settle(&self, txn: &Txn) -> Result<Committed, Error> {
        let puts = txn.writes.iter().filter_map(|write| match write {
            Write::Put(key, value) => Some((key, value)),
            Write::Delete(_) => None,
        });
        let mut committed = Err(Error::Full);
        for (key, value) in puts {
            let stored = self.get(key, None).await.map_err(|error| {
                unavailable(format_args!(
                    "{error}; etcd is full, and whether the write happened is not known"
                ))
            })?;
            let before = |entry: &Entry| {
                let mut expected = txn.expect.iter().filter(|(expected, _)| expected == key);
                expected.any(|(_, expect)| expect.holds(Some(entry.mod_revision)))
            };
            match stored.filter(|entry| entry.value == *value && !before(entry)) {
                Some(entry) => committed = Ok(Committed { revision: entry.mod_revision }),
                None => return Err(Error::Full),
            }
        }
        committed
    }

    /// Has watches get as far as a revision that no event may tell of.
    fn want(&self, revision: Revision) {
        self.wanted.send_if_modified(|wanted| {
            let further = revision > *wanted;
            *wanted = revision.max(*wanted);
            further
        });
    }

    /// The head, no older than this call. Those who ask while another's answer is under way share the next one.
    async fn head(&self) -> Result<Revision, Error> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut head = self.head.lock().await;
        if head.covers < ticket {
            let covers = self.asked.load(Ordering::SeqCst);
            let answer = self.read_head().await;
            *head = Head { covers, answer };
        }
        head.answer.clone()
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let Some(theirs) = self.theirs(revision) else { return Ok(()) };
        let request = messages::compact(theirs);
        match self.channel.call(messages::COMPACT, &request, Repeat::Always).await {
            Ok(_) => Ok(()),
            Err(failure) if is_compacted(&failure) => Ok(()),
            Err(failure) if is_future(&failure) => Err(self.future(revision).await),
            Err(failure) => Err(read_failed(failure)),
        }
    }

    async fn health(&self) -> Result<(), Error> {
        self.head().await?;
        let answer = self.channel.call(messages::STATUS, &[], Repeat::Always).await.map_err(read_failed)?;
        let member = Member::decode(answer).map_err(unavailable)?;
        match member.errors.iter().any(|error| error.contains("NOSPACE")) {
            true => Err(Error::Full),
            false => Ok(()),
        }
    }
}

fn is_compacted(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { message, .. } if message.ends_with("revision has been compacted"))
}

fn is_future(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { message, .. } if message.ends_with("is a future revision"))
}

fn is_full(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { message, .. } if message.contains("database space exceeded"))
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

fn read_failed(failure: Failure) -> Error {
    unavailable(format_args!("etcd: {failure}"))
}

/// What a write's failure means: etcd's own codes and words, told apart by whether it may have happened.
fn write_failed(failure: Failure) -> Error {
    const INVALID_ARGUMENT: u32 = 3;
    const RESOURCE_EXHAUSTED: u32 = 8;
    match failure {
        Failure::Refused { code: INVALID_ARGUMENT, message } => Error::Invalid(message),
        Failure::Refused { code: RESOURCE_EXHAUSTED, message } if message.contains("larger than max") => {
            Error::Invalid(message)
        }
        Failure::Unsent(why) => unavailable(format_args!("etcd: {why}; nothing was written")),
        other => unavailable(format_args!("etcd: {other}; whether the write happened is not known")),
    }
}

#[async_trait]
impl Store for Etcd {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.inner.commit(txn).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.inner.get(key, at).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.inner.range(range).await
    }

    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        read::scan(&self.inner, &self.tasks, prefix).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        watch::start(&self.inner, &self.tasks, prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        let head = self.inner.head().await?;
        self.inner.want(head);
        Ok(head)
    }

    async fn health(&self) -> Result<(), Error> {
        self.inner.health().await
    }
}
