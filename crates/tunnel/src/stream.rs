//! One stream as bytes both ways.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::UNSENT;

/// A stream through a tunnel. Dropping it before both sides have ended it resets it, which the other side notices.
#[derive(Debug)]
pub struct Stream {
    to: SendStream<Bytes>,
    from: RecvStream,
    /// What has come and was not read: the other side may send as much again once it was.
    left: Bytes,
    has_ended: bool,
    /// Its place among the streams of the tunnel.
    _place: Option<OwnedSemaphorePermit>,
}

impl Stream {
    pub(crate) fn new(to: SendStream<Bytes>, from: RecvStream, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { to, from, left: Bytes::new(), has_ended: false, _place: place }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(self.from.poll_data(context)) {
                Some(Ok(piece)) => self.left = piece,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let size = self.left.len().min(into.remaining());
        into.put_slice(&self.left[..size]);
        self.left.advance(size);
        self.from.flow_control().release_capacity(size).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wanted = bytes.len().min(UNSENT);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        self.to.reserve_capacity(wanted);
        while self.to.capacity() == 0 {
            match ready!(self.to.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let size = self.to.capacity().min(wanted);
        self.to.send_data(Bytes::copy_from_slice(&bytes[..size]), false).map_err(broken)?;
        Poll::Ready(Ok(size))
    }

    /// What was written is on its way: the tunnel sends by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.to.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
