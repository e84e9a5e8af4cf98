//! A whole kubelet against an API and a runtime in memory, by the machine's clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod containers;
mod fake;
mod logs;
mod node;
mod operations;
mod plane;
mod resources;
mod static_pods;
