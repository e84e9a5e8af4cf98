//! The host against real components: those of `examples/`, whose artifacts are checked in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod compile;
mod deploy;
mod durable;
mod fixture;
mod journal;
mod limits;
mod programs;
mod serve;
