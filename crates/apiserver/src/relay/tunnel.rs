//! Streams in another protocol than HTTP: the bytes go both ways as they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::status::Status;
use bytes::BytesMut;
use clock::{Clock, Instant};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use super::IDLE;
use crate::body::Body;
use crate::dial::Duplex;
use crate::server::ApiServer;

/// How long one side may go on when the other has ended, to take what is on its way: as long as the kubelet waits.
const LINGER: Duration = Duration::from_secs(15 * 60);
/// Bytes that are on their way through, each way.
const PIECE: usize = 32 << 10;

/// The client's connection, for when it has changed protocols.
pub(crate) fn client_of(parts: &Parts) -> Result<OnUpgrade, Status> {
    let client = parts.extensions.get::<OnUpgrade>().filter(|_| super::headers::ask_upgrade(&parts.headers));
    client.cloned().ok_or_else(|| Status::bad_request("Upgrade request required"))
}

/// The answer under which the client changes protocols, too. Its connection and the other one are joined until one of them
/// ends or the server stops.
pub(crate) fn join(
    server: &ApiServer,
    client: OnUpgrade,
    (head, other): (HeaderMap, Box<dyn Duplex>),
    permit: OwnedSemaphorePermit,
) -> Response<Body> {
    let (stop, clock) = (server.stopping.clone(), server.clock.clone());
    server.upgraded.spawn("streams", async move {
        match client.await {
            Ok(client) => tokio::select! {
                () = copy_both(TokioIo::new(client), other, &clock) => {}
                () = stop.cancelled() => {}
            },
            Err(error) => tracing::debug!(%error, "a client did not change protocols"),
        }
        drop(permit);
    });
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = head;
    response
}

/// Copies both ways until both sides have ended, one of them has for long enough, or nothing has moved for long enough.
async fn copy_both(client: impl Duplex, other: Box<dyn Duplex>, clock: &Arc<dyn Clock>) {
    let (client_reads, client_writes) = tokio::io::split(client);
    let (other_reads, other_writes) = tokio::io::split(other);
    let moved = Moved { clock, last: Mutex::new(clock.monotonic()) };
    let mut inward = std::pin::pin!(copy(client_reads, other_writes, &moved));
    let mut outward = std::pin::pin!(copy(other_reads, client_writes, &moved));
    let mut idle = std::pin::pin!(moved.rested());
    tokio::select! {
        () = &mut inward => tokio::select! {
            () = outward => {}
            () = clock.sleep(LINGER) => {}
        },
        () = &mut outward => tokio::select! {
            () = inward => {}
            () = clock.sleep(LINGER) => {}
        },
        () = &mut idle => {}
    }
}

/// When anything went through last, either way.
struct Moved<'a> {
    clock: &'a Arc<dyn Clock>,
    last: Mutex<Instant>,
}

impl Moved<'_> {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
    }

    /// Returns when nothing has for long enough.
    async fn rested(&self) {
        loop {
            let due = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE;
            if self.clock.monotonic() >= due {
                return;
            }
            self.clock.sleep_until(due).await;
        }
    }
}

/// Copies until either end fails or has no more, and passes that on.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &Moved<'_>) {
    let mut piece = BytesMut::with_capacity(PIECE);
    while let Ok(1..) = from.read_buf(&mut piece).await {
        moved.touch();
        // What was read is sent at once: somebody may wait for just this much.
        if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
        piece.clear();
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use clock::{ManualClock, SystemClock};

    use super::*;

    #[tokio::test]
    async fn an_end_on_one_side_ends_the_other() {
        let (client, mut user) = tokio::io::duplex(64);
        let (node, mut kubelet) = tokio::io::duplex(64);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let copying = tokio::spawn(async move { copy_both(client, Box::new(node), &clock).await });
        user.write_all(b"in").await.unwrap();
        let mut two = [0; 2];
        kubelet.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"in");
        kubelet.write_all(b"last words").await.unwrap();
        drop(kubelet);
        let mut heard = Vec::new();
        user.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        drop(user);
        copying.await.unwrap();
    }

    #[tokio::test]
    async fn streams_on_which_nothing_moves_end() {
        let (client, mut user) = tokio::io::duplex(64);
        let (node, mut kubelet) = tokio::io::duplex(64);
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let seam: Arc<dyn Clock> = clock.clone();
        let copying = tokio::spawn(async move { copy_both(client, Box::new(node), &seam).await });
        clock.until_sleepers(1).await;
        clock.advance(IDLE / 2);
        user.write_all(b"in").await.unwrap();
        let mut two = [0; 2];
        kubelet.read_exact(&mut two).await.unwrap();
        clock.advance(IDLE / 2);
        clock.until_sleepers(1).await;
        assert!(!copying.is_finished());
        clock.advance(IDLE);
        copying.await.unwrap();
    }
}
