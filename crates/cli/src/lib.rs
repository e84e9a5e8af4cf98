//! The thin verbs of the command line, for somebody who has no kubectl yet: apply, get, logs, delete.
//!
//! Owns: their flags, what they print, and how names that people type become kinds. Never does: read the environment or
//! choose a server (a [`client::Client`] is handed in), or know a kind by name: everything goes through discovery and
//! the server's own tables, so custom kinds work like built-in ones.
//!
//! Begin with [`Apply`], [`Get`], [`Logs`] and [`Delete`]: each is a struct of flags with a `run`.

mod apply;
mod delete;
mod get;
mod kinds;
mod logs;
mod manifest;
mod request;
mod table;

pub use apply::Apply;
pub use delete::Delete;
pub use get::{Get, Output};
pub use kinds::{Kind, Kinds};
pub use logs::Logs;
pub use manifest::read as read_manifests;
