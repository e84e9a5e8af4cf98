//! Every backend against the contract, and the embedded one against kill -9.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod embedded;
mod encrypted;
mod faulty;
mod kill;
mod model;
