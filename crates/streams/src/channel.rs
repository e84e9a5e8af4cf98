//! One stream's two ends, as whoever serves it sees them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces that wait for a stream's reader; then its connection waits.
const INPUT: usize = 8;
/// Pieces of all streams that wait for the connection; then their writers wait.
pub(crate) const OUTBOX: usize = 8;

/// The peer takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream's other end is gone")]
pub struct Gone;

/// What the peer sends on a stream.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<Bytes>);

impl Input {
    /// The next piece; `None`: the peer has ended the stream.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// Gives an [`Input`] its pieces. Dropping it ends the stream.
pub(crate) type Feed = mpsc::Sender<Bytes>;

pub(crate) fn input() -> (Feed, Input) {
    let (feed, input) = mpsc::channel(INPUT);
    (feed, Input(input))
}

/// What is sent to the peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Data(u32, Bytes),
    /// No more of this stream.
    Finish(u32),
    /// The peer may use the stream.
    Accept(u32),
    /// The peer may not.
    Refuse(u32),
    Pong(u32),
    /// No more of any stream.
    End,
}

pub(crate) type Outbox = mpsc::Sender<Outgoing>;

/// What the peer is sent on a stream.
#[derive(Clone, Debug)]
pub struct Output {
    stream: u32,
    outbox: Outbox,
    /// Whoever reads the connection has the other one: it forgets a stream whose outputs are all gone.
    reset: Arc<CancellationToken>,
}

impl Output {
    pub(crate) fn new(stream: u32, outbox: Outbox, reset: Arc<CancellationToken>) -> Self {
        Self { stream, outbox, reset }
    }

    /// Sends a piece; waits while the connection is busy.
    ///
    /// # Errors
    /// When the connection has ended, or the peer wants no more of this stream.
    pub async fn send(&self, piece: Bytes) -> Result<(), Gone> {
        if self.reset.is_cancelled() {
            return Err(Gone);
        }
        self.outbox.send(Outgoing::Data(self.stream, piece)).await.map_err(|_| Gone)
    }

    /// Tells the peer that nothing more comes.
    pub async fn finish(self) {
        if !self.reset.is_cancelled() {
            // A connection that has ended has told it already.
            let _ = self.outbox.send(Outgoing::Finish(self.stream)).await;
        }
    }

    /// Returns when the peer has thrown the stream away.
    pub async fn gone(&self) {
        self.reset.cancelled().await;
    }
}
