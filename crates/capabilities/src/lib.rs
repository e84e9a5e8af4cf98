//! Host interfaces that a component may ask for, each with the backends that an operator may put behind it.
//!
//! It owns the traits of these capabilities, their backends (one file each, all of the same shape), and the named slots
//! through which a backend is swapped while components use it. It knows nothing of WebAssembly, of Kubernetes objects or
//! of who may use what, and opens connections only through `egress` and files only through `disk`.
//!
//! Begin with [`KeyValue`], the one capability so far; [`Stores`] holds its named slots.

mod backend;
mod error;
mod key_value;
mod stores;

pub use backend::Backend;
pub use error::Error;
pub use key_value::{Embedded, KeyValue, Keys, Redis};
pub use stores::{SizeLimits, Store, Stores};
