//! The backend on a real etcd server: the contract, and what is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use store::{
    Changes, Committed, Entry, Error, Etcd, EtcdOptions, Event, Expect, History, Page, Range, Revision,
    Store, Tls, Txn, Watch,
};
use tokio::sync::OnceCell;

use crate::contract::{Backend, bytes, contract, delete, put};

/// One server; each backend has a part of it, and begins where the one before has left its revision.
struct Server {
    server: harness::Etcd,
    parts: AtomicU64,
}

impl Default for Server {
    fn default() -> Self {
        Self { server: harness::Etcd::start(), parts: AtomicU64::new(0) }
    }
}

struct InEtcd {
    options: EtcdOptions,
    base: Arc<OnceCell<Revision>>,
}

pub fn options(server: &harness::Etcd, prefix: &str) -> EtcdOptions {
    EtcdOptions { endpoints: server.endpoints(), prefix: bytes(prefix), ..EtcdOptions::default() }
}

impl Backend for InEtcd {
    type Store = Relative;
    type Shared = Server;

    fn new(shared: &Server) -> Self {
        let part = shared.parts.fetch_add(1, Ordering::Relaxed);
        Self { options: options(&shared.server, &format!("/part{part}/")), base: Arc::default() }
    }

    async fn open(&self) -> Relative {
        let store = Etcd::open(self.options.clone()).await.unwrap();
        let base = *self.base.get_or_init(async || store.head().await.unwrap()).await;
        Relative { store, base }
    }

    async fn close(store: Relative) {
        store.store.close().await;
    }
}

/// A store whose revisions are counted from where its part of the server began.
#[derive(Clone)]
struct Relative {
    store: Etcd,
    base: Revision,
}

impl Relative {
    fn entry(&self, entry: Entry) -> Entry {
        let (create_revision, mod_revision) =
            (entry.create_revision - self.base, entry.mod_revision - self.base);
        Entry { create_revision, mod_revision, ..entry }
    }

    fn event(&self, event: Event) -> Event {
        let (entry, previous) = (event.entry.map(|e| self.entry(e)), event.previous.map(|e| self.entry(e)));
        Event { key: event.key, revision: event.revision - self.base, entry, previous }
    }

    fn error(&self, error: Error) -> Error {
        let less = |revision: Revision| revision - self.base;
        match error {
            Error::Conflict { key, current } => {
                Error::Conflict { key, current: current.map(|entry| Box::new(self.entry(*entry))) }
            }
            Error::Compacted { requested, oldest } => {
                Error::Compacted { requested: less(requested), oldest: less(oldest) }
            }
            Error::Future { requested, current } => {
                Error::Future { requested: less(requested), current: less(current) }
            }
            other => other,
        }
    }
}

#[async_trait]
impl Store for Relative {
    async fn commit(&self, mut txn: Txn) -> Result<Committed, Error> {
        for (_, expect) in &mut txn.expect {
            if let Expect::ModRevision(revision) = expect {
                *revision += self.base;
            }
        }
        let committed = self.store.commit(txn).await.map_err(|error| self.error(error))?;
        Ok(Committed { revision: committed.revision - self.base })
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let found = self.store.get(key, at.map(|at| at + self.base)).await;
        found.map(|entry| entry.map(|entry| self.entry(entry))).map_err(|error| self.error(error))
    }

    async fn range(&self, mut range: Range) -> Result<Page, Error> {
        range.at = range.at.map(|at| at + self.base);
        let page = self.store.range(range).await.map_err(|error| self.error(error))?;
        let entries = page.entries.into_iter().map(|entry| self.entry(entry)).collect();
        Ok(Page { entries, revision: page.revision - self.base, remaining: page.remaining })
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        let watch = self.store.watch(prefix, after + self.base).await.map_err(|error| self.error(error))?;
        let (sender, events) = tokio::sync::mpsc::channel(1);
        let (this, mut inner) = (self.clone(), watch.events);
        tokio::spawn(async move {
            while let Some(told) = inner.recv().await {
                let told = told.map_err(|error| this.error(error)).map(|changes| Changes {
                    events: changes.events.into_iter().map(|event| this.event(event)).collect(),
                    revision: changes.revision - this.base,
                });
                if sender.send(told).await.is_err() {
                    return;
                }
            }
        });
        Ok(Watch { events })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision + self.base).await.map_err(|error| self.error(error))
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.store.head().await.map(|head| head - self.base)
    }

    async fn health(&self) -> Result<(), Error> {
        self.store.health().await
    }
}

contract!(InEtcd);

#[tokio::test]
async fn large_ranges_come_in_pieces_of_one_revision() {
    let server = harness::Etcd::start();
    let store = Etcd::open(options(&server, "/p")).await.unwrap();
    let other = Etcd::open(options(&server, "/q")).await.unwrap();
    // Small ones first, so that as many as that of the large ones behind are far too much to ask for at once.
    for i in 0..300 {
        store.commit(put(format!("/a/{i:03}"), i)).await.unwrap();
    }
    for i in 0..80 {
        store.commit(put(format!("/b/{i:02}"), "x".repeat(1 << 20))).await.unwrap();
    }
    other.commit(put("/a/1000", "not ours")).await.unwrap();
    let head = store.head().await.unwrap();
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.range(Range { prefix: bytes("/"), ..Range::default() }).await.unwrap() }
    });
    // What happens meanwhile shows whole or not at all.
    for i in 0..80 {
        store.commit(delete(format!("/b/{i:02}"))).await.unwrap();
    }
    let page = reading.await.unwrap();
    let gone = usize::try_from(page.revision - head).unwrap();
    assert_eq!((page.entries.len(), page.remaining), (380 - gone, 0));
    let limited = store.range(Range { prefix: bytes("/"), limit: 250, ..Range::default() }).await.unwrap();
    assert_eq!((limited.entries.len(), limited.remaining), (250, 50));
    assert_eq!(limited.entries[249].key, "/a/249");
    let (scanned, revision) = crate::contract::scanned(&store, "/").await;
    let whole = store.range(Range { prefix: bytes("/"), ..Range::default() }).await.unwrap();
    assert_eq!((scanned, revision), (whole.entries, whole.revision));
}

#[tokio::test]
async fn maintaining_compacts_what_is_old() {
    let server = harness::Etcd::start();
    let history = History { age: std::time::Duration::from_secs(300), revisions: 1000 };
    let store = Etcd::open(EtcdOptions { history: Some(history), ..options(&server, "/p") }).await.unwrap();
    let start = clock::Instant::default();
    let first = store.commit(put("k", 1)).await.unwrap().revision;
    store.maintain(start).await.unwrap();
    let second = store.commit(put("k", 2)).await.unwrap().revision;
    store.maintain(start + std::time::Duration::from_secs(299)).await.unwrap();
    assert!(store.get(b"k", Some(first)).await.unwrap().is_some());
    store.maintain(start + std::time::Duration::from_secs(600)).await.unwrap();
    let gone = store.get(b"k", Some(first)).await;
    assert!(matches!(gone, Err(Error::Compacted { oldest, .. }) if oldest == second), "{gone:?}");
}

#[tokio::test]
async fn etcds_limits_are_told_in_the_seams_words() {
    let server = harness::Etcd::start_with(&["--quota-backend-bytes", "16000000"]);
    let store = Etcd::open(options(&server, "/p")).await.unwrap();
    store.health().await.unwrap();
    // With its key it is a few bytes more than a request may have.
    let most = store::MAX_TXN_BYTES - 1;
    let refused = store.commit(put("k", "x".repeat(most))).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let mut written = 0;
    let full = loop {
        match store.commit(put(written, "x".repeat(1 << 20))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full), "{full:?}");
    assert!(written > 0 && matches!(store.health().await, Err(Error::Full)));
    let page = store.range(Range::default()).await.unwrap();
    assert_eq!(page.entries.len(), written, "reads go on");
}

#[tokio::test]
async fn certificates_are_checked_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let (server_chain, server_key) = issuer.issue(&["127.0.0.1"]);
    let files = [("ca", issuer.pem()), ("cert", server_chain), ("key", server_key)].map(|(name, pem)| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let [ca, cert, key] = &files;
    let server = harness::Etcd::start_tls(&[
        "--client-cert-auth",
        "--trusted-ca-file",
        ca,
        "--cert-file",
        cert,
        "--key-file",
        key,
    ]);
    let open = |tls| Etcd::open(EtcdOptions { tls, ..options(&server, "/p") });
    let authority = issuer.pem().into_bytes();
    let (chain, key) = issuer.issue(&["client"]);
    let identity = Some((chain.into_bytes(), key.into_bytes()));
    let store = open(Some(Tls { authority: authority.clone(), identity: identity.clone() })).await.unwrap();
    store.commit(put("k", "v")).await.unwrap();
    store.health().await.unwrap();
    let refused = [
        None,
        Some(Tls { authority: Vec::new(), identity: identity.clone() }),
        Some(Tls { authority: Issuer::new().pem().into_bytes(), identity }),
        Some(Tls { authority, identity: None }),
    ];
    for opened in futures::future::join_all(refused.map(open)).await {
        assert!(opened.is_err());
    }
}

struct Issuer(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Issuer {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &*self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
