//! A stream that gets a head and a small body, which come in two pieces, in one plain write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is joined at most, in bytes: copying that much costs less than the kernel's work with several pieces.
const JOINED: usize = 2048;

/// See the module.
pub(crate) struct Joined<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for Joined<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Joined<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [only] = slices {
            return stream.poll_write(cx, only);
        }
        let mut joined = [0; JOINED];
        let mut length = 0;
        for slice in slices {
            let Some(room) = joined.get_mut(length..length + slice.len()) else {
                return stream.poll_write_vectored(cx, slices);
            };
            room.copy_from_slice(slice);
            length += slice.len();
        }
        stream.poll_write(cx, &joined[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Notes how many pieces each write has.
    #[derive(Default, Clone)]
    struct Noted(Arc<Mutex<(Vec<usize>, Vec<u8>)>>);

    impl AsyncWrite for Noted {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut noted = self.0.lock().unwrap();
            noted.0.push(slices.len());
            slices.iter().for_each(|slice| noted.1.extend_from_slice(slice));
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_pieces_become_one_and_large_ones_stay() {
        let noted = Noted::default();
        let mut stream = Joined(noted.clone());
        let large = vec![b'x'; JOINED - 3];
        for (body, pieces) in [(&b"body"[..], 1), (&large, 1), (&[&large[..], b"y"].concat(), 2)] {
            *noted.0.lock().unwrap() = Default::default();
            let slices = [IoSlice::new(b"he"), IoSlice::new(b"ad"), IoSlice::new(body)];
            let slices = if pieces == 2 { &slices[1..] } else { &slices[..] };
            let length: usize = slices.iter().map(|slice| slice.len()).sum();
            let expected = if length > JOINED { slices.len() } else { 1 };
            assert_eq!(stream.write_vectored(slices).await.unwrap(), length);
            let noted = noted.0.lock().unwrap();
            assert_eq!(noted.0, [expected], "{length}");
            assert_eq!(noted.1, slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>());
        }
    }
}
