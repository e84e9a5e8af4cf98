//! One connection: HTTP/1.1, or HTTP/2 when the client begins with its preface.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::ServerLimits;
use super::patient::Patient;
use crate::joined::Joined;
use crate::request::{Body, Edge, Peer};

/// The largest head of a request, in bytes.
const HEAD_BYTES: u32 = 64 << 10;

pub(super) fn builder(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES as usize * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// The requests of a connection.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    open: AtomicUsize,
    /// Whether they come over HTTP/2, of whose connections hyper does not say when they are idle.
    http2: AtomicBool,
}

/// Counts a request out.
struct Open(Arc<Requests>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Requests {
    /// Counts a request in. Only one over HTTP/2 is counted out.
    fn begin(self: &Arc<Self>, version: Version) -> Option<Open> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if version != Version::HTTP_2 {
            return None;
        }
        self.http2.store(true, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Open(self.clone()))
    }
}

/// Serves a connection to its end. When `stop` is cancelled, what is under way is finished within the time for draining.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    builder: Builder<TokioExecutor>,
    stream: S,
    peer: Arc<Peer>,
    edge: Arc<Edge>,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let requests = Arc::new(Requests::default());
    let seen = requests.clone();
    let service = service_fn(move |request| {
        let open = seen.begin(request.version());
        let (edge, peer) = (edge.clone(), peer.clone());
        async move {
            let reply = edge.handle(&peer, request).await;
            Ok::<_, Infallible>(reply.map(|body| Tracked { body, _open: open }))
        }
    });
    let stream = TokioIo::new(Joined(Patient::new(stream, limits.write_timeout)));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    // Until its first request nobody else bounds a connection: hyper's own timer begins after the protocol is known, and
    // for HTTP/2 there is none.
    let mut deadline = pin!(tokio::time::sleep(limits.head_timeout));
    let mut waiting = true;
    let mut draining = false;
    let mut begun_before = 0;
    loop {
        tokio::select! {
            biased;
            // First, so that every reply from here on says that it is the last.
            () = stop.cancelled(), if !draining => {
                draining = true;
                waiting = true;
                connection.as_mut().graceful_shutdown();
                deadline.as_mut().reset(tokio::time::Instant::now() + limits.drain);
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = deadline.as_mut(), if waiting => {
                let begun = requests.begun.load(Ordering::Relaxed);
                if draining || begun == 0 {
                    return;
                }
                let idle = requests.open.load(Ordering::Relaxed) == 0 && begun == begun_before;
                begun_before = begun;
                waiting = requests.http2.load(Ordering::Relaxed);
                let mut next = limits.head_timeout;
                if waiting && idle {
                    draining = true;
                    next = limits.drain;
                    connection.as_mut().graceful_shutdown();
                }
                deadline.as_mut().reset(tokio::time::Instant::now() + next);
            }
        }
    }
}

/// A reply's body, which keeps its request open.
struct Tracked {
    body: Body,
    _open: Option<Open>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
