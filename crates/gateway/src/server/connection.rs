//! One connection: HTTP/1.1, or HTTP/2 when the client begins with its preface.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::ServerLimits;
use crate::request::{Edge, Peer};

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

/// Serves a connection to its end. When `stop` is cancelled, what is under way is finished within the time for draining.
pub(super) async fn serve(
    builder: Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    edge: Arc<Edge>,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let peer = Arc::new(Peer::plain(peer));
    let spoke = Arc::new(AtomicBool::new(false));
    let seen = spoke.clone();
    let service = service_fn(move |request| {
        seen.store(true, Ordering::Relaxed);
        let (edge, peer) = (edge.clone(), peer.clone());
        async move { Ok::<_, Infallible>(edge.handle(&peer, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Until its first request nobody else bounds a connection: hyper's own timer begins after the protocol is known.
    let mut deadline = pin!(tokio::time::sleep(limits.head_timeout));
    let mut waiting = true;
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !draining => {
                draining = true;
                waiting = true;
                connection.as_mut().graceful_shutdown();
                deadline.as_mut().reset(tokio::time::Instant::now() + limits.drain);
            }
            () = deadline.as_mut(), if waiting => {
                if draining || !spoke.load(Ordering::Relaxed) {
                    return;
                }
                waiting = false;
            }
        }
    }
}
