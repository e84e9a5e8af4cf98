//! The registry over the embedded store, as the API server uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod certificates;
mod custom;
mod deletion;
mod dual_stack;
mod events;
mod extensions;
mod lifecycle;
mod limits;
mod lists;
mod managing;
mod model;
mod network_policies;
mod networking;
mod pod_parts;
mod refusals;
mod services;
mod volumes;
mod watches;
mod workloads;
mod world;
