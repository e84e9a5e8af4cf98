//! Two connections that have gone over to another protocol: bytes go both ways until one side ends, nothing moves for too
//! long, or the gateway stops.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio_util::sync::CancellationToken;

use crate::upstream::Lease;

/// Joins what becomes of a request with what becomes of its reply. The lease counts as a request under way until the end.
pub(super) async fn join(
    client: OnUpgrade,
    endpoint: OnUpgrade,
    lease: Lease,
    idle: Duration,
    leaving: CancellationToken,
) {
    let joined = async {
        let (client, endpoint) = tokio::try_join!(client, endpoint)?;
        let moved = Arc::new(AtomicU64::new(0));
        let mut client = Counted { stream: TokioIo::new(client), moved: moved.clone() };
        let mut endpoint = TokioIo::new(endpoint);
        tokio::select! {
            copied = copy_bidirectional(&mut client, &mut endpoint) => drop(copied),
            () = stands_still(&moved, idle) => {}
        }
        Ok::<_, hyper::Error>(())
    };
    if let Some(Err(error)) = leaving.run_until_cancelled(joined).await {
        tracing::debug!(%error, "an upgrade did not come about");
    }
    drop(lease);
}

/// Returns when nothing has moved for that long.
async fn stands_still(moved: &AtomicU64, idle: Duration) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(idle).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// Counts how often something moved.
struct Counted {
    stream: TokioIo<Upgraded>,
    moved: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.count();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.count();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
