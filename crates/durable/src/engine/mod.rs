//! The pure engine of a partition: which invocation runs, waits, retries, ends and is purged.
//!
//! [`Engine::step`] takes a [`Command`] and gives the [`Action`]s that follow from it. It does no I/O and reads no clock.
//! The worker performs the actions of a turn in this order: all [`Action::Write`]s as one batch, and once that is
//! durable the rest; only a [`Action::Start`] that carries its request may begin before.
//!
//! What the engine holds in memory is bounded by the number of running invocations and of components: those that can
//! run but have no room yet stay on disk, but for a short queue a lane, and those that sleep are only on disk. A *lane*
//! is the queue of one pinned component; lanes take turns.

mod command;
mod lane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use effects::Request;
use jiff::Timestamp;

pub use command::{
    Action, Answer, Command, DueRow, Ending, NewInvocation, Outcome, Surroundings, Terms, Token,
};
pub use lane::{LaneStatus, Unfinished};

use crate::codec::later;
use crate::invocation::{Invocation, Phase};
use crate::journal::Entry;
use crate::tables::{self, LAST_INDEX, Mutation, Part, Table};
use lane::Lane;

/// The bounds of a partition.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many invocations run at once.
    pub running: usize,
    /// How many invocations of one pinned component run at once: less than all, so that no component's slow ones hold up
    /// every other.
    pub running_each: usize,
    /// How many invocations of one pinned component may be unfinished.
    pub unfinished: u64,
    /// How many bytes the requests of the unfinished invocations of one pinned component may have.
    pub unfinished_bytes: u64,
    /// With less free space than this many bytes on the disk no new invocation is taken.
    pub free_space: u64,
    /// How many invocations of a lane wait in memory; the others wait on disk.
    pub prefetch: usize,
    /// How many attempts an invocation has.
    pub attempts: u32,
    /// The wait after the first failed attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest wait between attempts.
    pub backoff_limit: Duration,
    /// How long an ended invocation is kept that has no [`Terms::retention`] of its own.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 256,
            running_each: 192,
            unfinished: 1_000_000,
            unfinished_bytes: 1 << 30,
            free_space: 256 << 20,
            prefetch: 64,
            attempts: 8,
            backoff: Duration::from_millis(200),
            backoff_limit: Duration::from_secs(60),
            retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The meta row under which the numbers up to which sequences and places are reserved is kept.
pub(crate) const RESERVED: &[u8] = b"reserved";
/// How long an invocation waits whose component had no room.
const BUSY: Duration = Duration::from_millis(200);
/// How many numbers are reserved at a time.
const RESERVATION: u64 = 4096;

/// What a partition's disk says at opening.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The first number that was never given out.
    pub next: u64,
    /// The time of the first row of `due`.
    pub nearest: Option<Timestamp>,
    /// The rows of `lanes`.
    pub lanes: Vec<(Arc<str>, Unfinished)>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    lanes: BTreeMap<Arc<str>, Lane>,
    /// Lanes that may have something to start, in turn.
    turns: VecDeque<Arc<str>>,
    running: BTreeMap<u64, Run>,
    next: u64,
    reserved: u64,
    nearest: Option<Timestamp>,
    /// The request of an invocation that is being submitted, in case that it starts at once.
    fresh: Option<(u64, Request)>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Run {
    invocation: Invocation,
    /// How often its lane had become ready when it began.
    readiness: u64,
    /// Who waits for its cancellation.
    cancelled: Vec<Token>,
}

impl Engine {
    /// An engine that goes on where the disk says, and its first actions.
    pub fn recover(limits: Limits, recovered: Recovered) -> (Self, Vec<Action>) {
        let mut engine = Self {
            limits,
            lanes: BTreeMap::new(),
            turns: VecDeque::new(),
            running: BTreeMap::new(),
            next: recovered.next,
            reserved: recovered.next,
            nearest: recovered.nearest,
            fresh: None,
            actions: Vec::new(),
        };
        for (name, unfinished) in recovered.lanes {
            let room = engine.room(None);
            engine.lanes.insert(name.clone(), Lane::recovered(room, unfinished));
            engine.take_turn(&name);
        }
        engine.schedule();
        let actions = std::mem::take(&mut engine.actions);
        (engine, actions)
    }

    /// When the next row of `due` is due.
    pub fn nearest(&self) -> Option<Timestamp> {
        self.nearest
    }

    /// The pinned components that have unfinished invocations.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus> {
        self.lanes.iter().map(|(name, lane)| lane.status(name.clone()))
    }

    /// One command.
    pub fn step(&mut self, command: Command) -> Vec<Action> {
        match command {
            Command::Submit { token, submission, known, surroundings, now } => {
                let answer = self.submit(*submission, known, surroundings, now);
                self.actions.push(Action::Answer { token, answer });
            }
            Command::Cancel { token, known, now } => self.cancel(token, known, now),
            Command::Ended { sequence, outcome, now } => self.ended(sequence, outcome, now),
            Command::ComponentReady { component, concurrency } => {
                self.component_ready(&component, concurrency);
            }
            Command::Due { rows, nearest, now } => self.due(rows, nearest, now),
            Command::Loaded { component, invocations, read, more } => {
                if let Some(lane) = self.lanes.get_mut(&component) {
                    lane.loaded(invocations, read, more);
                    self.take_turn(&component);
                }
            }
        }
        self.schedule();
        self.fresh = None;
        std::mem::take(&mut self.actions)
    }

    fn submit(
        &mut self,
        new: NewInvocation,
        known: Option<Invocation>,
        surroundings: Surroundings,
        now: Timestamp,
    ) -> Answer {
        if let Some(known) = known {
            let same = known.fingerprint == new.fingerprint && known.credentials == new.credentials;
            return if same { Answer::Attached(known) } else { Answer::Mismatch };
        }
        let Unfinished { count, bytes } =
            self.lanes.get(&new.component).map(Lane::unfinished).unwrap_or_default();
        if count >= self.limits.unfinished || bytes + new.size() > self.limits.unfinished_bytes {
            return Answer::Full;
        }
        // What runs already needs the rest to come to its end.
        if surroundings.free_space.is_some_and(|free| free < self.limits.free_space + new.size()) {
            return Answer::NoSpace;
        }
        let room = self.room(surroundings.concurrency);
        self.lane(&new.component).bound(room);
        Answer::Started(self.admit(new, now))
    }

    fn admit(&mut self, new: NewInvocation, now: Timestamp) -> Invocation {
        let sequence = self.number();
        let size = new.size();
        let invocation = Invocation {
            sequence,
            component: new.component,
            id: new.id,
            fingerprint: new.fingerprint,
            credentials: new.credentials,
            size,
            terms: new.terms,
            created: now,
            attempts: 0,
            interruptions: 0,
            phase: Phase::Ready { place: sequence },
        };
        self.count(&invocation.component, |unfinished| Unfinished {
            count: unfinished.count + 1,
            bytes: unfinished.bytes + size,
        });
        self.journal(sequence, 0, &Entry::Started(Box::new(new.request.clone())));
        self.fresh = Some((sequence, new.request));
        self.enqueue(invocation.clone(), sequence);
        invocation
    }

    fn cancel(&mut self, token: Token, known: Option<Invocation>, now: Timestamp) {
        let Some(invocation) = known else {
            return self.actions.push(Action::Answer { token, answer: Answer::NotFound });
        };
        if invocation.phase.ended().is_some() {
            return self.actions.push(Action::Answer { token, answer: Answer::Ended });
        }
        if let Some(run) = self.running.get_mut(&invocation.sequence) {
            run.cancelled.push(token);
            return self.actions.push(Action::Stop { sequence: invocation.sequence });
        }
        if let Phase::Ready { place } = invocation.phase {
            self.lane(&invocation.component).forget(place);
        }
        self.end(invocation, Ending::Cancelled, now);
        self.actions.push(Action::Answer { token, answer: Answer::Cancelled });
    }

    fn ended(&mut self, sequence: u64, outcome: Outcome, now: Timestamp) {
        let Some(Run { mut invocation, readiness, cancelled }) = self.running.remove(&sequence) else {
            return;
        };
        let component = invocation.component.clone();
        self.lane(&component).run_ended();
        // A reply that was there before the cancellation wins: somebody may have acted on its effects.
        let (outcome, answer) = match outcome {
            Outcome::Replied(reply) => (Outcome::Replied(reply), Answer::Ended),
            outcome if cancelled.is_empty() => (outcome, Answer::Cancelled),
            _ => (Outcome::Stopped, Answer::Cancelled),
        };
        match outcome {
            Outcome::Replied(reply) => self.end(invocation, Ending::Completed(reply), now),
            Outcome::Stopped => self.end(invocation, Ending::Cancelled, now),
            Outcome::Refused(error) => {
                let attempts = invocation.attempts.saturating_add(1);
                self.end(invocation, Ending::Failed { attempts, error }, now);
            }
            Outcome::Suspended { until, entries } => {
                invocation.interruptions = 0;
                self.actions.extend(entries.into_iter().map(Action::Write));
                self.postpone(invocation, Phase::Sleeping { until });
            }
            Outcome::NotReady => self.lane(&component).not_ready(invocation, readiness),
            Outcome::Busy => {
                let (at, error) = (later(now, BUSY), "the component was busy".to_owned());
                self.postpone(invocation, Phase::Retrying { at, error });
            }
            Outcome::Interrupted(error) => {
                let at = later(now, self.backoff(&invocation));
                invocation.interruptions = invocation.interruptions.saturating_add(1);
                self.postpone(invocation, Phase::Retrying { at, error });
            }
            Outcome::Failed(error) => {
                invocation.interruptions = 0;
                let wait = self.backoff(&invocation);
                invocation.attempts = invocation.attempts.saturating_add(1);
                if invocation.attempts >= self.limits.attempts {
                    let attempts = invocation.attempts;
                    self.end(invocation, Ending::Failed { attempts, error }, now);
                } else {
                    self.postpone(invocation, Phase::Retrying { at: later(now, wait), error });
                }
            }
        }
        self.take_turn(&component);
        let answers = cancelled.into_iter().map(|token| Action::Answer { token, answer: answer.clone() });
        self.actions.extend(answers);
    }

    fn component_ready(&mut self, component: &Arc<str>, concurrency: Option<u32>) {
        let room = self.room(concurrency);
        if let Some(lane) = self.lanes.get_mut(component) {
            lane.bound(room);
            lane.ready();
            self.take_turn(component);
        }
    }

    fn due(&mut self, rows: Vec<DueRow>, nearest: Option<Timestamp>, now: Timestamp) {
        // Rows written in this very turn are not in what was read.
        self.nearest = nearest;
        for DueRow { key, invocation } in rows {
            self.write(Mutation::Delete(Table::Due, key));
            let Some(invocation) = invocation else { continue };
            match invocation.phase {
                Phase::Sleeping { until } if until <= now => self.ready(invocation),
                Phase::Retrying { at, .. } if at <= now => self.ready(invocation),
                Phase::Completed { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => {
                    self.purge(&invocation)
                }
                // A row that does not belong to its invocation's phase: only a defect could leave one.
                Phase::Ready { .. } | Phase::Sleeping { .. } | Phase::Retrying { .. } => {}
            }
        }
    }

    /// Makes a waiting invocation able to run, behind those that already are.
    fn ready(&mut self, mut invocation: Invocation) {
        let place = self.number();
        invocation.phase = Phase::Ready { place };
        self.enqueue(invocation, place);
    }

    fn enqueue(&mut self, invocation: Invocation, place: u64) {
        let component = invocation.component.clone();
        self.write(Mutation::Put(Table::Invocations, invocation.key(), invocation.encode()));
        let row = tables::ready_key(&component, place);
        self.write(Mutation::Put(Table::Ready, row, invocation.id.as_bytes().to_vec()));
        let prefetch = self.limits.prefetch;
        self.lane(&component).push(invocation, place, prefetch);
        self.take_turn(&component);
    }

    /// Takes an invocation that could run out of its lane until a time.
    fn postpone(&mut self, mut invocation: Invocation, phase: Phase) {
        if let Phase::Ready { place } = invocation.phase {
            self.write(Mutation::Delete(Table::Ready, tables::ready_key(&invocation.component, place)));
        }
        let at = match &phase {
            Phase::Sleeping { until: at } | Phase::Retrying { at, .. } => *at,
            _ => return,
        };
        invocation.phase = phase;
        self.write(Mutation::Put(Table::Invocations, invocation.key(), invocation.encode()));
        self.remember(at, &invocation);
    }

    fn end(&mut self, mut invocation: Invocation, ending: Ending, now: Timestamp) {
        let sequence = invocation.sequence;
        match invocation.phase {
            Phase::Ready { place } => {
                self.write(Mutation::Delete(Table::Ready, tables::ready_key(&invocation.component, place)));
            }
            Phase::Sleeping { until: at } | Phase::Retrying { at, .. } => {
                self.write(Mutation::Delete(Table::Due, tables::due_key(at, sequence)));
            }
            Phase::Completed { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => return,
        }
        // What it did is of no more use; the reply is kept.
        let calls = tables::journal_key(sequence, 0, Part::Call);
        let end = tables::journal_key(sequence, LAST_INDEX, Part::Call);
        self.write(Mutation::DeleteRange(Table::Journal, calls, end));
        invocation.phase = match &ending {
            Ending::Completed(reply) => {
                self.journal(sequence, LAST_INDEX, &Entry::Completed(Box::new(reply.clone())));
                Phase::Completed { at: now }
            }
            Ending::Failed { attempts, error } => {
                invocation.attempts = *attempts;
                Phase::Failed { at: now, error: error.clone() }
            }
            Ending::Cancelled => Phase::Cancelled { at: now },
        };
        self.write(Mutation::Put(Table::Invocations, invocation.key(), invocation.encode()));
        let retention = invocation.terms.retention.unwrap_or(self.limits.retention);
        self.remember(later(now, retention), &invocation);
        self.count(&invocation.component, |unfinished| Unfinished {
            count: unfinished.count.saturating_sub(1),
            bytes: unfinished.bytes.saturating_sub(invocation.size),
        });
        self.actions.push(Action::Ended { sequence, ending });
    }

    fn purge(&mut self, invocation: &Invocation) {
        let from = tables::journal_key(invocation.sequence, 0, Part::Call);
        let to = tables::journal_key(invocation.sequence + 1, 0, Part::Call);
        self.write(Mutation::DeleteRange(Table::Journal, from, to));
        self.write(Mutation::Delete(Table::Invocations, invocation.key()));
    }

    /// Writes the row that brings an invocation back at a time.
    fn remember(&mut self, at: Timestamp, invocation: &Invocation) {
        let key = tables::due_key(at, invocation.sequence);
        self.write(Mutation::Put(Table::Due, key, invocation.key()));
        self.nearest = Some(self.nearest.map_or(at, |nearest| nearest.min(at)));
    }

    /// Starts what there is room for, one of each lane in turn.
    fn schedule(&mut self) {
        while self.running.len() < self.limits.running {
            let Some(name) = self.turns.pop_front() else { return };
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            let taken = lane.take(self.limits.prefetch);
            if let Some(after) = taken.load {
                let component = name.clone();
                self.actions.push(Action::Load { component, after, limit: self.limits.prefetch });
            }
            if let Some(invocation) = taken.start {
                let sequence = invocation.sequence;
                let request =
                    self.fresh.take_if(|(fresh, _)| *fresh == sequence).map(|(_, request)| Box::new(request));
                let run =
                    Run { invocation: invocation.clone(), readiness: taken.readiness, cancelled: Vec::new() };
                self.running.insert(sequence, run);
                self.actions.push(Action::Start { invocation, request });
            }
            self.take_turn(&name);
        }
    }

    fn take_turn(&mut self, component: &Arc<str>) {
        if self.lanes.get_mut(component).is_some_and(Lane::wants_turn) {
            self.turns.push_back(component.clone());
        }
    }

    fn lane(&mut self, component: &Arc<str>) -> &mut Lane {
        let room = self.room(None);
        self.lanes.entry(component.clone()).or_insert_with(|| Lane::new(room))
    }

    /// How many of a component may run at a time that itself takes so many.
    fn room(&self, concurrency: Option<u32>) -> u64 {
        let each = u64::try_from(self.limits.running_each).unwrap_or(u64::MAX);
        concurrency.map_or(each, |most| each.min(most.into())).max(1)
    }

    fn count(&mut self, component: &Arc<str>, change: impl FnOnce(Unfinished) -> Unfinished) {
        let unfinished = self.lane(component).count(change);
        let key = component.as_bytes().to_vec();
        if unfinished.count == 0 {
            self.lanes.remove(component);
            self.write(Mutation::Delete(Table::Lanes, key));
        } else {
            self.write(Mutation::Put(Table::Lanes, key, unfinished.encode()));
        }
    }

    /// A number larger than all that were ever given out.
    fn number(&mut self) -> u64 {
        if self.next >= self.reserved {
            self.reserved = self.next + RESERVATION;
            self.write(Mutation::Put(Table::Meta, RESERVED.to_vec(), self.reserved.to_be_bytes().to_vec()));
        }
        self.next += 1;
        self.next - 1
    }

    fn backoff(&self, invocation: &Invocation) -> Duration {
        let times = invocation.attempts.saturating_add(invocation.interruptions);
        let doubled = 1u32.checked_shl(times).and_then(|factor| self.limits.backoff.checked_mul(factor));
        let whole = doubled.map_or(self.limits.backoff_limit, |wait| wait.min(self.limits.backoff_limit));
        // Between three quarters and all of it, by its number: those that failed together do not come back together.
        let spread = invocation.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        whole - whole / 1024 * u32::try_from(spread).unwrap_or_default()
    }

    fn journal(&mut self, sequence: u64, index: u32, entry: &Entry) {
        let key = tables::journal_key(sequence, index, Part::Call);
        self.write(Mutation::Put(Table::Journal, key, entry.encode()));
    }

    fn write(&mut self, mutation: Mutation) {
        self.actions.push(Action::Write(mutation));
    }
}
