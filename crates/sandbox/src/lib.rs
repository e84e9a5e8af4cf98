//! Linux containers: an implementation of [`runtime::Runtime`].
//!
//! Owns sandboxes and containers on this machine: namespaces, control groups, overlay roots, output, exec, and the
//! **shim**, a process a pod that is the parent of the pod's containers and outlives this one ([`shim`]). What a
//! sandbox is made of lives in its directory (`place` says where), so that a new process of the node finds and adopts it.
//!
//! It knows nothing of Kubernetes' objects and does not set up networks: [`PodNetwork`] is given to it.
//!
//! Refused where it is asked for: mounts that show on the machine (`Bidirectional`) in a pod with users of its own.
//!
//! Begin with [`Containers`]; then `manager` and `adoption` for the node's side, `shim::server` for the shim's, and
//! [`shim::Workload`] for programs that the kernel does not know.

mod adoption;
mod apparmor;
mod capabilities;
mod cgroup;
mod config;
mod devices;
mod files;
mod group;
mod groups;
mod image;
mod link;
mod machine_devices;
mod manager;
mod place;
mod prepare;
mod program;
mod protocol;
mod sandbox;
mod seccomp;
mod service;
pub mod shim;
mod skeleton;
mod spawner;
mod spec;
mod streams;

use container::{attributes, process};

pub use config::{Config, PodNetwork, ShimCommand, WorkloadConfig};
pub use group::Group;
pub use groups::MachineGroups;
pub use image::{InUse, in_use};
pub use manager::Containers;
