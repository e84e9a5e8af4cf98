//! A worker that comes back: opened again, after a growing pause, whenever its storage fails.

use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, Random};
use effects::Invoker;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Config, Worker};
use crate::storage::Storage;

/// The pause after the first failure; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. A worker that worked for so long begins anew with the shortest.
const LONGEST: Duration = Duration::from_secs(60);

/// Opens the storage of a partition.
pub type OpenStorage = Box<dyn Fn() -> Result<Box<dyn Storage>, String> + Send + Sync>;

/// What a worker is made of, every time anew.
pub struct Parts {
    /// Opens its storage.
    pub storage: OpenStorage,
    /// Runs components.
    pub invoker: Arc<dyn Invoker>,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Names a new partition.
    pub random: Arc<dyn Random>,
    /// Its bounds.
    pub config: Config,
}

/// Keeps a partition worked on, though its disk may be full or fail for a time.
#[derive(Debug)]
pub struct Keeper {
    current: watch::Receiver<Option<Worker>>,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
}

impl Keeper {
    /// Tries to open a worker once, then goes on in a task of its own.
    pub async fn start(parts: Parts) -> Self {
        let (sender, current) = watch::channel(None);
        let stop = CancellationToken::new();
        let first = parts.open(&stop).await;
        sender.send_replace(first.clone());
        let token = stop.clone();
        let keeping = tokio::spawn(async move { parts.keep(first, &sender, &token).await });
        Self { current, stop, keeping }
    }

    /// The worker, while there is one.
    pub fn worker(&self) -> watch::Receiver<Option<Worker>> {
        self.current.clone()
    }

    /// Stops the worker and waits until nothing of it runs.
    pub async fn stop(self) {
        self.stop.cancel();
        if self.keeping.await.is_err() {
            tracing::error!("the task that keeps the durable worker ended by a panic");
        }
    }
}

impl Parts {
    async fn open(&self, stop: &CancellationToken) -> Option<Worker> {
        let opened = match (self.storage)() {
            Ok(storage) => {
                let (invoker, clock) = (self.invoker.clone(), self.clock.clone());
                let config = self.config.clone();
                Worker::open(storage, invoker, clock, &*self.random, config, stop.child_token())
                    .await
                    .map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        opened
            .inspect_err(|error| tracing::error!(error, "durable components do not run until it is opened"))
            .ok()
    }

    async fn keep(
        self,
        mut worker: Option<Worker>,
        current: &watch::Sender<Option<Worker>>,
        stop: &CancellationToken,
    ) {
        let mut pause = PAUSE;
        loop {
            if let Some(worker) = worker.take() {
                let began = self.clock.monotonic();
                worker.stopped().await;
                // Nobody may keep the old file open by its handle.
                current.send_replace(None);
                if self.clock.monotonic().since(began) >= LONGEST {
                    pause = PAUSE;
                }
            }
            if stop.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST);
            worker = self.open(stop).await;
            current.send_replace(worker.clone());
        }
    }
}
