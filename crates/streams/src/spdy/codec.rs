//! Frames to bytes and back, without I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::compress::{Deflater, Inflater, MAX_BLOCK};
use crate::PIECE;

/// The protocol's version in control frames.
const VERSION: u16 = 3;
/// The longest control frame that is taken. Longer data comes in pieces.
const MAX_CONTROL: usize = 64 << 10;
const FIN: u8 = 1;
/// The highest number of a stream.
const MAX_STREAM: u32 = 0x7fff_ffff;

/// Why a peer cannot be understood. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A control frame or its headers are longer than anybody needs.
    #[error("a frame is too long")]
    TooLong,
    /// A control frame of another version.
    #[error("a frame is not of SPDY/3.1")]
    Version,
    /// A frame is shorter than its kind.
    #[error("a frame is malformed")]
    Malformed,
    /// Compressed headers that cannot be unfolded.
    #[error("a frame's headers are not compressed as they should be")]
    Compression,
}

/// Headers of a stream, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of a header, empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn parse(mut block: &[u8]) -> Result<Self, Error> {
        let text = |block: &mut &[u8]| -> Result<String, Error> {
            let length = block.try_get_u32().map_err(|_| Error::Malformed)? as usize;
            let bytes = block.get(..length).ok_or(Error::Malformed)?;
            let text = String::from_utf8_lossy(bytes).into_owned();
            block.advance(length);
            Ok(text)
        };
        let count = block.try_get_u32().map_err(|_| Error::Malformed)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((text(&mut block)?, text(&mut block)?));
        }
        Ok(Self(headers))
    }

    fn write(&self) -> Vec<u8> {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut block = number(self.0.len()).to_vec();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&number(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The peer opens a stream.
    SynStream {
        /// Its number.
        stream: u32,
        /// Whether nothing comes on it from whoever opens it.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// The peer takes a stream.
    SynReply {
        /// Its number.
        stream: u32,
        /// Whether nothing comes on it from whoever takes it.
        fin: bool,
        /// Usually none.
        headers: Headers,
    },
    /// A stream ends at once, both ways.
    RstStream {
        /// Its number.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// To be sent back.
    Ping(u32),
    /// No more streams after this one.
    GoAway(u32),
    /// A kind that needs no answer: settings, further headers, windows.
    Other(u16),
    /// Bytes on a stream. A long frame is decoded piece by piece, each of at most [`PIECE`] bytes.
    Data {
        /// Its number.
        stream: u32,
        /// Whether nothing more comes.
        fin: bool,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Bytes to frames.
pub struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
    /// What is left of a data frame: stream, bytes, whether it is the last.
    data: Option<(u32, usize, bool)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Where bytes from the peer are put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame; `None`: more bytes are needed.
    ///
    /// # Errors
    /// When the peer cannot be understood.
    pub fn decode(&mut self) -> Result<Option<Frame>, Error> {
        if self.data.is_some() {
            return Ok(self.piece());
        }
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let (first, flags) = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]), head[4]);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if first & !MAX_STREAM == 0 {
            self.buffer.advance(8);
            self.data = Some((first, length, flags & FIN != 0));
            return Ok(self.piece());
        }
        if length > MAX_CONTROL {
            return Err(Error::TooLong);
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(Error::Version);
        }
        self.buffer.advance(8);
        let content = self.buffer.split_to(length);
        self.control(kind, flags & FIN != 0, &content).map(Some)
    }

    fn piece(&mut self) -> Option<Frame> {
        let (stream, left, last) = self.data?;
        let take = left.min(self.buffer.len()).min(PIECE);
        if take == 0 && left > 0 {
            return None;
        }
        let bytes = self.buffer.split_to(take).freeze();
        let left = left - take;
        self.data = (left > 0).then_some((stream, left, last));
        Some(Frame::Data { stream, fin: last && left == 0, bytes })
    }

    fn control(&mut self, kind: u16, fin: bool, mut content: &[u8]) -> Result<Frame, Error> {
        let mut number = || content.try_get_u32().map_err(|_| Error::Malformed);
        match kind {
            // Stream, the stream it belongs to, priority and slot; then headers.
            1 => {
                let stream = number()? & MAX_STREAM;
                number()?;
                content = content.get(2..).ok_or(Error::Malformed)?;
                let headers = Headers::parse(&self.inflater.block(content)?)?;
                Ok(Frame::SynStream { stream, fin, headers })
            }
            2 => {
                let stream = number()? & MAX_STREAM;
                let headers = Headers::parse(&self.inflater.block(content)?)?;
                Ok(Frame::SynReply { stream, fin, headers })
            }
            3 => Ok(Frame::RstStream { stream: number()? & MAX_STREAM, status: number()? }),
            6 => Ok(Frame::Ping(number()?)),
            7 => Ok(Frame::GoAway(number()? & MAX_STREAM)),
            // Further headers are part of the compressed stream, even if nobody wants them.
            8 => {
                number()?;
                self.inflater.block(content)?;
                Ok(Frame::Other(kind))
            }
            other => Ok(Frame::Other(other)),
        }
    }
}

/// Frames to bytes.
pub struct Encoder(Deflater);

impl Default for Encoder {
    fn default() -> Self {
        Self(Deflater::new())
    }
}

impl Encoder {
    /// Appends a frame.
    ///
    /// # Errors
    /// When it has more headers, or more data, than a frame can hold.
    pub fn encode(&mut self, frame: &Frame, to: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                to.reserve(8 + bytes.len());
                to.put_u32(stream & MAX_STREAM);
                put_flags_and_length(*fin, bytes.len(), to)?;
                to.put_slice(bytes);
                Ok(())
            }
            Frame::SynStream { stream, fin, headers } => {
                let head = [&stream.to_be_bytes()[..], &[0; 6]].concat();
                let block = self.block(headers)?;
                control(1, *fin, &[&head, &block], to)
            }
            Frame::SynReply { stream, fin, headers } => {
                let block = self.block(headers)?;
                control(2, *fin, &[&stream.to_be_bytes(), &block], to)
            }
            Frame::RstStream { stream, status } => {
                control(3, false, &[&stream.to_be_bytes(), &status.to_be_bytes()], to)
            }
            Frame::Ping(id) => control(6, false, &[&id.to_be_bytes()], to),
            Frame::GoAway(last) => control(7, false, &[&last.to_be_bytes(), &[0; 4]], to),
            Frame::Other(kind) => control(*kind, false, &[], to),
        }
    }

    fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let block = headers.write();
        if block.len() > MAX_BLOCK {
            return Err(Error::TooLong);
        }
        self.0.block(&block)
    }
}

fn control(kind: u16, fin: bool, parts: &[&[u8]], to: &mut BytesMut) -> Result<(), Error> {
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    put_flags_and_length(fin, parts.iter().map(|part| part.len()).sum(), to)?;
    parts.iter().for_each(|part| to.put_slice(part));
    Ok(())
}

fn put_flags_and_length(fin: bool, length: usize, to: &mut BytesMut) -> Result<(), Error> {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24).ok_or(Error::TooLong)?;
    to.put_u32(u32::from(fin) << 24 | length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = Headers> {
        prop::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..5).prop_map(Headers)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let stream = 0..=MAX_STREAM;
        prop_oneof![
            (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynStream {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            stream.clone().prop_map(Frame::GoAway),
            Just(Frame::Other(4)),
            (stream, any::<bool>(), prop::collection::vec(any::<u8>(), 0..500))
                .prop_map(|(stream, fin, bytes)| Frame::Data { stream, fin, bytes: bytes.into() }),
        ]
    }

    /// All frames of what arrives in pieces, with a data frame's pieces put together again.
    fn decoded(bytes: &[u8], cut: usize) -> Result<Vec<Frame>, Error> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        let mut half: Option<(u32, Vec<u8>)> = None;
        for piece in bytes.chunks(cut) {
            decoder.buffer().extend_from_slice(piece);
            while let Some(frame) = decoder.decode()? {
                let Frame::Data { stream, fin, bytes } = frame else {
                    frames.push(frame);
                    continue;
                };
                let mut whole = half.take().map_or_else(Vec::new, |(_, whole)| whole);
                whole.extend_from_slice(&bytes);
                match decoder.data {
                    Some(_) => half = Some((stream, whole)),
                    None => frames.push(Frame::Data { stream, fin, bytes: whole.into() }),
                }
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(frames in prop::collection::vec(frame(), 0..8), cut in 1usize..50) {
            let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
            for frame in &frames {
                encoder.encode(frame, &mut bytes).unwrap();
            }
            prop_assert_eq!(decoded(&bytes, cut).unwrap(), frames);
        }

        #[test]
        fn nothing_that_arrives_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            kind in 0u8..12,
            cut in 1usize..20,
        ) {
            let _ = decoded(&bytes, cut);
            let length = bytes.len().min(255) as u8;
            let control = [&[0x80, 3, 0, kind, 0, 0, 0, length], &bytes[..length.into()]].concat();
            let _ = decoded(&control, cut);
        }
    }

    /// What a client of another make sends to open a stream: its bytes were written down once.
    #[test]
    fn a_stream_opened_by_another_implementation_is_understood() {
        // zlib with the dictionary, level 9, sync flush: {streamtype: error}.
        let block = include_bytes!("../../tests/syn_stream.bin");
        let frames = decoded(block, 7).unwrap();
        let headers = Headers(vec![("streamtype".into(), "error".into())]);
        assert_eq!(frames, [Frame::SynStream { stream: 1, fin: false, headers }]);
    }

    #[test]
    fn long_control_frames_are_refused_at_their_length() {
        assert_eq!(decoded(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], 8), Err(Error::TooLong));
        assert_eq!(decoded(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], 12), Err(Error::Version));
        assert_eq!(decoded(&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0], 10), Err(Error::Malformed));
    }
}
