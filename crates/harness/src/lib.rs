//! What whole-system tests, benchmarks and soaks share: a throw-away plane of the real binary and the means to drive and
//! break it. Never part of what users run.
//!
//! Begin with [`Plane`]; [`Cluster`] is one on several machines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failing fixture fails its test"
)]

mod cluster;
mod etcd;
mod extension;
mod host;
mod http;
mod machine;
mod manifest;
mod oci;
mod plane;
mod redis;
mod wait;
mod webhook;

pub use cluster::Cluster;
pub use etcd::Etcd;
pub use extension::{Asked, Extension, GROUP_VERSION};
pub use host::Host;
pub use http::{Answer, send};
pub use machine::{Machine, Said};
pub use manifest::component;
pub use oci::Registry;
pub use plane::{Plane, copy_all, tools};
pub use redis::Redis;
pub use wait::{PATIENCE, eventually, is_root, kill};
pub use webhook::{Heard, Webhook};
