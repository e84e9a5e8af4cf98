//! What goes into the engine, and what comes out.

use std::sync::Arc;
use std::time::Duration;

use effects::{Reply, Request};
use jiff::Timestamp;

use crate::invocation::Invocation;
use crate::journal::{Fingerprint, credentials, request_fingerprint};
use crate::tables::Mutation;

/// Names a caller whom an [`Answer`] goes to.
pub type Token = u64;

/// An invocation that somebody wants.
#[derive(Clone, Debug)]
pub struct NewInvocation {
    /// `namespace/name@revision`.
    pub component: Arc<str>,
    /// Its id.
    pub id: Arc<str>,
    /// What is asked.
    pub request: Request,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) credentials: Fingerprint,
    /// How it is treated.
    pub terms: Terms,
}

/// How an invocation is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Sleeps longer than this leave memory.
    pub suspend_after: Duration,
    /// How long it is kept after its end; `None`: as long as [`Limits::retention`](super::Limits::retention) says.
    pub retention: Option<Duration>,
}

impl Terms {
    /// Sleeps longer than this leave memory; the rest is the partition's.
    pub fn suspending_after(suspend_after: Duration) -> Self {
        Self { suspend_after, retention: None }
    }
}

impl NewInvocation {
    /// Fingerprints the request.
    pub fn new(component: Arc<str>, id: Arc<str>, request: Request, terms: Terms) -> Self {
        let (fingerprint, credentials) = (request_fingerprint(&request), credentials(request.headers()));
        Self { component, id, request, fingerprint, credentials, terms }
    }

    /// About how many bytes the request takes in its journal.
    pub(crate) fn size(&self) -> u64 {
        let headers = self.request.headers().iter();
        let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
        (headers + self.request.body().len()) as u64
    }
}

/// What bounds a new invocation from outside the partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// How many of the component may run at a time, if that is known.
    pub concurrency: Option<u32>,
    /// How many bytes the disk has left, if that is known.
    pub free_space: Option<u64>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Command {
    /// Somebody wants an invocation.
    Submit {
        /// Who.
        token: Token,
        /// What.
        submission: Box<NewInvocation>,
        /// The invocation that already has this id.
        known: Option<Invocation>,
        /// What the place is like that it would get.
        surroundings: Surroundings,
        /// When.
        now: Timestamp,
    },
    /// Somebody wants an invocation to end.
    Cancel {
        /// Who.
        token: Token,
        /// The invocation, if there is one.
        known: Option<Invocation>,
        /// When.
        now: Timestamp,
    },
    /// A run came to its end.
    Ended {
        /// Whose.
        sequence: u64,
        /// How.
        outcome: Outcome,
        /// When.
        now: Timestamp,
    },
    /// A component can be invoked.
    ComponentReady {
        /// `namespace/name@revision`.
        component: Arc<str>,
        /// How many of it may run at a time, if that is known.
        concurrency: Option<u32>,
    },
    /// Rows of `due` whose time has come.
    Due {
        /// The rows.
        rows: Vec<DueRow>,
        /// The time of the first row that was not read.
        nearest: Option<Timestamp>,
        /// When they were read.
        now: Timestamp,
    },
    /// The answer to [`Action::Load`].
    Loaded {
        /// The lane.
        component: Arc<str>,
        /// The invocations of its rows, in order.
        invocations: Vec<Invocation>,
        /// The place of the last row that was read.
        read: Option<u64>,
        /// Whether there are rows beyond.
        more: bool,
    },
}

/// A row of `due`.
#[derive(Debug)]
pub struct DueRow {
    /// Its key.
    pub key: Vec<u8>,
    /// The invocation that it names.
    pub invocation: Option<Invocation>,
}

/// How a run came to its end.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With a reply.
    Replied(Reply),
    /// It sleeps until then; the entries are what its journal lacks on disk.
    Suspended {
        /// Until when.
        until: Timestamp,
        /// Rows of the journal.
        entries: Vec<Mutation>,
    },
    /// The component is not there.
    NotReady,
    /// The component has no room for one more: it does not count as an attempt.
    Busy,
    /// The attempt failed; another may succeed.
    Failed(String),
    /// It did what it may not do, and would again.
    Refused(String),
    /// Something of this process failed: it does not count as an attempt.
    Interrupted(String),
    /// It was stopped by [`Action::Stop`].
    Stopped,
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With a reply.
    Completed(Reply),
    /// It was given up.
    Failed {
        /// How many attempts were made.
        attempts: u32,
        /// Why the last one failed.
        error: String,
    },
    /// It was cancelled.
    Cancelled,
}

/// What somebody who asked is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The invocation is new.
    Started(Invocation),
    /// There is one with this id and request.
    Attached(Invocation),
    /// There is one with this id and another request.
    Mismatch,
    /// The component has too many unfinished invocations, or their requests are too large together.
    Full,
    /// The disk has no space for new ones.
    NoSpace,
    /// There is no such invocation.
    NotFound,
    /// It had already ended.
    Ended,
    /// It has been cancelled.
    Cancelled,
}

/// Something to do. See [`Engine`](super::Engine) for the order.
#[derive(Debug)]
pub enum Action {
    /// Part of the turn's batch.
    Write(Mutation),
    /// Run an invocation and report with [`Command::Ended`].
    Start {
        /// Which.
        invocation: Invocation,
        /// What it was asked, if it is new: its journal is empty. Otherwise the journal begins with it.
        request: Option<Box<Request>>,
    },
    /// End a run, which is reported with [`Command::Ended`] all the same.
    Stop {
        /// Whose.
        sequence: u64,
    },
    /// Read rows of `ready` beyond a place and report with [`Command::Loaded`] before any other command.
    Load {
        /// The lane.
        component: Arc<str>,
        /// The place after which to read; `None` for the lane's beginning.
        after: Option<u64>,
        /// How many rows.
        limit: usize,
    },
    /// Tell somebody.
    Answer {
        /// Whom.
        token: Token,
        /// What.
        answer: Answer,
    },
    /// Tell everybody who waits for an invocation.
    Ended {
        /// Which.
        sequence: u64,
        /// How it ended.
        ending: Ending,
    },
}
