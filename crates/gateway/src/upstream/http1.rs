//! An HTTP/1.1 connection to an endpoint.
//!
//! Whoever waits for a reply moves the connection on. A task of the connection's own would have to be woken for each request
//! and then wake the client's task for each reply, which costs about as much as reading and writing their heads. It gets
//! one where both ways have to go on at once: with its first request that has a body or asks for an upgrade.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep};

use super::connection::Sent;
use crate::joined::Joined;
use crate::request::Upload;

/// What an endpoint may send as the head of a reply, in bytes.
const HEAD_BYTES: usize = 256 << 10;

/// See the module.
pub(crate) struct Http1 {
    address: SocketAddr,
    sender: http1::SendRequest<Upload>,
    /// What moves it; `None` once it has ended or a task does.
    motion: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// When the reply has to begin. Kept from one request to the next: to put off a timer costs less than to make one.
    deadline: Pin<Box<Sleep>>,
}

impl Http1 {
    pub(super) async fn handshake(stream: TcpStream, address: SocketAddr) -> hyper::Result<Self> {
        let io = TokioIo::new(Joined(stream));
        let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(io).await?;
        let motion = Some(Box::pin(connection.with_upgrades()) as _);
        Ok(Self { address, sender, motion, deadline: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Reads and writes what can be read and written now, unless a task does.
    pub(super) fn move_on(&mut self, cx: &mut Context<'_>) {
        if let Some(motion) = &mut self.motion
            && let Poll::Ready(ended) = motion.as_mut().poll(cx)
        {
            said(self.address, ended);
            self.motion = None;
        }
    }

    /// Whether it can take a request as far as the runtime has heard.
    pub(super) fn is_open(&mut self) -> bool {
        // Nobody waits for what comes next.
        self.move_on(&mut Context::from_waker(Waker::noop()));
        !self.sender.is_closed()
    }

    /// Leaves it to a task, which belongs to the runtime of this thread, and ends with it or with this.
    fn detach(&mut self) {
        if let Some(motion) = self.motion.take() {
            let address = self.address;
            tokio::spawn(async move { said(address, motion.await) });
        }
    }

    /// Sends a request and waits that long for its reply to begin.
    pub(super) async fn send(&mut self, request: Request<Upload>, limit: Duration) -> Sent {
        if !request.body().is_end_stream() || request.headers().contains_key(UPGRADE) {
            self.detach();
        }
        if !self.sender.is_ready() {
            // A new one is ready once it was moved for the first time.
            let ready = match self.motion {
                Some(_) => self.is_open() && self.sender.is_ready(),
                None => self.sender.ready().await.is_ok(),
            };
            if !ready {
                return Sent::Back(Box::new(request));
            }
        }
        self.deadline.as_mut().reset(Instant::now() + limit);
        let mut reply = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|cx| {
            let polled = if self.motion.is_some() {
                self.move_on(cx);
                // It comes by nothing but the motion, which is what wakes this task.
                reply.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            } else {
                reply.as_mut().poll(cx)
            };
            match polled {
                Poll::Ready(reply) => Poll::Ready(reply.into()),
                Poll::Pending => self.deadline.as_mut().poll(cx).map(|()| Sent::Late),
            }
        })
        .await
    }
}

fn said(address: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection to an endpoint ended");
    }
}

impl From<Result<Response<Incoming>, TrySendError<Request<Upload>>>> for Sent {
    fn from(reply: Result<Response<Incoming>, TrySendError<Request<Upload>>>) -> Self {
        match reply {
            Ok(reply) => Self::Reply(reply),
            Err(mut error) => match error.take_message() {
                Some(request) => Self::Back(Box::new(request)),
                None => Self::Lost(error.into_error()),
            },
        }
    }
}
