//! SPDY/3.1, as far as the remote commands of Kubernetes use it: streams that the client opens, data both ways, resets
//! and pings. There is no flow control by windows: the clients that speak this neither give nor heed them, so a slow
//! stream is held back by the connection itself.

mod codec;
mod compress;
mod session;

pub use codec::{Decoder, Encoder, Error, Frame, Headers};
pub use session::{Stream, run};
