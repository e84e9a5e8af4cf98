//! Whole-system tests: the real binary, driven by real clients (kubectl, curl-like HTTP), with real kills.
//!
//! Each test starts a plane of its own on free ports in a directory of its own, so they run side by side.

use harness::Plane;

mod components;
mod containers;
mod durable;
mod kubectl;

/// A plane of the binary under test.
fn start(flags: &[&str]) -> Plane {
    Plane::start(env!("CARGO_BIN_EXE_monoplane"), flags)
}
