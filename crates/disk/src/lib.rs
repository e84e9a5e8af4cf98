//! One embedded engine behind a small trait: ordered maps of bytes in one file, atomic batches, group commit.
//!
//! Owns: the queue in front of the file (many writers share one fsync, and one that says so waits a little for others to share
//! it with), snapshots, and SQLite, which does the storing.
//! A full device is waited for: what is queued stays queued, in order, and is written when there is room again. Space that
//! is free in the file goes back to the file system in small steps between groups, when the owner says so ([`Disk::shrink`]).
//! Never does: interpret what it stores, retry a failed fsync, or let two owners open one file. Only `store`, the durable
//! worker and the embedded capability backends use this crate, each with a file of its own.
//!
//! Begin with [`Disk`]: [`Disk::open`], [`Disk::commit`], [`Disk::snapshot`]. The engine is chosen by measurement
//! (`cargo bench -p disk`, docs/decisions/0001-embedded-engine.md); [`Engine`] is what another one would have to do.

mod batch;
mod bell;
mod commit;
mod engine;
mod error;
mod shrink;
mod sqlite;

pub use batch::{Batch, Emptied, Op, Table};
pub use commit::{Disk, Reservation};
pub use engine::{Direction, Engine, KeyRange, Reader, Shrunk, Snapshot, Visit};
pub use error::{Error, OpenError};
pub use sqlite::{Options, Sqlite, look};
