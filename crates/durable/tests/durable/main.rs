//! The worker over a disk that loses power, over a real file whose process is killed, and across years.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test fails the test"
)]

mod kill;
mod model;
mod power;
mod script;
mod worker;
