//! The store under the server: in memory, slow, and in a storm faulty. Whatever commits is seen by the witness at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clock::Clock;
use store::{Committed, Entry, Error, Fault, Faulty, Memory, Page, Range, Revision, Scan, Store, Txn, Watch};

use crate::chance::Chance;
use crate::link::REQUEST;
use crate::time::SimulatedClock;
use crate::witness::Witness;

/// The disk, and the way to it.
#[derive(Debug)]
pub struct Disk {
    faulty: Faulty<Memory>,
    clock: Arc<SimulatedClock>,
    chance: Chance,
    witness: Arc<Witness>,
    stormy: AtomicBool,
}

impl Disk {
    /// One that holds what the memory does.
    pub fn new(memory: Memory, clock: Arc<SimulatedClock>, seed: u64, witness: Arc<Witness>) -> Self {
        let (faulty, chance) = (Faulty::new(memory), Chance::of(seed, "disk"));
        Self { faulty, clock, chance, witness, stormy: AtomicBool::new(false) }
    }

    /// What it holds.
    pub fn memory(&self) -> &Memory {
        self.faulty.inner()
    }

    /// Whether calls fail now and then.
    pub fn set_stormy(&self, stormy: bool) {
        self.stormy.store(stormy, Ordering::Relaxed);
    }

    /// Breaks every watch.
    pub fn sever(&self) {
        self.faulty.sever();
    }

    fn fault(&self) -> Fault {
        if !self.stormy.load(Ordering::Relaxed) {
            return Fault::None;
        }
        match self.chance.below(100) {
            0..10 => Fault::Before,
            10..20 => Fault::After,
            _ => Fault::None,
        }
    }

    async fn takes(&self, microseconds: u64) {
        let most = Duration::from_micros(microseconds);
        self.clock.sleep(self.chance.between(most / 10, most)).await;
    }

    /// Lets one call through, with whatever fault is drawn for it; then tells the witness what it did.
    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        // The call takes it when it is first polled, before anything else runs.
        self.faulty.inject([self.fault()]);
        let outcome = call.await;
        self.witness.look(self.memory(), REQUEST.try_with(Arc::clone).ok());
        outcome
    }
}

#[async_trait]
impl Store for Disk {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.takes(2000).await;
        let outcome = self.call(self.faulty.commit(txn)).await;
        self.takes(500).await;
        outcome
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.takes(200).await;
        self.call(self.faulty.get(key, at)).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.takes(500).await;
        self.call(self.faulty.range(range)).await
    }

    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        self.call(self.faulty.scan(prefix)).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        self.takes(200).await;
        self.call(self.faulty.watch(prefix, after)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.call(self.faulty.compact(revision)).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.call(self.faulty.head()).await
    }
}
