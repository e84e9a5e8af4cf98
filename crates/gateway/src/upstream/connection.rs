//! A connection to an endpoint, on loan to one request.

use std::task::Context;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::Protocol;
use super::endpoint::{Endpoint, UnderWay};
use super::http1::Http1;
use crate::request::Upload;

/// How often a connection that all requests share is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// See the module.
pub(crate) struct Lease {
    under_way: UnderWay,
    thread: usize,
    sender: Option<Sender>,
    /// Whether it was there before: then the endpoint may have closed it by now.
    pub(crate) reused: bool,
}

enum Sender {
    Http1(Http1),
    Http2(http2::SendRequest<Upload>),
}

/// What became of a request.
pub(crate) enum Sent {
    Reply(Response<Incoming>),
    /// Nothing of it was sent: here it is again.
    Back(Box<Request<Upload>>),
    /// It may have been sent, and there is no reply.
    Lost(hyper::Error),
    /// The endpoint takes too long.
    Late,
}

impl Lease {
    /// A connection that waits, or a new one. For a request that may not be sent `twice`, none that the endpoint may be
    /// about to close.
    ///
    /// # Errors
    /// When there is no connection to be had, as text.
    pub(crate) async fn take(under_way: UnderWay, thread: usize, twice: bool) -> Result<Self, String> {
        let endpoint = under_way.0.clone();
        let kept = match endpoint.protocol {
            Protocol::Http1 if twice => {
                endpoint.unpark_http1(thread, endpoint.ways.limits.kept_for).map(Sender::Http1)
            }
            Protocol::Http1 => fresh_http1(&endpoint, thread).await.map(Sender::Http1),
            Protocol::Http2 => endpoint.shared_http2(thread).map(Sender::Http2),
        };
        if let Some(sender) = kept {
            return Ok(Self { under_way, thread, sender: Some(sender), reused: true });
        }
        let limit = endpoint.ways.limits.connect;
        let sender = match timeout(limit, connect(&under_way)).await {
            Ok(connected) => connected?,
            Err(_) => {
                return Err(format!("connecting to {} took longer than {limit:?}", endpoint.address));
            }
        };
        if let Sender::Http2(sender) = &sender {
            endpoint.share_http2(thread, sender.clone());
        }
        Ok(Self { under_way, thread, sender: Some(sender), reused: false })
    }

    /// Sends a request, whose head is complete.
    pub(crate) async fn send(&mut self, request: Request<Upload>) -> Sent {
        let limit = self.under_way.0.ways.limits.reply;
        match &mut self.sender {
            Some(Sender::Http1(connection)) => connection.send(request, limit).await,
            Some(Sender::Http2(sender)) => {
                if sender.ready().await.is_err() {
                    return Sent::Back(Box::new(request));
                }
                timeout(limit, sender.try_send_request(request)).await.map_or(Sent::Late, Sent::from)
            }
            None => Sent::Back(Box::new(request)),
        }
    }

    /// Has more of the reply come.
    pub(crate) fn move_on(&mut self, cx: &mut Context<'_>) {
        if let Some(Sender::Http1(connection)) = &mut self.sender {
            connection.move_on(cx);
        }
    }

    /// The connection was found dead: those that have waited beside it are not used either.
    pub(crate) fn discard(self) {
        self.under_way.0.forget(self.thread);
    }

    /// The reply was read to its end: another request may have the connection.
    pub(crate) fn give_back(mut self) {
        if let Some(Sender::Http1(connection)) = self.sender.take() {
            self.under_way.0.park_http1(self.thread, connection);
        }
    }
}

/// A connection that was used just now, and is still open once the system was asked what has come on it since.
async fn fresh_http1(endpoint: &Endpoint, thread: usize) -> Option<Http1> {
    while let Some(mut connection) = endpoint.unpark_http1(thread, endpoint.ways.limits.fresh_for) {
        // The runtime of the thread looks at its sockets before it goes on with this.
        tokio::task::yield_now().await;
        if connection.is_open() {
            return Some(connection);
        }
    }
    None
}

/// Connects. A connection's task belongs to the runtime of this thread, and ends with it or with the last sender.
async fn connect(under_way: &UnderWay) -> Result<Sender, String> {
    let endpoint = &under_way.0;
    let (address, connector) = (endpoint.address, &endpoint.ways.connector);
    let stream = connector.connect(&address.ip().to_string(), address.port()).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let said = |error: hyper::Error| format!("speaking HTTP with {address}: {error}");
    match endpoint.protocol {
        Protocol::Http1 => Http1::handshake(stream, address).await.map(Sender::Http1).map_err(said),
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(said)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%address, %error, "connection to an endpoint ended");
                }
            });
            Ok(Sender::Http2(sender))
        }
    }
}
