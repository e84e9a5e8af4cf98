//! The worker's turns: take what has happened, ask the engine, write once, then let the world see it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::run::Runner;
use super::waiters::{Waiter, Waiters};
use super::{Error, Submission};
use crate::engine::{
    Action, Answer, Command, DueRow, Ending, Engine, LaneStatus, NewInvocation, Outcome, Surroundings, Token,
};
use crate::invocation::{Invocation, Phase};
use crate::journal::Entry;
use crate::storage::{Partition, StorageError};
use crate::tables::{self, LAST_INDEX, Mutation, Part, Table};

/// How many commands one batch takes.
const TURN: usize = 512;
/// How many rows of `due` are read at once.
const DUE: usize = 256;
/// The longest sleep before the wall clock is looked at again: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(15 * 60);

/// What a handle asks of the worker.
pub(super) enum Call {
    Submit { new: Box<NewInvocation>, answer: oneshot::Sender<Result<Submission, Error>> },
    Await { key: Vec<u8>, answer: oneshot::Sender<Result<Ending, Error>> },
    Cancel { key: Vec<u8>, answer: oneshot::Sender<Result<(), Error>> },
    Ready { component: Arc<str> },
    Lanes { answer: oneshot::Sender<Result<Vec<LaneStatus>, Error>> },
}

/// The sequences of what runs, for those who only look.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<BTreeSet<u64>>>);

impl Running {
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }

    fn set(&self, sequence: u64, running: bool) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running {
            set.insert(sequence)
        } else {
            set.remove(&sequence)
        };
    }
}

enum Caller {
    Submit(Arc<str>, Arc<str>, oneshot::Sender<Result<Submission, Error>>),
    Cancel(oneshot::Sender<Result<(), Error>>),
}

/// What is done once a turn's batch is durable.
enum After {
    Action(Action),
    Await(Option<Invocation>, oneshot::Sender<Result<Ending, Error>>),
}

/// The state of the loop.
pub(super) struct Turns {
    engine: Engine,
    partition: Arc<Partition>,
    clock: Arc<dyn Clock>,
    runner: Runner,
    running: Running,
    calls: mpsc::Receiver<Call>,
    runs: JoinSet<Outcome>,
    handles: HashMap<u64, AbortHandle>,
    sequences: HashMap<Id, u64>,
    callers: HashMap<Token, Caller>,
    tokens: Token,
    waiters: Waiters,
    /// Rows of `ready` that the engine asked for, read before the next turn.
    loads: Vec<(Arc<str>, Option<u64>, usize)>,
    /// This turn's writes, its invocations by key, and what follows.
    batch: Vec<Mutation>,
    overlay: HashMap<Vec<u8>, Option<Vec<u8>>>,
    after: Vec<After>,
}

/// The time of the first row of `due`.
pub(super) fn nearest(partition: &Partition) -> Result<Option<Timestamp>, StorageError> {
    let first = partition.range(Table::Due, &[], None, 1)?;
    Ok(first.first().and_then(|(key, _)| tables::due_time(key)))
}

impl Turns {
    pub(super) fn new(
        engine: Engine,
        partition: Arc<Partition>,
        clock: Arc<dyn Clock>,
        runner: Runner,
        running: Running,
        calls: mpsc::Receiver<Call>,
    ) -> Self {
        Self {
            engine,
            partition,
            clock,
            runner,
            running,
            calls,
            runs: JoinSet::new(),
            handles: HashMap::new(),
            sequences: HashMap::new(),
            callers: HashMap::new(),
            tokens: 0,
            waiters: Waiters::new(),
            loads: Vec::new(),
            batch: Vec::new(),
            overlay: HashMap::new(),
            after: Vec::new(),
        }
    }

    /// Works until told to stop or until the storage fails. Runs and callers are dropped.
    pub(super) async fn work(mut self, recovered: Vec<Action>, stop: &CancellationToken) -> Error {
        let error = match stop.run_until_cancelled(self.turns(recovered)).await {
            Some(Err(error)) => Error::Storage(error),
            Some(Ok(())) | None => Error::Stopped,
        };
        self.runs.shutdown().await;
        if let Err(error) = self.partition.close().await {
            tracing::warn!(%error, "closing the journals failed; nothing that was acknowledged is lost");
        }
        error
    }

    async fn turns(&mut self, recovered: Vec<Action>) -> Result<(), StorageError> {
        self.take(recovered);
        self.finish().await?;
        loop {
            let read = self.read()?;
            let pending = !self.loads.is_empty() || self.is_due();
            if !read && !pending && !self.wait().await? {
                return Ok(());
            }
            self.drain()?;
            self.finish().await?;
        }
    }

    /// Reads what the engine waits for from the disk; whether that was anything.
    fn read(&mut self) -> Result<bool, StorageError> {
        let loads = std::mem::take(&mut self.loads);
        let due = self.is_due();
        let any = due || !loads.is_empty();
        // First of all, since what this turn adds to a lane is not on disk yet.
        for (component, after, limit) in loads {
            let command = self.load(component, after, limit)?;
            self.step(command);
        }
        if due {
            let command = self.read_due()?;
            self.step(command);
        }
        Ok(any)
    }

    fn is_due(&self) -> bool {
        self.engine.nearest().is_some_and(|nearest| nearest <= self.clock.now())
    }

    /// Waits for something to happen and takes it; false when every handle is gone and nothing is left to do.
    async fn wait(&mut self) -> Result<bool, StorageError> {
        let nap = self.engine.nearest().map(|nearest| {
            let left = nearest.duration_since(self.clock.now()).max(jiff::SignedDuration::ZERO);
            left.unsigned_abs().min(LOOK_AGAIN)
        });
        let clock = self.clock.clone();
        let timer = async move {
            match nap {
                Some(nap) => clock.sleep(nap).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            call = self.calls.recv() => match call {
                Some(call) => self.call(call)?,
                None => return Ok(false),
            },
            Some(ended) = self.runs.join_next_with_id() => self.run_ended(ended),
            () = timer => {}
        }
        Ok(true)
    }

    /// Takes what has happened meanwhile, as much as one batch should hold.
    fn drain(&mut self) -> Result<(), StorageError> {
        for _ in 0..TURN {
            let ended = self.runs.try_join_next_with_id();
            let call = self.calls.try_recv().ok();
            if ended.is_none() && call.is_none() {
                break;
            }
            if let Some(ended) = ended {
                self.run_ended(ended);
            }
            if let Some(call) = call {
                self.call(call)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<(), StorageError> {
        let now = self.clock.now();
        let token = self.tokens;
        self.tokens += 1;
        match call {
            Call::Submit { new, answer } => {
                let key = tables::invocation_key(crate::unpinned(&new.component), &new.id);
                let known = self.known(&key)?;
                self.callers.insert(token, Caller::Submit(new.component.clone(), new.id.clone(), answer));
                let surroundings = Surroundings {
                    concurrency: self.runner.invoker.concurrency(&new.component),
                    free_space: self.partition.free_space(),
                };
                self.step(Command::Submit { token, submission: new, known, surroundings, now });
            }
            Call::Cancel { key, answer } => {
                let known = self.known(&key)?;
                self.callers.insert(token, Caller::Cancel(answer));
                self.step(Command::Cancel { token, known, now });
            }
            Call::Await { key, answer } => {
                let known = self.known(&key)?;
                self.after.push(After::Await(known, answer));
            }
            Call::Ready { component } => {
                let concurrency = self.runner.invoker.concurrency(&component);
                self.step(Command::ComponentReady { component, concurrency });
            }
            Call::Lanes { answer } => {
                // Whoever asked may be gone.
                let _ = answer.send(Ok(self.engine.lanes().collect()));
            }
        }
        Ok(())
    }

    fn run_ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => (error.id(), Outcome::Stopped),
            Err(error) => (error.id(), Outcome::Failed(format!("the host panicked: {error}"))),
        };
        let Some(sequence) = self.sequences.remove(&id) else { return };
        self.handles.remove(&sequence);
        self.running.set(sequence, false);
        self.step(Command::Ended { sequence, outcome, now: self.clock.now() });
    }

    /// The invocation with a key as this turn left it, or else the disk.
    fn known(&self, key: &[u8]) -> Result<Option<Invocation>, StorageError> {
        let row = match self.overlay.get(key) {
            Some(row) => row.clone().map(Into::into),
            None => self.partition.get(Table::Invocations, key)?,
        };
        Ok(row.map(|row| Invocation::decode(key, &row)).transpose()?)
    }

    fn step(&mut self, command: Command) {
        let actions = self.engine.step(command);
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            let Action::Write(mutation) = action else {
                self.after.push(After::Action(action));
                continue;
            };
            match &mutation {
                Mutation::Put(Table::Invocations, key, value) => {
                    self.overlay.insert(key.clone(), Some(value.clone()));
                }
                Mutation::Delete(Table::Invocations, key) => {
                    self.overlay.insert(key.clone(), None);
                }
                _ => {}
            }
            self.batch.push(mutation);
        }
    }

    /// Writes the turn's batch, then does what follows.
    async fn finish(&mut self) -> Result<(), StorageError> {
        if !self.batch.is_empty() {
            let durable = self.partition.hand_in(std::mem::take(&mut self.batch)).await?;
            self.start_fresh();
            durable.await?;
        }
        self.overlay.clear();
        for after in std::mem::take(&mut self.after) {
            match after {
                After::Action(action) => self.act(action)?,
                After::Await(known, answer) => self.tell_ending(known, answer)?,
            }
        }
        Ok(())
    }

    /// Starts new invocations without waiting for the disk: their beginning is ahead of anything that they will write.
    fn start_fresh(&mut self) {
        let is_fresh =
            |after: &mut After| matches!(after, After::Action(Action::Start { request: Some(_), .. }));
        let fresh: Vec<_> = self.after.extract_if(.., is_fresh).collect();
        for after in fresh {
            if let After::Action(Action::Start { invocation, request }) = after {
                self.start(invocation, request);
            }
        }
    }

    fn start(&mut self, invocation: Invocation, request: Option<Box<effects::Request>>) {
        let sequence = invocation.sequence;
        let handle = self.runs.spawn(self.runner.run(invocation, request));
        self.sequences.insert(handle.id(), sequence);
        self.handles.insert(sequence, handle);
        self.running.set(sequence, true);
    }

    fn act(&mut self, action: Action) -> Result<(), StorageError> {
        match action {
            Action::Write(_) => {}
            Action::Start { invocation, request } => self.start(invocation, request),
            Action::Stop { sequence } => {
                if let Some(handle) = self.handles.get(&sequence) {
                    handle.abort();
                }
            }
            Action::Load { component, after, limit } => self.loads.push((component, after, limit)),
            Action::Ended { sequence, ending } => self.waiters.tell(sequence, &ending),
            Action::Answer { token, answer } => match self.callers.remove(&token) {
                Some(Caller::Submit(component, id, caller)) => {
                    self.answer_submit(&component, &id, caller, answer)?;
                }
                Some(Caller::Cancel(caller)) => {
                    let _ = caller.send(match answer {
                        Answer::NotFound => Err(Error::NotFound),
                        Answer::Ended => Err(Error::Ended),
                        _ => Ok(()),
                    });
                }
                None => {}
            },
        }
        Ok(())
    }

    fn answer_submit(
        &mut self,
        component: &str,
        id: &str,
        caller: oneshot::Sender<Result<Submission, Error>>,
        answer: Answer,
    ) -> Result<(), StorageError> {
        let (started, invocation) = match answer {
            Answer::Started(invocation) => (true, invocation),
            Answer::Attached(invocation) => (false, invocation),
            refused => {
                let _ = caller.send(Err(match refused {
                    Answer::Full => Error::Full(crate::unpinned(component).to_owned()),
                    Answer::NoSpace => Error::NoSpace,
                    _ => Error::Mismatch(id.to_owned()),
                }));
                return Ok(());
            }
        };
        let (waiter, ending) = oneshot::channel();
        self.tell_ending(Some(invocation.clone()), waiter)?;
        let _ = caller.send(Ok(Submission { started, invocation, ending }));
        Ok(())
    }

    /// Tells somebody how an invocation ended, when it has.
    fn tell_ending(&mut self, invocation: Option<Invocation>, waiter: Waiter) -> Result<(), StorageError> {
        let Some(invocation) = invocation else {
            let _ = waiter.send(Err(Error::NotFound));
            return Ok(());
        };
        let sequence = invocation.sequence;
        let ending = match invocation.phase {
            Phase::Completed { .. } => {
                let key = tables::journal_key(sequence, LAST_INDEX, Part::Call);
                match self.partition.get(Table::Journal, &key)?.map(|row| Entry::decode(&row)).transpose()? {
                    Some(Entry::Completed(reply)) => Ok(Ending::Completed(*reply)),
                    _ => Err(Error::NotFound),
                }
            }
            Phase::Failed { error, .. } => Ok(Ending::Failed { attempts: invocation.attempts, error }),
            Phase::Cancelled { .. } => Ok(Ending::Cancelled),
            Phase::Ready { .. } | Phase::Sleeping { .. } | Phase::Retrying { .. } => {
                self.waiters.add(sequence, waiter);
                return Ok(());
            }
        };
        let _ = waiter.send(ending);
        Ok(())
    }

    fn read_due(&self) -> Result<Command, StorageError> {
        let now = self.clock.now();
        let mut found = self.partition.range(Table::Due, &[], None, DUE + 1)?;
        let due = found
            .iter()
            .take(DUE)
            .take_while(|(key, _)| tables::due_time(key).is_none_or(|at| at <= now))
            .count();
        let nearest = found.get(due).and_then(|(key, _)| tables::due_time(key));
        found.truncate(due);
        let mut rows = Vec::with_capacity(due);
        for (key, invocation) in found {
            rows.push(DueRow { key: key.to_vec(), invocation: self.known(&invocation)? });
        }
        Ok(Command::Due { rows, nearest, now })
    }

    fn load(&self, component: Arc<str>, after: Option<u64>, limit: usize) -> Result<Command, StorageError> {
        let from = tables::ready_key(&component, after.map_or(0, |place| place + 1));
        let end = tables::ready_end(&component);
        let rows = self.partition.range(Table::Ready, &from, Some(&end), limit)?;
        let more = rows.len() == limit;
        let read = rows.last().and_then(|(key, _)| tables::ready_place(key));
        let mut invocations = Vec::with_capacity(rows.len());
        for (key, id) in rows {
            let place = tables::ready_place(&key);
            let key = [crate::unpinned(&component).as_bytes(), &[0], &id].concat();
            let found = self.known(&key)?;
            // A row that does not belong to its invocation's phase: only a defect could leave one.
            invocations.extend(found.filter(
                |found| matches!(found.phase, Phase::Ready { place: current } if Some(current) == place),
            ));
        }
        Ok(Command::Loaded { component, invocations, read, more })
    }
}
