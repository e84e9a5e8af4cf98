//! The scheduler: which node a pod goes to.
//!
//! Owns: the [`Snapshot`] of what nodes offer and what is taken, the filters and scores over it ([`place`]), the queue of
//! pods that wait, and a thin loop that binds ([`run`]).
//!
//! Never does: start anything, evict (preemption is not here yet), or hold state of record. Filters and scores are pure
//! functions of a pod and a node's summary; a summary is kept up to date by what changed, so that the cost of placing a
//! pod does not grow with the pods that are placed already. It runs as well against an upstream API server.
//!
//! Begin with [`place`]: one decision, whole.

mod affinity;
mod filters;
mod place;
mod pod;
mod queue;
mod run;
mod scores;
mod snapshot;
mod spreading;

pub use filters::Hindrance;
pub use place::{Unplaceable, place};
pub use pod::PodFacts;
pub use run::{Options, run};
pub use snapshot::Snapshot;
