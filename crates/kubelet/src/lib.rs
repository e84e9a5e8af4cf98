//! The node's agent: pods to sandboxes.
//!
//! Owns: the Node object and its Lease, a worker a pod, the node's own (static) pods, volumes and environments, probes,
//! statuses, what is pulled and collected of images, eviction, and the server for logs, commands and forwarded ports.
//! Never does: name a runtime (handlers are injected, keyed as RuntimeClasses name them), reach the API
//! past its client, or decide what a certificate may do (a closure says so).
//!
//! Begin with [`run`] and [`Options`]; then `pod::plan`, which says what happens next for a pod, `pod::operation`, a file
//! for each thing that can happen, and `pod::worker`, which has it happen. What runs outlives this process: a new one
//! finds it again.

mod allocation;
mod cgroups;
mod context;
mod env_file;
mod environment;
mod eviction;
mod filesystem;
mod images;
mod local_volumes;
mod mirror;
mod node;
mod pod;
mod pods;
mod resources;
mod run;
mod server;
mod service_links;
mod static_pods;
mod usage;

pub use self::images::ImageOptions;
pub use context::Runtimes;
pub use eviction::{Eviction, Written as WrittenEviction, duration};
pub use node::introduce;
pub use node::machine::Machine;
pub use node::reserved::Reserved;
pub use pod::admission::Sysctls;
pub use pod::config::Dns;
pub use pod::volume::unmount_volumes;
pub use run::{Admits, Error, Options, Serving, run};
