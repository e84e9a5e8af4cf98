//! Any backend whose values are sealed: the contract, and what is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use store::{Cipher, Embedded, Encrypted, Error, History, Range, Store};
use tempfile::TempDir;

use crate::contract::{Backend, bytes, contract, events, put};

/// Hides nothing from a reader of this file, and the plain text from the backend: each byte, and the key's last one, differ by
/// the key's number, which stands before them.
struct Shift(AtomicU8);

const MAGIC: u8 = 0xff;

impl Cipher for Shift {
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, String> {
        let number = self.0.load(Ordering::Relaxed);
        let place = key.last().copied().unwrap_or_default();
        let shifted = value.iter().map(|byte| byte.wrapping_add(number));
        Ok([MAGIC, number, place].into_iter().chain(shifted).collect())
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Option<Bytes>, String> {
        let [MAGIC, number, place, shifted @ ..] = sealed else { return Ok(None) };
        if *place != key.last().copied().unwrap_or_default() {
            return Err("it is of another place".into());
        }
        Ok(Some(shifted.iter().map(|byte| byte.wrapping_sub(*number)).collect()))
    }

    fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&[MAGIC, self.0.load(Ordering::Relaxed)])
    }
}

fn embedded(directory: &TempDir) -> Embedded {
    Embedded::open(&disk::Options::new(directory.path().join("store")), History::default()).unwrap()
}

struct Sealed(TempDir);

impl Backend for Sealed {
    type Store = Encrypted<Embedded>;

    type Shared = ();

    fn new((): &()) -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Encrypted<Embedded> {
        Encrypted::new(Arc::new(embedded(&self.0)), vec![Bytes::new()], Arc::new(Shift(7.into())))
    }

    async fn close(store: Encrypted<Embedded>) {
        store.inner().close().await.unwrap();
    }
}

contract!(Sealed);

#[tokio::test]
async fn the_backend_sees_what_is_no_secret_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (inner, cipher) = (Arc::new(embedded(&directory)), Arc::new(Shift(1.into())));
    // From before anything was sealed.
    inner.commit(put("secret/old", "plain")).await.unwrap();
    let store = Encrypted::new(inner.clone(), vec![bytes("secret/")], cipher.clone());
    let mut watch = store.watch(bytes(""), 1).await.unwrap();
    store.commit(put("secret/a", "hidden")).await.unwrap();
    store.commit(put("open/a", "shown")).await.unwrap();
    let seen: Vec<Bytes> =
        events(&mut watch, 2).await.into_iter().map(|event| event.entry.unwrap().value).collect();
    assert_eq!(seen, ["hidden", "shown"]);
    let kept = async |key: &str| inner.get(key.as_bytes(), None).await.unwrap().unwrap().value;
    assert_ne!(kept("secret/a").await, "hidden");
    assert_eq!((kept("open/a").await, kept("secret/old").await), (bytes("shown"), bytes("plain")));
    assert_eq!(store.get(b"secret/old", None).await.unwrap().unwrap().value, "plain");

    // Nothing that is there has to be sealed but the one from before; with the next key all has.
    assert_eq!((store.renew().await.unwrap(), store.renew().await.unwrap()), (1, 0));
    assert_ne!(kept("secret/old").await, "plain");
    cipher.0.store(2, Ordering::Relaxed);
    for number in 0..450 {
        store.commit(put(format!("secret/{number}"), "more")).await.unwrap();
    }
    assert_eq!((store.renew().await.unwrap(), store.renew().await.unwrap()), (2, 0));
    let page = store.range(Range { prefix: bytes("secret/"), ..Range::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 452);
    assert!(page.entries.iter().all(|entry| ["hidden", "plain", "more"].map(bytes).contains(&entry.value)));

    // A value that was moved does not pass for the one of its new place.
    let moved = kept("secret/a").await;
    inner.commit(put("secret/b", "x")).await.unwrap();
    let txn = store::Txn {
        expect: vec![],
        writes: vec![store::Write::Put(bytes("secret/b"), moved)],
        ..store::Txn::default()
    };
    inner.commit(txn).await.unwrap();
    let error = store.get(b"secret/b", None).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(why) if why.contains("secret/b")), "{error}");
}
