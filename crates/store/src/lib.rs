//! The revisioned key-value store under the API: transactions on an expected revision, ordered gap-free watch from a
//! revision, reads at a past revision, compaction.
//!
//! Owns: the [`Store`] seam in the shape of etcd v3, the embedded backend over `disk`, and the one over an etcd cluster. Never
//! does: know what a value means. Keys and values are bytes; only `registry` uses this crate.
//!
//! Begin with [`Store`]; the backends are [`Embedded`] and [`Etcd`], and [`Memory`] for simulations. What every backend must do
//! is written down as a program: the model and the contract in `tests/store`. [`Encrypted`] keeps some values secret on any
//! backend; [`Faulty`] makes one fail where a test wants it to.

mod backup;
mod embedded;
mod encrypted;
mod etcd;
mod faulty;
mod history;
mod memory;
mod seam;

pub use backup::{BackupError, BackupReader, BackupWriter, backup, restore};
pub use embedded::{Embedded, Look};
pub use encrypted::{Cipher, Encrypted};
pub use etcd::{Etcd, EtcdOptions, Requests, Tls};
pub use faulty::{Fault, Faulty};
pub use history::History;
pub use memory::Memory;
pub use seam::*;
