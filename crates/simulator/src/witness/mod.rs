//! Who looks on: sees every commit as it happens, knows on whose behalf it was, and says when one should not have been.

mod acknowledged;
mod availability;
mod bindings;
mod budgets;
mod crons;
mod daemons;
mod fencing;
mod history;
mod jobs;
mod pods;
mod running;
mod settled;
mod stateful;
mod surge;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use client::ObjectKey;
use http::StatusCode;
use serde_json::Value;
use store::{Event, Memory, Revision};

use crate::link::Sent;
use crate::time::SimulatedClock;
use crate::trace::Trace;
pub use history::{Change, History, Key};

/// What must hold after every commit.
type Invariant = fn(&History, &Change) -> Result<(), String>;

/// All of them.
const INVARIANTS: [Invariant; 12] = [
    bindings::bound_once,
    surge::no_more_pods_than_wanted,
    surge::no_more_wanted_than_may_be,
    availability::no_fewer_than_must_be,
    stateful::made_in_order,
    stateful::updated_one_after_the_other,
    daemons::one_a_node,
    jobs::no_end_counted_twice,
    jobs::no_more_at_once_than_wanted,
    crons::not_at_once,
    budgets::respected_by_evictions,
    fencing::nothing_of_a_stale_leader,
];

/// See the module.
pub struct Witness {
    clock: Arc<SimulatedClock>,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Revision,
    history: History,
    running: running::Running,
    violation: Option<String>,
    /// What was written last by whom should have nothing left to do.
    last_work: Option<(Duration, String)>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Witness")
    }
}

impl Witness {
    /// One that knows what there is in the beginning.
    pub fn new(clock: Arc<SimulatedClock>, trace: Arc<Trace>, beginning: &Memory) -> Self {
        let witness = Self { clock, trace, state: Mutex::default() };
        witness.look(beginning, None);
        witness
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has been committed since it last looked, on behalf of a request.
    pub fn look(&self, memory: &Memory, sent: Option<Arc<Sent>>) {
        let mut state = self.state();
        loop {
            match memory.changes(b"/registry/", state.seen) {
                Ok(Some(changes)) => {
                    state.seen = changes.revision;
                    for event in changes.events {
                        self.take_in(&mut state, event, sent.as_ref());
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    state.violation.get_or_insert(format!("the witness cannot see: {error}"));
                    return;
                }
            }
        }
    }

    fn take_in(&self, state: &mut State, event: Event, sent: Option<&Arc<Sent>>) {
        let Some(change) = Change::of(event, sent.cloned(), self.clock.elapsed(), &state.history) else {
            return;
        };
        if change.revision > 0 && sent.is_some() {
            self.trace.tell(format_args!("{change}"));
        }
        if change.is_work() {
            state.last_work = Some((change.at, change.to_string()));
        }
        state.history.take_in(&change);
        for invariant in INVARIANTS {
            if let Err(violated) = invariant(&state.history, &change) {
                let violated = format!("{violated}: {change}");
                self.trace.tell(format_args!("VIOLATED {violated}"));
                state.violation.get_or_insert(violated);
            }
        }
    }

    /// Takes in that the server has answered a request.
    pub fn acknowledged(&self, sent: &Sent, status: StatusCode, body: &Bytes) {
        let mut state = self.state();
        if let Err(violated) = acknowledged::is_kept(&state.history, sent, status, body) {
            self.trace.tell(format_args!("VIOLATED {violated}"));
            state.violation.get_or_insert(violated);
        }
    }

    /// Takes in that a machine runs a pod.
    pub fn runs(&self, node: &'static str, pod: &ObjectKey, uid: &str) {
        let mut state = self.state();
        if let Err(violated) = state.running.begin(node, pod, uid) {
            self.trace.tell(format_args!("VIOLATED {violated}"));
            state.violation.get_or_insert(violated);
        }
    }

    /// Takes in that a pod does not run any more.
    pub fn stops(&self, uid: &str) {
        self.state().running.end(uid);
    }

    /// Takes in that nothing runs on a machine any more.
    pub fn stops_all(&self, node: &str) {
        self.state().running.end_all(node);
    }

    /// Takes in that something broke which nobody else would tell of.
    pub fn complain(&self, what: String) {
        self.trace.tell(format_args!("VIOLATED {what}"));
        self.state().violation.get_or_insert(what);
    }

    /// The first thing that should not have happened.
    pub fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// Whether the candidate holds the lease, by what is committed.
    pub fn leads(&self, lease: &str, candidate: Option<&str>) -> bool {
        self.state().history.leads(lease, candidate)
    }

    /// What is not yet as it should be when nothing goes wrong any more.
    pub fn unsettled(&self) -> Vec<String> {
        settled::missing(&self.state().history)
    }

    /// What was last written by those who should have nothing to do once all is settled, and when.
    pub fn last_work(&self) -> Option<(Duration, String)> {
        self.state().last_work.clone()
    }

    /// Reads what there is.
    pub fn read<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.state().history)
    }
}

/// A number in an object; 0 when it is not there.
pub(crate) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Words in an object; empty when they are not there.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
