//! Whole-system tests: the real binary, driven by real clients (kubectl, curl-like HTTP), with real kills.
//!
//! Each test starts a plane of its own on free ports in a directory of its own, so they run side by side.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why"
)]

use harness::Plane;

mod account_tokens;
mod addresses;
mod admission_policies;
mod aggregated;
mod anew;
mod apart;
mod autoscaling;
mod certificates;
mod claims;
mod clients;
mod cluster;
mod components;
mod containers;
mod conversion;
mod debug;
mod demo;
mod disk_failure;
mod dual;
mod durable;
mod earlier_release;
mod encryption;
mod etcd;
mod finding;
mod helm;
mod hidden;
mod hostile;
mod image_volumes;
mod ingress;
mod jobs;
mod kubectl;
mod kubectl_families;
mod lifecycle;
mod load;
mod logs;
mod machines;
mod metrics;
mod mounts;
mod operator;
mod pod_security;
mod policies;
mod ports;
mod pressure;
mod proxied;
mod quotas;
mod reboot;
mod registry;
mod resources;
mod rolling;
mod rules;
mod scheduling;
mod security;
mod server_side_apply;
mod service_ranges;
mod services;
mod sets;
mod static_pods;
mod streams;
mod streams_kube;
mod three_servers;
mod upgrade;
mod user_namespaces;
mod volumes;
mod wasm_artifacts;
mod wasm_pods;
mod webhooks;
mod workload_kinds;

/// A plane of the binary under test.
fn start(flags: &[&str]) -> Plane {
    Plane::start(env!("CARGO_BIN_EXE_monoplane"), flags)
}

/// The same with addresses of both families.
fn start_dual(flags: &[&str]) -> Plane {
    Plane::start_dual(env!("CARGO_BIN_EXE_monoplane"), flags)
}
