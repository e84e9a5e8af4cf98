//! The queue of one pinned component: its head in memory, the rest on disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::Corrupt;
use crate::invocation::Invocation;

/// Rows of `ready` up to `read` are in memory (queued or running); those beyond are on disk only, if `unread`.
#[derive(Debug)]
pub(super) struct Lane {
    queue: VecDeque<(u64, Invocation)>,
    read: Option<u64>,
    unread: bool,
    loading: bool,
    in_turns: bool,
    /// A run found the component missing, and nobody has said since that it is there.
    absent: bool,
    /// How often the component became ready.
    readiness: u64,
    running: u64,
    /// How many may run at a time.
    room: u64,
    unfinished: Unfinished,
}

/// The invocations of a lane that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// How many there are.
    pub count: u64,
    /// About how many bytes their requests have.
    pub bytes: u64,
}

impl Unfinished {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.count.to_be_bytes(), self.bytes.to_be_bytes()].concat()
    }

    /// Reads a row of `lanes`. The first release's have no bytes.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, Corrupt> {
        let number = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_be_bytes(*bytes));
        match (number(row.first_chunk()), number(row.last_chunk()), row.len()) {
            (Some(count), _, 8) => Ok(Self { count, bytes: 0 }),
            (Some(count), Some(bytes), 16) => Ok(Self { count, bytes }),
            _ => Err(Corrupt::new("lane", "it has another length")),
        }
    }
}

/// What is known of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// `namespace/name@revision`.
    pub component: Arc<str>,
    /// How many of its invocations have not ended.
    pub unfinished: u64,
    /// How many of them run.
    pub running: u64,
    /// The component was not there at the last attempt.
    pub absent: bool,
}

/// What [`Lane::take`] gives.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) start: Option<Invocation>,
    pub(super) readiness: u64,
    /// Rows after this place are wanted.
    pub(super) load: Option<Option<u64>>,
}

impl Lane {
    /// An empty lane of which so many may run at a time.
    pub(super) fn new(room: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            read: None,
            unread: false,
            loading: false,
            in_turns: false,
            absent: false,
            readiness: 0,
            running: 0,
            room,
            unfinished: Unfinished::default(),
        }
    }

    pub(super) fn recovered(room: u64, unfinished: Unfinished) -> Self {
        Self { unread: true, unfinished, ..Self::new(room) }
    }

    pub(super) fn status(&self, component: Arc<str>) -> LaneStatus {
        LaneStatus {
            component,
            unfinished: self.unfinished.count,
            running: self.running,
            absent: self.absent,
        }
    }

    pub(super) fn unfinished(&self) -> Unfinished {
        self.unfinished
    }

    pub(super) fn count(&mut self, change: impl FnOnce(Unfinished) -> Unfinished) -> Unfinished {
        self.unfinished = change(self.unfinished);
        self.unfinished
    }

    /// Adds an invocation whose row is the last of the lane.
    pub(super) fn push(&mut self, invocation: Invocation, place: u64, prefetch: usize) {
        if self.unread || self.queue.len() >= prefetch {
            self.unread = true;
        } else {
            self.queue.push_back((place, invocation));
            self.read = Some(place);
        }
    }

    /// Puts back a run that found no component. If the component came while it ran, the lane goes on.
    pub(super) fn not_ready(&mut self, invocation: Invocation, readiness: u64) {
        self.absent |= readiness == self.readiness;
        if let crate::Phase::Ready { place } = invocation.phase {
            let at = self.queue.partition_point(|(other, _)| *other < place);
            self.queue.insert(at, (place, invocation));
        }
    }

    pub(super) fn ready(&mut self) {
        self.absent = false;
        self.readiness += 1;
    }

    pub(super) fn bound(&mut self, room: u64) {
        self.room = room;
    }

    fn has_room(&self) -> bool {
        self.running < self.room
    }

    pub(super) fn run_ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Drops a queued invocation that was cancelled.
    pub(super) fn forget(&mut self, place: u64) {
        self.queue.retain(|(other, _)| *other != place);
    }

    /// Takes in what was read. The lane may have been emptied and begun anew since it asked: what it has already is
    /// left out.
    pub(super) fn loaded(&mut self, invocations: Vec<Invocation>, read: Option<u64>, more: bool) {
        if !self.loading {
            return;
        }
        self.loading = false;
        self.unread = more;
        for invocation in invocations {
            if let crate::Phase::Ready { place } = invocation.phase
                && self.read.is_none_or(|read| read < place)
            {
                self.queue.push_back((place, invocation));
            }
        }
        self.read = self.read.max(read);
    }

    /// Whether the lane has to be put among those that take turns; says so once until [`Lane::take`].
    pub(super) fn wants_turn(&mut self) -> bool {
        let work = !self.queue.is_empty() || (self.unread && !self.loading);
        let wants = work && !self.absent && !self.in_turns && self.has_room();
        self.in_turns |= wants;
        wants
    }

    /// The lane's turn.
    pub(super) fn take(&mut self, prefetch: usize) -> Taken {
        self.in_turns = false;
        let mut taken = Taken { start: None, readiness: self.readiness, load: None };
        if self.absent || !self.has_room() {
            return taken;
        }
        taken.start = self.queue.pop_front().map(|(_, invocation)| invocation);
        self.running += u64::from(taken.start.is_some());
        if self.unread && !self.loading && self.queue.len() <= prefetch / 2 {
            self.loading = true;
            taken.load = Some(self.read);
        }
        taken
    }
}
