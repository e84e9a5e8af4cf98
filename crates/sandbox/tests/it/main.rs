//! Containers for real, where the machine allows it: root, control groups, overlayfs, and a static busybox.
//!
//! Without these the tests pass and say on standard error that they were skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // a test

mod elf;
mod machine;
mod neighbour;
mod streams;
mod user_namespace;

mod adoption;
mod exec;
mod hostile;
mod hostile_escape;
mod hostile_flood;
mod identity;
mod life;
mod limits;
mod logs;
mod releases;
mod seccomp;
mod workload;
