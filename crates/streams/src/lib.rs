//! The streams of a remote command and of forwarded ports, over a connection that HTTP has given away.
//!
//! Owns: which protocol a request asks for and how that is answered ([`Handshake`]), the framing of each (SPDY/3.1 in
//! [`spdy`], channels over WebSocket, SPDY tunnelled through WebSocket), and the pairing of their streams into what a
//! server of commands ([`remote_command`]) or of ports ([`port_forward`]) works with. Never does: run a command, open a
//! connection, or know what a pod is.
//!
//! All of a connection is one future: its reader, its writer and whoever serves its streams. It holds a bounded number of
//! bytes each way, and when either side ends, all of it ends.
//!
//! Begin with [`Handshake`], then [`remote_command`] and [`port_forward`].

mod channel;
mod negotiate;
mod port_forward;
mod remote_command;
mod session;
pub mod spdy;
mod websocket;

pub use channel::{Gone, Input, Output};
pub use negotiate::{Handshake, Protocol, Purpose, Refused};
pub use port_forward::{Forward, port_forward};
pub use remote_command::{RemoteCommand, Resizes, Wanted, WindowSize, remote_command};
pub use session::Terms;

/// The most bytes of one piece: what is read at once, and what goes into one frame.
pub const PIECE: usize = 32 << 10;
