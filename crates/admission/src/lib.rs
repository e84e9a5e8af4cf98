//! Admission: what a write must pass beside its kind's own validation, because it depends on who asks or on other objects.
//!
//! Owns: the [`Plugin`] seam, the plugins (one same-shaped file each in `plugins/`), the admission webhooks (`webhook/`), the
//! policies (`policy/`) and the [`Chain`] that runs them: object in, changes or a refusal out. Never does: store anything, open a socket, know what
//! a request looked like on the wire. Other objects are seen through [`Lookup`] and webhooks asked through
//! [`webhook::Caller`], both of which whoever composes the chain implements.
//!
//! Begin with [`Chain::standard`].

mod asker;
mod chain;
mod lookup;
mod matching;
mod plugin;
pub mod plugins;
pub mod policy;
mod request;
mod tree;
pub mod webhook;

pub use chain::Chain;
pub use lookup::{Form, Lookup, NamespacePhase, Place};
pub use plugin::{Attributes, NoOptions, Operation, Options, Plugin};
