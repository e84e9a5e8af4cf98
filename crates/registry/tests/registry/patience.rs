//! Which writes may wait for company on the disk.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry::{DeleteOptions, Part, Patch};
use serde_json::json;
use store::{Committed, Entry, Error, Memory, Page, Range, Revision, Store, Txn, Watch};

use crate::world::{World, config_map, cx, options};

/// A store that remembers what it was asked to commit, and how patiently.
#[derive(Default)]
struct Remembering {
    store: Memory,
    asked: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Store for Remembering {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.asked.lock().unwrap().push(txn.patience);
        self.store.commit(txn).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.store.get(key, at).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.store.range(range).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.store.head().await
    }
}

#[tokio::test]
async fn only_the_renewal_of_a_nodes_lease_is_patient() {
    let store = Arc::new(Remembering::default());
    let world = World::over(store.clone(), options()).await;
    let leases = world.kind("leases.coordination.k8s.io");
    let lease = json!({ "metadata": { "name": "n" }, "spec": { "holderIdentity": "n" } });
    let renewal = Patch::Merge(json!({ "spec": { "renewTime": "2026-11-22T10:00:00.000000Z" } }));
    store.asked.lock().unwrap().clear();
    for namespace in ["kube-node-lease", "kube-system"] {
        world.create_in(&cx(), "leases.coordination.k8s.io", namespace, lease.clone()).await.unwrap();
        world.registry.patch(&cx(), &leases, namespace, "n", Part::Whole, &renewal).await.unwrap();
    }
    world.registry.delete(&cx(), &leases, "kube-node-lease", "n", &DeleteOptions::default()).await.unwrap();
    world.create("configmaps", config_map("n", "1")).await.unwrap();
    world.merge("configmaps", "n", json!({ "data": { "value": "2" } })).await.unwrap();
    let patient: Vec<bool> = store.asked.lock().unwrap().iter().map(|patience| !patience.is_zero()).collect();
    assert_eq!(patient, [false, true, false, false, false, false, false]);
}
