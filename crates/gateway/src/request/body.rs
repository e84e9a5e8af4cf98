//! The body of a reply: what a guest writes, what an endpoint sends, or bytes that are there.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use super::transfer::Download;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// See the module.
pub(crate) enum Body {
    Guest(wasm::Body),
    Relayed(Download),
    Whole(Full<Bytes>),
}

impl Body {
    pub(crate) fn from_guest(body: wasm::Body) -> Self {
        Self::Guest(body)
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Guest(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Relayed(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Guest(body) => body.is_end_stream(),
            Self::Relayed(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Guest(body) => body.size_hint(),
            Self::Relayed(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}
