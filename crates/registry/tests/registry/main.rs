//! The registry over the embedded store, as the API server uses it, and over etcd with others beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod addresses;
mod admission;
mod autoscalers;
mod budgets;
mod certificates;
mod conversion;
mod custom;
mod deletion;
mod devices;
mod dual_stack;
mod events;
mod extensions;
mod jobs;
mod lifecycle;
mod limits;
mod lists;
mod managing;
mod model;
mod network_policies;
mod networking;
mod patience;
mod pod_parts;
mod refusals;
mod remembering;
mod rules;
mod services;
mod sets;
mod shared;
mod storm;
mod volumes;
mod watches;
mod workloads;
mod world;
