//! The HTTP surface of the Kubernetes API: discovery, OpenAPI, the verbs with all their options, watch streams,
//! subresources and reviews.
//!
//! Owns: the one handler, [`ApiServer::handle`], through which every request passes whatever carries it: authentication,
//! authorization, bounds in flight, the verb, the form of the answer; and the TLS sockets in front of it. Never does:
//! know what a kind means (that is `registry`), start a container, or let anybody past authentication, the authorizer and
//! admission, the server's own roles included.
//!
//! Begin with [`ApiServer`], then `verb` for what a request becomes, `document` for what clients discover, and `tls`.

mod admission;
mod aggregation;
mod authenticate;
mod authorize;
mod body;
mod bootstrap_tokens;
mod connection;
mod dial;
mod document;
mod follow;
mod health;
mod in_memory;
mod incoming;
mod install;
mod instruments;
mod negotiate;
mod outgoing;
mod path;
mod protobuf;
mod query;
mod relay;
mod request_info;
mod respond;
mod review;
mod server;
mod service_accounts;
mod shape;
pub mod tls;
pub mod tunnels;
mod verb;
mod watch;

pub use aggregation::Extension;
pub use authenticate::Authenticators;
pub use body::{Body, BodyError, Sending};
pub use connection::{Chain, ConnectError, Connection};
pub use dial::{DialError, Duplex, NodeAddress, NodeAnswer, NodeDialer, NodeReply};
pub use in_memory::InMemory;
pub use outgoing::{CallError, Outgoing, Place, Post, Server, Trust, Webhook};
pub use server::{ApiServer, Limits, Options};
pub use service_accounts::ServiceAccounts;
pub use tunnels::Tunnels;
