//! A way to a machine that reaches others and is not reached by them: it keeps one connection to whoever wants to reach it, and
//! over that the other end opens streams.
//!
//! It is HTTP/2 with the roles turned round: who was connected to sends requests, each a CONNECT that names an address; who
//! connected judges the address, connects to it, and from there on bytes go both ways. So windows, resets and the order of
//! shutting down are HTTP/2's, and nothing is parsed here.
//!
//! Owns: the bounds (streams, bytes that wait on either end) and the beat by which each end notices within [`SILENCE`] that the
//! other is gone. Never does: connect, find out who the other end is, or look into a stream: whoever needs secrecy or proof
//! within one speaks TLS through it. No end has tasks of its own: each is one future, and with it goes all that it holds.
//!
//! Begin with [`Opener`] and [`answer`].

mod answer;
mod beat;
mod opener;
mod stream;

use std::time::Duration;

pub use answer::answer;
pub use opener::Opener;
pub use stream::Stream;

/// Streams at one time.
pub const STREAMS: usize = 256;
/// How long the other end may be silent before it counts as gone: routers forget a connection on which nothing is sent sooner or
/// later, and tell nobody.
pub const SILENCE: Duration = Duration::from_secs(16);

/// Bytes of one stream that may wait for their reader.
const WINDOW: u32 = 128 << 10;
/// All that may wait: as much as all streams together, so that one that is not read holds up no other.
const WINDOWS: u32 = WINDOW * STREAMS as u32;
/// Bytes of one stream that may wait to be sent.
const UNSENT: usize = 64 << 10;
/// Bytes of the head of a request or an answer.
const HEAD: u32 = 8 << 10;
/// What the frames that wait may cost beside their bytes, as h2 counts it. By itself it allows half of the window, which a
/// dozen unread streams of small records would use up, and then ends the tunnel.
const FRAMES: usize = 64 << 20;
/// How much of the other end's reason is shown.
const REASON: usize = 1 << 10;

/// Why there is no stream, or no tunnel any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is no address.
    #[error("{0:?} is no address")]
    Address(String),
    /// No more streams can be opened.
    #[error("as many streams go through the tunnel as may: {STREAMS}")]
    Full,
    /// The other end does not, or cannot, connect to the address.
    #[error("{0}")]
    Refused(String),
    /// The other end is gone without a word.
    #[error("nothing has come out of the tunnel for {} s", SILENCE.as_secs())]
    Silent,
    /// The tunnel has ended, or what came out of it is not HTTP/2.
    #[error("the tunnel has ended: {0}")]
    Broken(#[from] h2::Error),
}
