//! TLS: who may connect, and the sockets over which they do.

mod activity;
mod config;
mod dialer;
mod listener;
mod presented;
mod strangers;

pub(crate) use config::provider;
pub use config::{TlsError, client_verifier, server_config};
pub use dialer::HttpsDialer;
pub use listener::{Listener, Sockets};
pub use presented::Presented;
