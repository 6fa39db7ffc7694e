//! What layers and archives are compressed with: known by how they begin, not by what they are called.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// RFC 1952, 2.3.1: ID1, ID2.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// RFC 8878, 3.1.2, without the four bits that do not matter.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A buffer's size.
const BUFFER: usize = 128 << 10;

/// What `from` holds, whatever it is compressed with.
///
/// # Errors
/// As reading it.
pub(super) fn decompressed<'a>(from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let start = from.fill_buf()?;
    if start.starts_with(&GZIP) {
        Ok(Box::new(MultiGzDecoder::new(from)))
    } else if start.starts_with(&ZSTD) || start.get(1..4) == Some(&ZSTD_SKIPPABLE) {
        Ok(Box::new(Frames { from, decoder: FrameDecoder::new(), within: false }))
    } else {
        Ok(Box::new(from))
    }
}

/// All frames of a zstd stream, one after the other; those that hold no data are skipped. Frames' own checksums are not
/// looked at: the whole has a digest.
struct Frames<R> {
    from: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within {
                if self.from.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.within = self.begin()?;
            } else if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            } else if self.decoder.is_finished() {
                self.within = false;
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.from, one).map_err(invalid)?;
            }
        }
        Ok(0)
    }
}

impl<R: BufRead> Frames<R> {
    /// Reads a frame's header; false if it was one to be skipped, and was.
    fn begin(&mut self) -> io::Result<bool> {
        match self.decoder.reset(&mut self.from) {
            Ok(()) => Ok(true),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let skipped = io::copy(&mut (&mut self.from).take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(false)
            }
            Err(error) => Err(invalid(error)),
        }
    }
}

fn invalid(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn whole(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        decompressed(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_kind_and_none_at_all() {
        let text = b"abc".repeat(100_000);
        let zstd = compress_to_vec(&*text, CompressionLevel::Fastest);
        assert_eq!(whole(&text).unwrap(), text);
        assert_eq!(whole(&gzip(&text)).unwrap(), text);
        assert_eq!(whole(&zstd).unwrap(), text);
        assert_eq!(whole(b"").unwrap(), b"");
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        assert_eq!(whole(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(), b"onetwo");
        let frame = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
        let skipped = [&[0x50][..], &ZSTD_SKIPPABLE, &3_u32.to_le_bytes(), b"xyz"].concat();
        assert_eq!(whole(&[frame(b"one"), skipped.clone(), frame(b"two")].concat()).unwrap(), b"onetwo");
        assert_eq!(whole(&[skipped, frame(b"one")].concat()).unwrap(), b"one");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let text = b"abc".repeat(1000);
        for whole_stream in [gzip(&text), compress_to_vec(&*text, CompressionLevel::Fastest)] {
            for length in [5, whole_stream.len() / 2, whole_stream.len() - 1] {
                whole(&whole_stream[..length]).unwrap_err();
            }
        }
    }
}
