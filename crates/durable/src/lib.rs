//! Durable invocations: journals, timers and replay.
//!
//! Owns: the journal of every invocation and its encoding, the pure [`engine`] that decides who runs, sleeps, retries
//! and ends, the [`Worker`] that performs what the engine decides, and the recorder that stands between a running
//! component and the world. The rule that all of it serves: *the journal, with the intent of a write, is on disk before
//! any effect, reply or suspension becomes visible outside*. On restart the code runs again and is given what was
//! recorded until the journal's end, then goes on. A sleep costs one row on disk and no memory.
//!
//! Never does: know what runs an invocation (an [`effects::Invoker`] does), what asks for one, or Kubernetes; open a
//! socket; read a clock that it was not given.
//!
//! Begin with [`Worker`], then [`engine::Engine::step`]; [`tables`] shows what is on disk.

mod codec;
pub mod engine;
mod invocation;
mod journal;
mod storage;
pub mod tables;
mod worker;

pub use codec::Corrupt;
pub use engine::{Ending, LaneStatus, Limits, Terms};
pub use invocation::{Invocation, Phase, unpinned};
pub use storage::{Condition, Durable, FileStorage, Row, Storage, StorageError};
pub use worker::{
    Config, Error, JournalLimits, Keeper, OpenStorage, Page, Parts, Status, Submission, Worker,
};
