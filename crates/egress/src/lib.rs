//! The one way out: every connection that this process opens to a place that somebody else named goes through here.
//!
//! It owns the rule of where such connections may go, name resolution for them, and their TLS settings. A place is judged
//! by the addresses that its name resolved to, and the connection is made to the very address that was judged, so that a
//! name which answers differently the second time gains nothing. It never speaks a protocol above TLS and keeps no
//! connections.
//!
//! Begin with [`Connector`]; the rule is a [`Policy`].

mod anybody;
mod connect;
mod machine;
mod policy;
mod tls;

pub use anybody::anybody;
pub use connect::{Connector, Error, TlsStream};
pub use policy::{Allowance, InvalidAllowance, Policy, Refusal};
pub use tls::web_roots;
