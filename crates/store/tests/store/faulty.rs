//! The faulty store is itself exact: tests of other crates rely on what it says it did.

use store::{Embedded, Error, Fault, Faulty, History, Store};

use crate::contract::put;

#[tokio::test]
async fn faults_come_in_the_order_of_the_script() {
    let directory = tempfile::tempdir().unwrap();
    let options = disk::Options::new(directory.path().join("store"));
    let store = Faulty::new(Embedded::open(&options, History::default()).unwrap());
    store.inject([Fault::Before, Fault::After, Fault::None]);
    assert!(matches!(store.commit(put("k", "1")).await, Err(Error::Unavailable(_))));
    assert_eq!(store.inner().head().await.unwrap(), 0);
    assert!(matches!(store.commit(put("k", "2")).await, Err(Error::Unavailable(_))));
    assert_eq!(store.inner().head().await.unwrap(), 1);
    assert_eq!(store.commit(put("k", "3")).await.unwrap().revision, 2);
    assert_eq!(store.head().await.unwrap(), 2);
}
