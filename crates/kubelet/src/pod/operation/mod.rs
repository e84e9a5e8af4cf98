//! What is done for a pod, each thing an operation of its own: the worker begins it, goes on looking, and hears how it
//! came out. A file a kind of operation.
//!
//! [`Key`] says what an operation is about: of one key one runs at a time.

mod remove;
mod resize;
mod sandbox;
mod scope;
mod start;
mod stop;
mod tell;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Pod, PodStatus};
use client::ObjectKey;
use clock::Clock;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use runtime::ContainerStatus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::memory::{Memory, Waiting};
use super::plan::Action;
pub(crate) use scope::Scope;
pub(crate) use start::{Refused, START_ERROR};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The same is not done again sooner than this: a runtime whose lists do not follow its answers must not keep a core busy.
const PAUSE: Duration = Duration::from_millis(20);

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The pod as a whole: its sandboxes.
    Pod,
    /// The pod's volumes.
    Volumes,
    /// What the API knows of it.
    Status,
    /// The next run of a container, by the container's name.
    Start(String),
    /// The hook after the start of a run, by the run's id.
    PostStart(String),
    /// The end of a run, by its id.
    Stop(String),
    /// An old run, by its id.
    Remove(String),
    /// The limits of what runs.
    Resize,
}

/// How an operation came out.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A sandbox was made, or why not.
    Sandbox(Result<(), Waiting>),
    /// Whether the volumes of a pod that has ended are removed.
    Released(bool),
    /// Volumes were renewed, or why not.
    Volumes(Result<(), String>),
    /// The status was taken, or why not.
    Told(Box<Told>),
    /// A run began; or ended before that; or could not be made.
    Started { container: String, result: Result<Began, Refused>, crash: Option<Backoff> },
    /// The hook after the start of a run has ended; in which words it failed.
    PostStart { container: String, run: String, failure: Option<String> },
    /// Whether the run has ended.
    Stopped { run: String, done: bool },
    /// Limits were set, or why not.
    Resized(Result<(), String>),
    /// Whether the run or sandbox that was to be removed, or stopped, is.
    Removed { id: String, done: bool },
}

impl Outcome {
    /// How long to wait before the same may be done again.
    fn pause(&self) -> Duration {
        match self {
            Outcome::Stopped { done: false, .. }
            | Outcome::Removed { done: false, .. }
            | Outcome::Released(false) => RETRY,
            Outcome::Told(told) if matches!(**told, Told::Failed | Told::Conflict(None)) => RETRY,
            // What came of it is in the way of telling the same again.
            Outcome::Told(_) => Duration::ZERO,
            _ => PAUSE,
        }
    }
}

/// What came of a start.
#[derive(Debug)]
pub(crate) enum Began {
    /// The run of that id, whose hook is to be run if it has one.
    Run { id: String, hook: bool },
    /// It ended before it began.
    Unstarted(Box<ContainerStatus>),
    /// It was given up.
    Abandoned,
}

/// What came of telling.
#[derive(Debug)]
pub(crate) enum Told {
    /// The pod as it is now, and what it was told.
    Taken(Arc<Pod>, PodStatus),
    /// Somebody else wrote first: the pod as it is now, if it is still there.
    Conflict(Option<Arc<Pod>>),
    /// The pod is gone.
    Gone(PodStatus),
    /// It has to be tried again.
    Failed,
}

/// By what an operation that runs can be reached.
struct Handle {
    abandon: CancellationToken,
    deadline: watch::Sender<Timestamp>,
}

/// What is being done for one pod. Dropped, it is given up where it waits.
pub(crate) struct Operations {
    clock: Arc<dyn Clock>,
    running: FuturesUnordered<BoxFuture<'static, (Key, Outcome)>>,
    handles: BTreeMap<Key, Handle>,
    /// What may not be done again before then.
    paused: BTreeMap<Key, Timestamp>,
}

impl Operations {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let running = FuturesUnordered::new();
        Self { clock, running, handles: BTreeMap::new(), paused: BTreeMap::new() }
    }

    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.handles.keys().cloned().collect()
    }

    /// The next outcome; `None` at once if nothing is being done.
    pub(crate) async fn next(&mut self) -> Option<Outcome> {
        let (key, outcome) = self.running.next().await?;
        self.handles.remove(&key);
        let now = self.clock.now();
        self.paused.retain(|_, until| *until > now);
        self.paused.insert(key, now.checked_add(outcome.pause()).unwrap_or(now));
        Some(outcome)
    }

    /// Begins what was planned, unless it is being done; or says when it may be begun.
    pub(crate) fn begin(&mut self, scope: &Scope, action: Action, memory: &Memory) -> Option<Timestamp> {
        let scope = scope.clone();
        match action {
            Action::Abandon { key } => {
                self.abandon(&key);
                None
            }
            Action::RunSandbox { attempt } => {
                self.spawn(Key::Pod, |token, _| sandbox::run(scope, attempt, token))
            }
            Action::StopSandbox { id } => self.spawn(Key::Pod, |_, _| remove::stop_sandbox(scope, id)),
            Action::RemoveSandbox { id } => self.spawn(Key::Pod, |_, _| remove::sandbox(scope, id)),
            Action::RenewVolumes => self.spawn(Key::Volumes, |token, _| volumes::renew(scope, token)),
            Action::ReleaseVolumes => self.spawn(Key::Volumes, |_, _| volumes::release(scope)),
            Action::Start { container, attempt, crash } => {
                let key = Key::Start(container.clone());
                self.spawn(key, |token, _| async move {
                    let result = start::run(scope, &container, attempt, token).await;
                    Outcome::Started { container, result, crash }
                })
            }
            Action::Stop { id, container, deadline, message } => {
                self.abandon(&Key::PostStart(id.clone()));
                let key = Key::Stop(id.clone());
                if let Some(handle) = self.handles.get(&key) {
                    hasten(&handle.deadline, deadline);
                    return None;
                }
                let hooked = memory.stops.get(&id).is_some_and(|stopping| stopping.hooked);
                let stop = stop::Stop { id, container, message, hooked };
                self.spawn(key, |_, ends| {
                    ends.send_replace(deadline);
                    stop::run(scope, stop, ends.subscribe())
                })
            }
            Action::Resize { runs, pod } => self.spawn(Key::Resize, |_, _| resize::run(scope, runs, pod)),
            Action::Remove { id } => self.spawn(Key::Remove(id.clone()), |_, _| remove::container(scope, id)),
        }
    }

    /// Runs the hook after the start of a run.
    pub(crate) fn post_start(&mut self, scope: &Scope, container: String, run: String) {
        let scope = scope.clone();
        self.spawn(Key::PostStart(run.clone()), |token, _| start::hook(scope, container, run, token));
    }

    /// Brings the API up to date, unless that is being done; or says when it may be begun.
    pub(crate) fn tell(&mut self, scope: &Scope, key: ObjectKey, status: PodStatus) -> Option<Timestamp> {
        let scope = scope.clone();
        self.spawn(Key::Status, |_, _| tell::run(scope, key, status))
    }

    fn abandon(&self, key: &Key) {
        if let Some(handle) = self.handles.get(key) {
            handle.abandon.cancel();
        }
    }

    fn spawn<F>(
        &mut self,
        key: Key,
        operation: impl FnOnce(CancellationToken, &watch::Sender<Timestamp>) -> F,
    ) -> Option<Timestamp>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if self.handles.contains_key(&key) {
            return None;
        }
        if let Some(until) = self.paused.get(&key).filter(|until| **until > self.clock.now()) {
            return Some(*until);
        }
        let handle =
            Handle { abandon: CancellationToken::new(), deadline: watch::Sender::new(Timestamp::MAX) };
        let operation = operation(handle.abandon.clone(), &handle.deadline);
        self.handles.insert(key.clone(), handle);
        self.running.push(Box::pin(async move { (key, operation.await) }));
        None
    }
}

/// Moves a deadline nearer; whoever waits for it is woken by a change alone.
fn hasten(deadline: &watch::Sender<Timestamp>, to: Timestamp) {
    deadline.send_if_modified(|known| {
        let sooner = to < *known;
        *known = to.min(*known);
        sooner
    });
}
