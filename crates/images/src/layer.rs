//! Compression of layers, told by their first bytes rather than by what a manifest claims.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

fn detect(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame, which some zstd writers begin with.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The compression of a file; its position is put back to the start.
pub(crate) fn sniff(file: &mut (impl Read + Seek)) -> io::Result<Compression> {
    let mut start = Vec::new();
    file.take(4).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(detect(&start))
}

/// The plain bytes of a stream, whatever its compression.
pub(crate) fn decompress<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match detect(reader.fill_buf()?) {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(Zstd { source: reader, frame: None }),
    })
}

/// All frames of a zstd stream, one after the other.
struct Zstd<R: BufRead> {
    source: R,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy;
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        let wrong = |error: FrameDecoderError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(decoder) = &mut self.frame else {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                let mut decoder = ruzstd::decoding::FrameDecoder::new();
                match decoder.reset(&mut self.source) {
                    Ok(()) => self.frame = Some(decoder),
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length,
                        ..
                    })) => drop(io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?),
                    Err(error) => return Err(wrong(error)),
                }
                continue;
            };
            while decoder.can_collect() == 0 && !decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBlocks(1);
                decoder.decode_blocks(&mut self.source, some).map_err(wrong)?;
            }
            let count = decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.frame = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_compression_reads_back() {
        let text = b"the same bytes again and again, the same bytes".repeat(5000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(&text[..], level);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
        let two = [&zstd[..], &zstd].concat();
        for (stream, times) in [(text.clone(), 1), (gzip, 1), (zstd, 1), (skippable, 1), (two, 2)] {
            let mut plain = Vec::new();
            decompress(&stream[..]).unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(plain, text.repeat(times));
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let zstd =
            ruzstd::encoding::compress_to_vec(&[5u8; 9000][..], ruzstd::encoding::CompressionLevel::Fastest);
        let cut = &zstd[..zstd.len() - 3];
        assert!(decompress(cut).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
