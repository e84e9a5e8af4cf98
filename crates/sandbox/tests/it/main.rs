//! Containers for real, where the machine allows it: root, control groups, overlayfs, and a static busybox.
//!
//! Without these the tests pass and say on standard error that they were skipped.

mod machine;

mod adoption;
mod exec;
mod identity;
mod life;
mod limits;
mod logs;
