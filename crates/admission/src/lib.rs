//! Admission: what a write must pass beside its kind's own validation, because it depends on who asks or on other objects.
//!
//! Owns: the [`Plugin`] seam, the plugins (one same-shaped file each in `plugins/`) and the [`Chain`] that runs them:
//! object in, changes or a refusal out. Never does: store anything, know what a request looked like on the wire. Other
//! objects are seen through [`Lookup`], which whoever composes the chain implements.
//!
//! Begin with [`Chain::standard`].

mod chain;
mod lookup;
mod plugin;
pub mod plugins;
mod tree;

pub use chain::Chain;
pub use lookup::{Lookup, NamespacePhase};
pub use plugin::{Attributes, Operation, Plugin};
