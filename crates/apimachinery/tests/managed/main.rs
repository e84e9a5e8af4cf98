//! Server-side apply: known cases by hand, random ones against a slow model.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod by_hand;
mod model;
mod random;
