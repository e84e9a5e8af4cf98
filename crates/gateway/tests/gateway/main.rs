//! The whole gateway over sockets, with a fake API behind it and real components in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails the test")]

mod api;
mod components;
mod durable;
mod edge;
mod http;
mod ingress;
mod kill;
mod metrics;
mod relay;
mod tls;
mod upstream;
