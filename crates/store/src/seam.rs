//! The seam: what `registry` asks of a store, and what every backend promises.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// A point in the store's history. Each committed transaction takes the next one; 0 is before the first.
pub type Revision = u64;

/// Bytes of keys and values that one transaction may write.
pub const MAX_TXN_BYTES: usize = 3 << 19;
/// Writes, and expectations, that one transaction may hold.
pub const MAX_TXN_OPS: usize = 128;

/// One key's value as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Bytes,
    /// The value's bytes, exactly as written.
    pub value: Bytes,
    /// Revision of the transaction that made the key (after its last absence).
    pub create_revision: Revision,
    /// Revision of the transaction that wrote this value.
    pub mod_revision: Revision,
}

/// What a transaction requires of a key before any of its writes happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key holds no value.
    Absent,
    /// The key's value was written at exactly this revision.
    ModRevision(Revision),
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the key to the value.
    Put(Bytes, Bytes),
    /// Removes the key. Removing an absent key changes nothing and emits no event.
    Delete(Bytes),
}

/// Writes that happen together at one revision, or not at all. At most one write a key.
///
/// [`MAX_TXN_OPS`] and [`MAX_TXN_BYTES`] bound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Every one must hold; the first that does not, in order, fails the transaction.
    pub expect: Vec<(Bytes, Expect)>,
    /// Applied in order. May not be empty, nor name a key twice.
    pub writes: Vec<Write>,
    /// How much later it may become durable, and its commit return, if that makes it cheaper: a backend may let it wait for
    /// others, or take no notice.
    pub patience: Duration,
}

impl Txn {
    /// Whether it is well-formed: every backend refuses one that is not, in these words.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::Invalid(message));
        if self.writes.is_empty() {
            return invalid("it has no writes".into());
        }
        if self.writes.len() > MAX_TXN_OPS || self.expect.len() > MAX_TXN_OPS {
            return invalid(format!("it has more than {MAX_TXN_OPS} operations"));
        }
        if self.bytes() > MAX_TXN_BYTES {
            return invalid(format!("it writes {} bytes, more than {MAX_TXN_BYTES}", self.bytes()));
        }
        let mut keys: Vec<_> = self.writes.iter().map(Write::key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => invalid(format!("it writes key {} twice", String::from_utf8_lossy(pair[0]))),
            None => Ok(()),
        }
    }

    /// Bytes of keys and values that it writes.
    pub fn bytes(&self) -> usize {
        let size = |write: &Write| match write {
            Write::Put(key, value) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        };
        self.writes.iter().map(size).sum()
    }
}

impl Write {
    /// The key it writes.
    pub fn key(&self) -> &Bytes {
        match self {
            Write::Put(key, _) | Write::Delete(key) => key,
        }
    }
}

impl Expect {
    /// Whether a key that holds this entry, or none, meets it. The argument is the entry's `mod_revision`.
    pub fn holds(self, current: Option<Revision>) -> bool {
        match self {
            Expect::Absent => current.is_none(),
            Expect::ModRevision(revision) => current == Some(revision),
        }
    }
}

/// A committed, durable transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its revision; that of the store's head when the transaction changed nothing.
    pub revision: Revision,
}

/// Why a store call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An expectation did not hold. `current` is what the key held instead.
    #[error("expectation failed on key {}", String::from_utf8_lossy(.key))]
    Conflict {
        /// The key whose expectation failed.
        key: Bytes,
        /// Its entry at that moment, if any.
        current: Option<Box<Entry>>,
    },
    /// The revision asked for has been compacted away; the oldest still readable is named.
    #[error("revision {requested} has been compacted; the oldest available is {oldest}")]
    Compacted {
        /// What the caller asked for.
        requested: Revision,
        /// The oldest revision that can still be read or watched from.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the current one is {current}")]
    Future {
        /// What the caller asked for.
        requested: Revision,
        /// The store's head.
        current: Revision,
    },
    /// The transaction is malformed (empty, a key twice, or over the size limit).
    #[error("invalid transaction: {0}")]
    Invalid(String),
    /// There is no room for more. The write did not happen; reads go on.
    #[error("the store's disk is full: nothing is written until there is room again")]
    Full,
    /// There was no room while the write was under way: it waits for some, and happens unless the backend ends before that.
    #[error("the store's disk is full: this write waits for room, and may yet happen")]
    Waiting,
    /// The backend cannot serve now. It is unknown whether a write under way happened.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// A range read: keys that start with `prefix`, in byte order.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Every returned key starts with it. Empty: the whole store.
    pub prefix: Bytes,
    /// Only keys greater than this one (for the next page).
    pub after: Option<Bytes>,
    /// At most so many entries; 0: no limit.
    pub limit: usize,
    /// Read as of this revision; `None`: the head.
    pub at: Option<Revision>,
}

/// What a range read found, all of one revision.
#[derive(Clone, Debug)]
pub struct Page {
    /// In key order.
    pub entries: Vec<Entry>,
    /// The revision that the page shows.
    pub revision: Revision,
    /// How many further keys the range has beyond `entries`.
    pub remaining: u64,
}

/// All that lies below a prefix as of one revision, in no order, a batch at a time. Dropping it ends it.
#[derive(Debug)]
pub struct Scan {
    revision: Revision,
    batches: mpsc::Receiver<Batch>,
}

/// What a scan's source sends: entries, then `None`, so that a source that breaks off is not taken for one that is done.
pub(crate) type Batch = Result<Option<Vec<Entry>>, Error>;

impl Scan {
    /// One that shows a revision. Batches wait in a queue that holds `ahead` of them.
    pub(crate) fn channel(revision: Revision, ahead: usize) -> (mpsc::Sender<Batch>, Self) {
        let (sender, batches) = mpsc::channel(ahead);
        (sender, Self { revision, batches })
    }

    /// The revision that it shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next entries; `None` when these were all.
    ///
    /// # Errors
    /// When the rest cannot be read: what came before is not all that there is.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        let broken = || Err(Error::Unavailable("a scan broke off".to_owned()));
        self.batches.recv().await.unwrap_or_else(broken)
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The revision that changed it.
    pub revision: Revision,
    /// What it holds now; `None` when it was deleted.
    pub entry: Option<Entry>,
    /// What it held before; `None` when it was created.
    pub previous: Option<Entry>,
}

/// What a watch tells at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In revision order, and within one transaction in that of its writes. Empty: others' transactions alone were there.
    pub events: Vec<Event>,
    /// Everything up to this revision has now been told.
    pub revision: Revision,
}

/// A running watch: changes in revision order, none missing, none twice. The events of one transaction are never told
/// apart. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    /// Closed without an error when the store shuts down; a last `Err` when the watcher was too slow and must start
    /// again from a list ([`Error::Compacted`]), or the backend failed.
    pub events: mpsc::Receiver<Result<Changes, Error>>,
}

/// A revisioned store. All backends pass the same contract tests against the same model.
///
/// Promises: a transaction is atomic, and durable once `commit` returns `Ok`; revisions grow by one a transaction that
/// changed something; a read at the head sees every transaction whose `commit` has returned; a watch sees transactions
/// no later than a short time after they committed, in order.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies the transaction if all its expectations hold.
    async fn commit(&self, txn: Txn) -> Result<Committed, Error>;
    /// The key's entry as of `at` (`None`: the head), or `None` if it held nothing.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error>;
    /// A page of a range.
    async fn range(&self, range: Range) -> Result<Page, Error>;
    /// Everything under `prefix` as of the head, for those who take in all of it: in no order, and without holding it all at
    /// once where the backend can do so.
    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        let page = self.range(Range { prefix, ..Range::default() }).await?;
        let (sender, scan) = Scan::channel(page.revision, 2);
        // There is room for both.
        let _ = sender.try_send(Ok(Some(page.entries)));
        let _ = sender.try_send(Ok(None));
        Ok(scan)
    }
    /// Every change to keys under `prefix` with a revision greater than `after`.
    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error>;
    /// Forgets history before `revision`: reads and watches below it fail from now on; the head stays whole.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
    /// The revision of the newest committed transaction. Running watches tell how they get as far as that, whatever it
    /// changed.
    async fn head(&self) -> Result<Revision, Error>;
    /// Whether the backend takes writes; the error says why it does not.
    async fn health(&self) -> Result<(), Error> {
        self.head().await.map(|_| ())
    }
}
