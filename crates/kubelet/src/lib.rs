//! The node's agent: pods to sandboxes.
//!
//! Owns: the Node object and its Lease, a worker a pod, volumes and environments, probes, statuses, and the server that
//! gives out logs. Never does: name a runtime (handlers are injected, keyed as RuntimeClasses name them), reach the API
//! past its client, or decide what a certificate may do (a closure says so).
//!
//! Begin with [`run`] and [`Options`]; then `pod::plan`, which says what happens next for a pod, `pod::operation`, a file
//! for each thing that can happen, and `pod::worker`, which has it happen. What runs outlives this process: a new one
//! finds it again.

mod context;
mod environment;
mod images;
mod node;
mod pod;
mod pods;
mod resources;
mod run;
mod server;

pub use self::images::ImageOptions;
pub use context::Runtimes;
pub use node::machine::Machine;
pub use pod::admission::Sysctls;
pub use pod::config::Dns;
pub use pod::volume::unmount_volumes;
pub use run::{Admits, Error, Options, Serving, run};
