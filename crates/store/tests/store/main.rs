//! Every backend against the contract, the embedded one against kill -9, and the one on etcd against what befalls servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backup;
mod contract;
mod embedded;
mod encrypted;
mod etcd;
mod etcd_faults;
mod faulty;
mod kill;
mod memory;
mod model;
