//! Cluster DNS: answers for the cluster's names, and a way to the machine's own resolvers for all others.
//!
//! [`zone`] knows the names, [`answer`] speaks DNS, [`server`] listens. The zone is a value that is swapped when it
//! changes; a question takes no lock that a change holds.

pub mod answer;
pub mod server;
pub mod zone;

#[cfg(test)]
mod tests;

pub use server::{Server, serve};
pub use zone::Zone;
