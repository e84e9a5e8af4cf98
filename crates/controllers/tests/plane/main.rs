//! The controllers against a fake API server, in memory.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

mod garbage;
mod nodes;
mod plane;
mod workloads;
