//! The seam to container runtimes, in the shape of CRI v1: sandboxes, containers, images, exec and stats, as plain
//! values. No implementation and nothing of Kubernetes' objects lives here.
//!
//! `kubelet` calls [`Runtime`]; `sandbox` (containers, and through its workloads Wasm programs) implements it.
//! Words and meanings are those of the CRI v1 API, so that an adapter to it stays thin.
//!
//! Configurations are kept on disk for as long as what they describe lives, which may be through several releases: a
//! field added later has a default, and none changes its meaning.
//!
//! Begin with [`Runtime`].

mod container;
mod error;
mod groups;
mod image;
mod sandbox;
mod service;
mod streams;

pub use container::*;
pub use error::Error;
pub use groups::{GroupUsage, Groups};
pub use image::*;
pub use sandbox::*;
pub use service::{ExecOutput, Runtime, RuntimeEvent};
pub use streams::{Connection, ReadStream, Resize, Session, StreamOptions, WriteStream};
