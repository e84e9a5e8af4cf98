//! A body of HTML with its links rewritten, in whichever coding it comes.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use futures::Stream;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body_util::BodyDataStream;

use super::html::Page;
use super::links::Links;
use crate::body::{Body, BodyError};

/// Bytes that are decoded at once: a thousand times as many may come of them.
const AT_ONCE: usize = 4 << 10;

/// The same answer; a page of HTML with its links rewritten.
pub(crate) fn rewritten(response: Response<Body>, links: Links) -> Response<Body> {
    let text = |headers: &HeaderMap, name| {
        let value = headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let media_type = text(response.headers(), CONTENT_TYPE);
    if media_type.split(';').next().unwrap_or_default().trim() != "text/html" {
        return response;
    }
    // What is coded in a way that we do not know is not looked into.
    let Some(coding) = coding(&text(response.headers(), CONTENT_ENCODING)) else { return response };
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    let from = BodyDataStream::new(body);
    let pages = Rewriting {
        from: Some(Box::pin(from)),
        left: Bytes::new(),
        through: Through { coding, page: Page::new(links) },
    };
    Response::from_parts(head, Body::stream(pages))
}

/// One direction of a coding.
trait Coder: Write + Send {
    /// What has come of it so far.
    fn take(&mut self) -> Vec<u8>;
    /// There is no more to come.
    fn end(&mut self) -> io::Result<()>;
}

macro_rules! coders {
    ($($coder:ident),*) => {$(
        impl Coder for $coder<Vec<u8>> {
            fn take(&mut self) -> Vec<u8> {
                std::mem::take(self.get_mut())
            }

            fn end(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        }
    )*};
}
coders!(DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder);

/// What decodes a body, and what codes it again.
type Coding = (Box<dyn Coder>, Box<dyn Coder>);

/// The coding of that name, if it is one; `None`: it is not known.
fn coding(name: &str) -> Option<Option<Coding>> {
    let (nothing, fast) = (Vec::new, Compression::fast());
    match name {
        "" | "identity" => Some(None),
        "gzip" => {
            Some(Some((Box::new(GzDecoder::new(nothing())), Box::new(GzEncoder::new(nothing(), fast)))))
        }
        "deflate" => Some(Some((
            Box::new(DeflateDecoder::new(nothing())),
            Box::new(DeflateEncoder::new(nothing(), fast)),
        ))),
        _ => None,
    }
}

/// A page on its way through its coding.
struct Through {
    coding: Option<Coding>,
    page: Page,
}

impl Through {
    /// What comes of a piece: all that is decided so far if no more is at hand.
    fn push(&mut self, piece: &[u8], is_last_at_hand: bool) -> io::Result<Vec<u8>> {
        let Some((decoder, encoder)) = &mut self.coding else { return Ok(self.page.push(piece)) };
        decoder.write_all(piece)?;
        decoder.flush()?;
        encoder.write_all(&self.page.push(&decoder.take()))?;
        if is_last_at_hand {
            encoder.flush()?;
        }
        Ok(encoder.take())
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        let Some((decoder, encoder)) = &mut self.coding else { return Ok(self.page.finish()) };
        decoder.end()?;
        encoder.write_all(&self.page.push(&decoder.take()))?;
        encoder.write_all(&self.page.finish())?;
        encoder.end()?;
        Ok(encoder.take())
    }
}

/// The rewritten body.
struct Rewriting {
    /// `None` when it has ended.
    from: Option<Pin<Box<BodyDataStream<Body>>>>,
    left: Bytes,
    through: Through,
}

impl Stream for Rewriting {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let made = if self.left.is_empty() {
                let Some(from) = &mut self.from else { return Poll::Ready(None) };
                match from.as_mut().poll_next(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(piece))) => {
                        self.left = piece;
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.from = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => {
                        self.from = None;
                        self.through.finish()
                    }
                }
            } else {
                let size = self.left.len().min(AT_ONCE);
                let piece = self.left.split_to(size);
                let is_last_at_hand = self.left.is_empty();
                self.through.push(&piece, is_last_at_hand)
            };
            match made {
                Ok(made) if made.is_empty() => {}
                Ok(made) => return Poll::Ready(Some(Ok(made.into()))),
                Err(error) => {
                    (self.from, self.left) = (None, Bytes::new());
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const PAGE: &str = "<a href='/x'>";

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    async fn through(
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> (HeaderMap, Result<Bytes, BodyError>) {
        let pieces: Vec<_> = body.chunks(5).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut response = Response::new(Body::stream(futures::stream::iter(pieces)));
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        let links = Links { prefix: "/p".to_owned(), host: "h".to_owned(), asked: String::new() };
        let (head, body) = rewritten(response, links).into_parts();
        (head.headers, body.collect().await.map(|body| body.to_bytes()))
    }

    #[tokio::test]
    async fn pages_are_rewritten_and_nothing_else() {
        let html = ("content-type", "text/html; charset=utf-8");
        let (headers, body) = through(&[html, ("content-length", "13")], PAGE.into()).await;
        assert_eq!((headers.len(), body.unwrap()), (1, Bytes::from("<a href='/p/x'>")));
        let (_, body) = through(&[("content-type", "text/plain")], PAGE.into()).await;
        assert_eq!(body.unwrap(), PAGE);
        let (_, body) = through(&[html, ("content-encoding", "br")], PAGE.into()).await;
        assert_eq!(body.unwrap(), PAGE);
    }

    #[tokio::test]
    async fn a_coded_page_stays_coded() {
        let coded = [("content-type", "text/html"), ("content-encoding", "gzip")];
        let (_, body) = through(&coded, gzip(PAGE)).await;
        let mut decoder = GzDecoder::new(Vec::new());
        decoder.write_all(&body.unwrap()).unwrap();
        assert_eq!(decoder.finish().unwrap(), b"<a href='/p/x'>");
        let (_, body) = through(&coded, b"this is not gzip".to_vec()).await;
        body.unwrap_err();
        let (_, body) = through(&coded, gzip(PAGE)[..12].to_vec()).await;
        body.unwrap_err();
    }
}
