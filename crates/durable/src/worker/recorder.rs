//! The recorder of one run: replays what the journal holds, then extends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clock::Clock;
use effects::{Class, Decision, Halt, InvokeError, Operation, Reply, Request, Ticket};
use jiff::Timestamp;

use super::replay::{Recorded, Replay};
use crate::codec::{Corrupt, later};
use crate::engine::Outcome;
use crate::invocation::Invocation;
use crate::journal::{Call, Entry};
use crate::storage::{Partition, StorageError};
use crate::tables::{self, Mutation, Part, Table};

/// The bounds of one journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// How many calls and sleeps it may hold.
    pub entries: u32,
    /// How many bytes one run may add.
    pub bytes: usize,
    /// How many bytes of reads may wait for the next write before they are written by themselves.
    pub buffer: usize,
    /// How many bytes a request's body may have: no storage takes a row of any size.
    pub request: usize,
    /// How many bytes a reply may have.
    pub reply: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 20, buffer: 256 << 10, request: 64 << 20, reply: 16 << 20 }
    }
}

/// See the module.
pub(super) struct Recorder {
    partition: Arc<Partition>,
    clock: Arc<dyn Clock>,
    limits: JournalLimits,
    sequence: u64,
    suspend_after: Duration,
    state: Mutex<State>,
}

struct State {
    replay: Replay,
    /// The index of the next call.
    next: u32,
    /// Rows that are not handed in yet.
    buffer: Vec<Mutation>,
    buffered: usize,
    added: usize,
    /// Reads that were let through and have no result yet.
    reading: Vec<(u32, Call)>,
    /// Why this run cannot go on, which is what becomes of it whatever the host makes of the error.
    stop: Option<(Halt, Outcome)>,
}

/// What a call has to do once the state is unlocked.
enum Step {
    Decided(Decision),
    /// Write this, then let the call through.
    Intent(Vec<Mutation>, Ticket),
    Wait(Timestamp),
    Done,
}

impl Recorder {
    /// For an invocation whose journal is empty but for its beginning, or is on disk.
    pub(super) fn new(
        partition: Arc<Partition>,
        clock: Arc<dyn Clock>,
        limits: JournalLimits,
        invocation: &Invocation,
        fresh: bool,
    ) -> Self {
        let sequence = invocation.sequence;
        let replay = if fresh { Replay::empty(sequence) } else { Replay::of(sequence) };
        let state = State {
            replay,
            next: u32::from(fresh),
            buffer: Vec::new(),
            buffered: 0,
            added: 0,
            reading: Vec::new(),
            stop: None,
        };
        let suspend_after = invocation.terms.suspend_after;
        Self { partition, clock, limits, sequence, suspend_after, state: Mutex::new(state) }
    }

    /// What was asked, for a journal on disk. Called before anything else.
    pub(super) fn request(&self) -> Result<Request, StorageError> {
        let mut state = self.lock();
        let index = state.next;
        state.next += 1;
        match state.replay.take(&self.partition, index)? {
            Recorded::Entry(Entry::Started(request), _) => Ok(*request),
            _ => Err(Corrupt::new("journal", "it does not begin with a request").into()),
        }
    }

    /// What became of the run.
    pub(super) fn conclude(&self, result: Result<Reply, InvokeError>) -> Outcome {
        let mut state = self.lock();
        if let Some((_, outcome)) = state.stop.take() {
            return outcome;
        }
        match result {
            Ok(reply) if reply.body().len() > self.limits.reply => {
                Outcome::Refused(format!("the reply has more than {} bytes", self.limits.reply))
            }
            Ok(reply) => match state.replay.left_over(&self.partition) {
                Ok(None) => Outcome::Replied(reply),
                Ok(Some((index, entry))) => {
                    let recorded = describe(&entry);
                    let halt = Halt::Diverged { sequence: index.into(), recorded, found: "a reply".into() };
                    Outcome::Failed(halt.to_string())
                }
                Err(error) => unreadable(&error),
            },
            // The host knows by itself what it has no way to record.
            Err(InvokeError::Halted(halt @ Halt::Refused(_))) => Outcome::Refused(halt.to_string()),
            Err(InvokeError::Halted(halt @ Halt::Diverged { .. })) => Outcome::Failed(halt.to_string()),
            Err(InvokeError::Halted(halt)) => Outcome::Interrupted(halt.to_string()),
            Err(InvokeError::NotReady(_)) => Outcome::NotReady,
            Err(InvokeError::Busy(_)) => Outcome::Busy,
            Err(error @ (InvokeError::Failed(_) | InvokeError::LimitExceeded { .. })) => {
                Outcome::Failed(error.to_string())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, operation: &Operation) -> Result<Step, Halt> {
        let mut state = self.lock();
        let index = state.index(self.limits)?;
        if operation.class == Class::Refused {
            let name = format!("{}#{}", operation.interface, operation.function);
            let halt = Halt::Refused(name);
            return Err(state.halt(halt.clone(), Outcome::Refused(halt.to_string())));
        }
        let found = || format!("{}#{}", operation.interface, operation.function);
        match state.take(&self.partition, index)? {
            Recorded::Entry(Entry::Call(call), result) if call.matches(operation) => match result {
                Some(Entry::Result(bytes)) => Ok(Step::Decided(Decision::Replay(bytes))),
                _ if operation.class == Class::Write => {
                    Ok(Step::Decided(Decision::Perform(self.ticket(index, true))))
                }
                _ => Ok(self.read(&mut state, index, operation)),
            },
            Recorded::Entry(entry, _) => Err(state.diverged(index, describe(&entry), found())),
            // A write is on disk before any call after it.
            Recorded::Gap if operation.class == Class::Write => {
                Err(state.diverged(index, "a read".into(), found()))
            }
            Recorded::End if operation.class == Class::Write => {
                state.put(
                    tables::journal_key(self.sequence, index, Part::Call),
                    &Entry::Call(Call::of(operation)),
                );
                Ok(Step::Intent(state.take_buffer(), self.ticket(index, false)))
            }
            Recorded::Gap | Recorded::End => Ok(self.read(&mut state, index, operation)),
        }
    }

    fn read(&self, state: &mut State, index: u32, operation: &Operation) -> Step {
        state.reading.push((index, Call::of(operation)));
        Step::Decided(Decision::Perform(self.ticket(index, false)))
    }

    fn ticket(&self, index: u32, in_doubt: bool) -> Ticket {
        let idempotency_key = format!("{}-{:x}-{index:x}", self.partition.identity(), self.sequence);
        Ticket { sequence: index.into(), idempotency_key, in_doubt }
    }

    /// Takes a result in; returns what has to be durable before the guest goes on.
    fn end(&self, ticket: &Ticket, result: Bytes) -> Result<Option<Vec<Mutation>>, Halt> {
        let mut state = self.lock();
        state.check()?;
        let Ok(index) = u32::try_from(ticket.sequence) else {
            return Err(Halt::Unavailable(format!("no call {} is under way", ticket.sequence)));
        };
        let read = state.reading.iter().position(|(reading, _)| *reading == index);
        let write = read.is_none();
        if let Some(at) = read {
            let (_, call) = state.reading.swap_remove(at);
            state.put(tables::journal_key(self.sequence, index, Part::Call), &Entry::Call(call));
        }
        state.put(tables::journal_key(self.sequence, index, Part::Result), &Entry::Result(result));
        if state.added > self.limits.bytes {
            return Err(state.too_large(format!("its journal has more than {} bytes", self.limits.bytes)));
        }
        Ok((write || state.buffered > self.limits.buffer).then(|| state.take_buffer()))
    }

    fn begin_sleep(&self, wanted: Duration) -> Result<Step, Halt> {
        let mut state = self.lock();
        let index = state.index(self.limits)?;
        let now = self.clock.now();
        let until = match state.take(&self.partition, index)? {
            Recorded::Entry(Entry::Sleep(until), _) => until,
            Recorded::Entry(entry, _) => {
                return Err(state.diverged(index, describe(&entry), "a sleep".into()));
            }
            Recorded::Gap | Recorded::End => {
                let until = later(now, wanted);
                let key = tables::journal_key(self.sequence, index, Part::Call);
                state.put(key, &Entry::Sleep(until));
                until
            }
        };
        let left = until.duration_since(now);
        if left.is_negative() || left.is_zero() {
            return Ok(Step::Done);
        }
        if left.unsigned_abs() > self.suspend_after {
            let entries = state.take_buffer();
            return Err(state.halt(Halt::Suspended, Outcome::Suspended { until, entries }));
        }
        Ok(Step::Wait(until))
    }

    async fn write(&self, mutations: Vec<Mutation>) -> Result<(), Halt> {
        self.partition.commit(mutations).await.map_err(|error| self.lock().unavailable(&error))
    }
}

impl State {
    fn check(&self) -> Result<(), Halt> {
        self.stop.as_ref().map_or(Ok(()), |(halt, _)| Err(halt.clone()))
    }

    /// The index of a new call.
    fn index(&mut self, limits: JournalLimits) -> Result<u32, Halt> {
        self.check()?;
        let index = self.next;
        if index > limits.entries {
            return Err(self.too_large(format!("its journal has more than {} entries", limits.entries)));
        }
        self.next += 1;
        Ok(index)
    }

    fn take(&mut self, partition: &Partition, index: u32) -> Result<Recorded, Halt> {
        self.replay.take(partition, index).map_err(|error| self.unavailable(&error))
    }

    fn put(&mut self, key: Vec<u8>, entry: &Entry) {
        let value = entry.encode();
        self.buffered += key.len() + value.len();
        self.added += key.len() + value.len();
        self.buffer.push(Mutation::Put(Table::Journal, key, value));
    }

    fn take_buffer(&mut self) -> Vec<Mutation> {
        self.buffered = 0;
        std::mem::take(&mut self.buffer)
    }

    fn halt(&mut self, halt: Halt, outcome: Outcome) -> Halt {
        let (halt, _) = self.stop.get_or_insert((halt, outcome));
        halt.clone()
    }

    fn diverged(&mut self, index: u32, recorded: String, found: String) -> Halt {
        let halt = Halt::Diverged { sequence: index.into(), recorded, found };
        let outcome = Outcome::Failed(halt.to_string());
        self.halt(halt, outcome)
    }

    fn unavailable(&mut self, error: &StorageError) -> Halt {
        self.halt(Halt::Unavailable(error.to_string()), unreadable(error))
    }

    fn too_large(&mut self, why: String) -> Halt {
        self.halt(Halt::Unavailable(why.clone()), Outcome::Refused(why))
    }
}

/// What becomes of a run whose journal cannot be read or written. What the disk or another release may yet put right is
/// tried again; bytes that mean nothing will mean nothing the next time.
pub(super) fn unreadable(error: &StorageError) -> Outcome {
    match error {
        StorageError::Corrupt(corrupt) if !corrupt.is_newer() => Outcome::Refused(error.to_string()),
        _ => Outcome::Interrupted(error.to_string()),
    }
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Started(_) => "its beginning".into(),
        Entry::Call(call) => format!("{}#{}", call.interface, call.function),
        Entry::Result(_) => "a result".into(),
        Entry::Sleep(_) => "a sleep".into(),
        Entry::Completed(_) => "its end".into(),
    }
}

#[async_trait]
impl effects::Recorder for Recorder {
    async fn start(&self, operation: Operation) -> Result<Decision, Halt> {
        match self.begin(&operation)? {
            Step::Decided(decision) => Ok(decision),
            Step::Intent(mutations, ticket) => {
                self.write(mutations).await?;
                Ok(Decision::Perform(ticket))
            }
            Step::Wait(_) | Step::Done => Err(Halt::Unavailable("a call is no sleep".into())),
        }
    }

    async fn finish(&self, ticket: Ticket, result: Bytes) -> Result<(), Halt> {
        match self.end(&ticket, result)? {
            Some(mutations) => self.write(mutations).await,
            None => Ok(()),
        }
    }

    async fn sleep(&self, nanoseconds: u64) -> Result<(), Halt> {
        if let Step::Wait(until) = self.begin_sleep(Duration::from_nanos(nanoseconds))? {
            let left = until.duration_since(self.clock.now()).max(jiff::SignedDuration::ZERO);
            self.clock.sleep(left.unsigned_abs()).await;
        }
        Ok(())
    }
}
