//! The worker of a partition: it owns the I/O that the engine asks for.

mod keep;
mod recorder;
mod replay;
mod run;
mod turn;
mod waiters;

use std::sync::Arc;

use clock::{Clock, Random};
use effects::{Invoker, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use keep::{Keeper, OpenStorage, Parts};
pub use recorder::JournalLimits;

use crate::engine::{
    Ending, Engine, LaneStatus, Limits, NewInvocation, RESERVED, Recovered, Terms, Unfinished,
};
use crate::invocation::{Invocation, Phase};
use crate::storage::{Partition, Storage, StorageError, number};
use crate::tables::{self, Table};
use turn::{Call, Turns};

/// How a worker is bounded.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Of the partition.
    pub limits: Limits,
    /// Of each journal.
    pub journal: JournalLimits,
}

/// How many calls may wait for the worker.
const WAITING: usize = 1024;
/// The longest id, in bytes.
const ID_BYTES: usize = 255;

/// Why the worker did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The id is already that of another request.
    #[error("the id {0:?} was used before with another method, path, body or credentials")]
    Mismatch(String),
    /// The id cannot be one.
    #[error("an id has 1 to {ID_BYTES} visible ASCII characters")]
    InvalidId,
    /// There are too many unfinished invocations, or their requests are too large together.
    #[error("too many invocations of {0} are unfinished")]
    Full(String),
    /// The request is larger than a journal takes.
    #[error("the request has more than {0} bytes")]
    TooLarge(usize),
    /// The disk is nearly full.
    #[error("the disk has no space for new invocations")]
    NoSpace,
    /// There is no such invocation.
    #[error("no such invocation")]
    NotFound,
    /// It has ended, and can be cancelled no more.
    #[error("the invocation has already ended")]
    Ended,
    /// The worker has stopped. What was asked may have been done: ask again with the same id when it is back.
    #[error("the durable worker has stopped")]
    Stopped,
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What [`Worker::submit`] gives.
#[derive(Debug)]
pub struct Submission {
    /// The invocation is new; otherwise one with this id was there.
    pub started: bool,
    /// The invocation as it stands.
    pub invocation: Invocation,
    ending: oneshot::Receiver<Result<Ending, Error>>,
}

impl Submission {
    /// Waits for the end. Dropping the submission does not end the invocation.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the worker stops before; the invocation goes on when it is opened again.
    pub async fn ending(self) -> Result<Ending, Error> {
        self.ending.await.unwrap_or(Err(Error::Stopped))
    }
}

/// An invocation and what it does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its row.
    pub invocation: Invocation,
    /// It runs at this moment.
    pub running: bool,
}

/// Some of the invocations there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In order of component and id.
    pub invocations: Vec<Invocation>,
    /// Where the next page begins.
    pub next: Option<Vec<u8>>,
}

/// A handle to the worker of one partition. Clones are handles to the same one.
#[derive(Clone)]
pub struct Worker {
    calls: mpsc::Sender<Call>,
    partition: Arc<Partition>,
    running: turn::Running,
    request_limit: usize,
    stop: CancellationToken,
    stopped: watch::Receiver<Option<Error>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("partition", &self.partition.identity()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Takes the partition over, goes on with everything in it that is unfinished, and works until `stop` is cancelled or
    /// the storage fails (see [`Worker::stopped`]). Must be called inside a tokio runtime, whose threads the
    /// invocations run on.
    ///
    /// # Errors
    /// When the storage cannot be read or written.
    pub async fn open(
        storage: Box<dyn Storage>,
        invoker: Arc<dyn Invoker>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        config: Config,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let partition = Arc::new(Partition::open(storage, &random.uid().replace('-', "")).await?);
        let (engine, actions) = Engine::recover(config.limits, recover(&partition)?);
        let (calls, receiver) = mpsc::channel(WAITING);
        let (stopped_sender, stopped) = watch::channel(None);
        let runner = run::Runner {
            partition: partition.clone(),
            invoker,
            clock: clock.clone(),
            limits: config.journal,
        };
        let running = turn::Running::default();
        let turns = Turns::new(engine, partition.clone(), clock, runner, running.clone(), receiver);
        let token = stop.clone();
        tokio::spawn(async move {
            let error = turns.work(actions, &token).await;
            if let Error::Storage(error) = &error {
                tracing::error!(%error, "the durable worker stops");
            }
            stopped_sender.send_replace(Some(error));
        });
        Ok(Self { calls, partition, running, request_limit: config.journal.request, stop, stopped })
    }

    /// Begins an invocation of `component` (`namespace/name@revision`), unless there is one with this id (for any
    /// revision of the component). Returns when it is on disk.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the id belongs to another request; [`Error::Full`], [`Error::TooLarge`],
    /// [`Error::NoSpace`], [`Error::InvalidId`], and those of the storage.
    pub async fn submit(
        &self,
        component: &str,
        id: &str,
        request: Request,
        terms: Terms,
    ) -> Result<Submission, Error> {
        if id.is_empty() || id.len() > ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::InvalidId);
        }
        if request.body().len() > self.request_limit {
            return Err(Error::TooLarge(self.request_limit));
        }
        let new = NewInvocation::new(component.into(), id.into(), request, terms);
        self.call(|answer| Call::Submit { new: Box::new(new), answer }).await
    }

    /// Waits for the end of an invocation of `namespace/name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Stopped`] when the worker stops before the invocation ends.
    pub async fn await_reply(&self, name: &str, id: &str) -> Result<Ending, Error> {
        let key = tables::invocation_key(name, id);
        self.call(|answer| Call::Await { key, answer }).await
    }

    /// Ends an invocation where it stands. What it did stays done.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Ended`] if it was too late.
    pub async fn cancel(&self, name: &str, id: &str) -> Result<(), Error> {
        let key = tables::invocation_key(name, id);
        self.call(|answer| Call::Cancel { key, answer }).await
    }

    /// Says that `component` (`namespace/name@revision`) can be invoked now: what waited for it goes on.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn component_ready(&self, component: &str) -> Result<(), Error> {
        let call = Call::Ready { component: component.into() };
        self.calls.send(call).await.map_err(|_| Error::Stopped)
    }

    /// Which pinned components have unfinished invocations, and so must stay invocable.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn lanes(&self) -> Result<Vec<LaneStatus>, Error> {
        self.call(|answer| Call::Lanes { answer }).await
    }

    /// Looks an invocation up. Reads the disk on the calling thread.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn status(&self, name: &str, id: &str) -> Result<Option<Status>, Error> {
        let key = tables::invocation_key(name, id);
        let Some(row) = self.partition.get(Table::Invocations, &key)? else { return Ok(None) };
        let invocation = Invocation::decode(&key, &row).map_err(StorageError::from)?;
        let running =
            self.running.contains(invocation.sequence) && matches!(invocation.phase, Phase::Ready { .. });
        Ok(Some(Status { invocation, running }))
    }

    /// Lists invocations: of `namespace/name`, or all, from the start or from where the last page ended. Reads the disk on
    /// the calling thread.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn list(&self, name: Option<&str>, from: Option<&[u8]>, limit: usize) -> Result<Page, Error> {
        let (first, end) = match name {
            Some(name) => {
                let (first, end) = tables::invocation_range(name);
                (first, Some(end))
            }
            None => (Vec::new(), None),
        };
        let from = from.map_or(first.as_slice(), |from| from.max(&first));
        let mut rows =
            self.partition.range(Table::Invocations, from, end.as_deref(), limit.saturating_add(1))?;
        let next = rows.get(limit).map(|(key, _)| key.to_vec());
        rows.truncate(limit);
        let decoded = rows.iter().map(|(key, value)| Invocation::decode(key, value));
        let invocations = decoded.collect::<Result<_, _>>().map_err(StorageError::from)?;
        Ok(Page { invocations, next })
    }

    /// Waits until the worker has stopped, and says why: [`Error::Stopped`] if it was told to. Running invocations were
    /// dropped where they stood.
    pub async fn stopped(&self) -> Error {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(Error::Stopped),
            Err(_) => Error::Stopped,
        }
    }

    /// Stops the worker and waits until nothing of it runs.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.stopped().await;
    }

    async fn call<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Call,
    ) -> Result<T, Error> {
        let (answer, receiver) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| Error::Stopped)?;
        receiver.await.unwrap_or(Err(Error::Stopped))
    }
}

/// Reads what an engine begins with.
fn recover(partition: &Partition) -> Result<Recovered, StorageError> {
    const PAGE: usize = 256;
    let next = match partition.get(Table::Meta, RESERVED)? {
        Some(bytes) => number(&bytes)?,
        None => 1,
    };
    let nearest = turn::nearest(partition)?;
    let mut lanes = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = partition.range(Table::Lanes, &from, None, PAGE)?;
        for (key, value) in &page {
            let component = String::from_utf8_lossy(key);
            lanes.push((Arc::from(component), Unfinished::decode(value)?));
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last, &[0][..]].concat(),
            _ => return Ok(Recovered { next, nearest, lanes }),
        }
    }
}
