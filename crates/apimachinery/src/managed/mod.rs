//! Who manages which fields: server-side apply and `metadata.managedFields`.
//!
//! Each manager (a name, an operation, a version, a subresource) owns a [`Set`] of field paths. A write through update or
//! patch gives its manager what it changed, and takes that from everybody else ([`Writer::update`]). An apply merges a
//! configuration into the object by its schema ([`Writer::apply`]): what the manager applied before and applies no more goes,
//! unless somebody else owns it, and what others own may only be changed by force.
//!
//! - [`Place`]: what a place in a tree is to its owners, by its schema: one leaf, an object, a list by keys, a set;
//! - `compare`, `fields`, `merge`: two trees apart, the paths of a tree, a tree into another;
//! - [`Entry`]: a manager and its set, as it stands in metadata.
//!
//! The rules are those of `structured-merge-diff` v6 and of upstream's field manager.

mod apply;
mod check;
mod compare;
mod element;
mod entry;
mod fields;
mod last_applied;
mod merge;
mod place;
mod set;
mod writer;

pub use apply::{Applied, ApplyError, Merged};
pub use element::ElementError;
pub use entry::{Entry, EntryError, Operation, decode, encode, is_reset};
pub use place::Place;
pub use set::Set;
pub use writer::{Elsewhere, Reset, Writer};

/// What nobody owns: the server says it, or it is the object's name.
const UNOWNED: [&str; 8] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];
