//! Steps of making a Linux container, each of them for a process of one thread that is on its way to become the container's:
//! a root of mounts, devices, a terminal, privileges given up, the program executed.
//!
//! Knows the subset of the OCI runtime configuration that Monoplane uses ([`Configuration`]), and neither shims nor pods.
//! Whoever calls decides about processes and namespaces: which of the steps the machine's root does, and which the root
//! of a user namespace. Errors are texts for whoever wrote the pod, with the step that failed first.
//!
//! What is in a container's root is its image's and its volumes' to arrange, and other containers may change volumes
//! meanwhile. So nothing in it is ever reached by a path of the machine: [`place`] walks from a descriptor of the root,
//! which no link leads out of, and mounts go from descriptor to descriptor.
//!
//! Begin with [`Configuration`], then [`mounts`] and [`root`].

pub mod attributes;
mod configuration;
pub mod mounts;
pub mod place;
pub mod privileges;
pub mod process;
pub mod program;
pub mod root;
pub mod seccomp;
pub mod terminal;

pub use configuration::{
    Capabilities, Configuration, Cpu, Device, DeviceRule, Linux, Memory, Mount, Namespace, Pids, Process,
    Resources, Root,
};

/// Ties an error of the kernel's to what was being done.
fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}
