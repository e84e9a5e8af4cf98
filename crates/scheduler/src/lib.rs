//! The scheduler: which node a pod goes to.
//!
//! Owns: the [`Snapshot`] of what nodes offer and what is taken, the plugins over it (one file each, in `plugins`), the decision
//! ([`place`]), preemption, the queue of pods that wait, the configuration ([`Config`]), and a thin loop that acts ([`run`]).
//!
//! Never does: start anything, or hold state of record. Filters and scores are pure functions of a pod and a snapshot that is
//! kept up to date by what changed: the cost of placing a pod does not grow with the pods that are placed already. Who is near
//! whom is counted ahead of the question (`census`). It runs as well against an upstream API server.
//!
//! Begin with [`place`]: one decision, whole; then `cycle` and any one plugin.

mod amounts;
mod budgets;
mod census;
mod config;
mod cycle;
mod event;
mod instruments;
mod place;
mod plugins;
mod pod;
mod preempt;
mod queue;
mod run;
mod selectors;
mod snapshot;
mod terms;
mod volumes;

pub use crate::instruments::Instruments;
pub use config::{Config, ConfigError, Profile};
pub use place::{Placement, Unplaceable, place};
pub use plugins::PluginName;
pub use pod::PodFacts;
pub use run::{Options, run};
pub use snapshot::Snapshot;
