//! A document's bytes: large ones are held compressed, and go out as they are to the clients that take them so, which are
//! most of them.

use std::io::{Read, Write};

use apimachinery::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

/// From this size on a document is compressed, as upstream's answers are.
const LARGE: usize = 128 * 1024;

#[derive(Clone)]
pub(super) enum Content {
    Plain(Bytes),
    Gzip(Bytes),
}

impl Content {
    pub(super) fn of(bytes: Bytes) -> Result<Self, Status> {
        if bytes.len() < LARGE {
            return Ok(Self::Plain(bytes));
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::default());
        encoder.write_all(&bytes).map_err(Status::internal_error)?;
        Ok(Self::Gzip(encoder.finish().map_err(Status::internal_error)?.into()))
    }

    /// What the client gets, and how it is encoded.
    pub(super) fn for_client(&self, headers: &HeaderMap) -> Result<(Bytes, Option<HeaderValue>), Status> {
        match self {
            Self::Plain(bytes) => Ok((bytes.clone(), None)),
            Self::Gzip(bytes) if takes_gzip(headers) => {
                Ok((bytes.clone(), Some(HeaderValue::from_static("gzip"))))
            }
            Self::Gzip(bytes) => {
                let mut plain = Vec::new();
                GzDecoder::new(&**bytes).read_to_end(&mut plain).map_err(Status::internal_error)?;
                Ok((plain.into(), None))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        match self {
            Self::Plain(bytes) | Self::Gzip(bytes) => bytes.as_ptr(),
        }
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && parts.all(|part| part != "q=0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_documents_are_held_small_and_given_as_they_are_wanted() {
        let text = Bytes::from("kubernetes ".repeat(20_000));
        let content = Content::of(text.clone()).unwrap();
        let accepting =
            |value: &'static str| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        let (packed, encoding) = content.for_client(&accepting("br, gzip;q=0.8")).unwrap();
        assert!(packed.len() < 2000 && encoding.is_some());
        for headers in [HeaderMap::new(), accepting("identity"), accepting("gzip;q=0")] {
            assert_eq!(content.for_client(&headers).unwrap(), (text.clone(), None));
        }
        let small = Content::of(Bytes::from_static(b"{}")).unwrap();
        assert_eq!(small.for_client(&accepting("gzip")).unwrap(), (Bytes::from_static(b"{}"), None));
    }
}
