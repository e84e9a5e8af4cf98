//! Header blocks: one zlib stream a direction, primed with a dictionary of the protocol's.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::codec::Error;

/// The most bytes that a header block may unfold to.
pub(super) const MAX_BLOCK: usize = 64 << 10;

/// Header names and values as the protocol's dictionary has them, each after its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// The rest of it, as it is.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
    iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.extend_from_slice(&u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// Unfolds the peer's header blocks, in their order.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn block(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut block = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress(compressed, &mut piece, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before_in).unwrap_or(compressed.len());
            let made = usize::try_from(self.0.total_out() - before_out).unwrap_or(0);
            compressed = compressed.get(taken..).unwrap_or_default();
            block.extend_from_slice(piece.get(..made).unwrap_or_default());
            if block.len() > MAX_BLOCK {
                return Err(Error::TooLong);
            }
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| Error::Compression)?;
                }
                Err(_) => return Err(Error::Compression),
                Ok(Status::StreamEnd) => return Err(Error::Compression),
                // Nothing more came of it: what is left, if anything, cannot be unfolded.
                Ok(_) if made < piece.len() && (compressed.is_empty() || taken == 0) => {
                    return if compressed.is_empty() { Ok(block) } else { Err(Error::Compression) };
                }
                Ok(_) => {}
            }
        }
    }
}

/// Folds our header blocks.
pub(super) struct Deflater(Option<Compress>);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Refused only in the middle of a stream.
        Self(compress.set_dictionary(&dictionary()).is_ok().then_some(compress))
    }

    pub(super) fn block(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let compress = self.0.as_mut().ok_or(Error::Compression)?;
        let mut compressed = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (compress.total_in(), compress.total_out());
            compress.compress(block, &mut piece, FlushCompress::Sync).map_err(|_| Error::Compression)?;
            let taken = usize::try_from(compress.total_in() - before_in).unwrap_or(block.len());
            let made = usize::try_from(compress.total_out() - before_out).unwrap_or(0);
            block = block.get(taken..).unwrap_or_default();
            compressed.extend_from_slice(piece.get(..made).unwrap_or_default());
            if block.is_empty() && made < piece.len() {
                return Ok(compressed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        // The checksum by which every peer's zlib stream names it.
        let (mut a, mut b) = (1u32, 0u32);
        for byte in &dictionary {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
        let stream = Deflater::new().block(b"x").unwrap();
        assert_eq!(&stream[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn a_block_that_unfolds_without_end_is_refused() {
        let bomb = Deflater::new().block(&vec![b'a'; MAX_BLOCK + 1]).unwrap();
        assert!(bomb.len() < 2000);
        assert_eq!(Inflater::new().block(&bomb), Err(Error::TooLong));
    }
}
