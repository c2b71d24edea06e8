//! Frames: `u32 length | u32 crc32c | payload`, big endian. Nothing is believed before its checksum is.

use super::error::FrameError;
use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Longest payload: room for a document of 16 MiB and what goes with it.
pub(super) const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest payload before and while two nodes introduce themselves.
pub(super) const HELLO_BYTES_MAX: usize = 4 * 1024;
/// Length and checksum.
const HEADER_BYTES: usize = 8;
/// A claimed length is given memory in steps of this size, as the bytes really come.
const RESERVE_BYTES: usize = 256 * 1024;

/// Cuts a stream of bytes into payloads.
#[derive(Debug)]
pub(super) struct FrameCodec {
    /// Longest payload taken.
    pub bytes_max: usize,
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(mut header) = source.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let (bytes, expected) = (header.get_u32() as usize, header.get_u32());
        if bytes > self.bytes_max {
            return Err(FrameError::TooLong { bytes, max: self.bytes_max });
        }
        let whole = HEADER_BYTES + bytes;
        if source.len() < whole {
            source.reserve((whole - source.len()).min(RESERVE_BYTES));
            return Ok(None);
        }
        source.advance(HEADER_BYTES);
        let payload = source.split_to(bytes).freeze();
        let found = crc32c::crc32c(&payload);
        if found != expected {
            return Err(FrameError::Checksum { bytes, expected, found });
        }
        Ok(Some(payload))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        match self.decode(source)? {
            Some(payload) => Ok(Some(payload)),
            None if source.is_empty() => Ok(None),
            None => Err(FrameError::Truncated),
        }
    }
}

/// Appends one frame whose payload `fill` writes.
pub(super) fn append_frame(out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    fill(out);
    let Some((header, payload)) = out.get_mut(start..).and_then(|frame| frame.split_at_mut_checked(HEADER_BYTES))
    else {
        return;
    };
    // A payload beyond u32 cannot be: `fill` is bounded by FRAME_BYTES_MAX.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let checksum = crc32c::crc32c(payload);
    let (length_bytes, checksum_bytes) = header.split_at_mut(4);
    length_bytes.copy_from_slice(&length.to_be_bytes());
    checksum_bytes.copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        append_frame(&mut out, |out| out.extend_from_slice(payload));
        out
    }

    #[test]
    fn a_frame_is_read_back_however_it_was_cut_up() {
        let mut whole = frame(b"one");
        whole.unsplit(frame(b""));
        whole.unsplit(frame(&[7; 5000]));
        for step in [1, 3, 8, 4096, whole.len()] {
            let mut codec = FrameCodec { bytes_max: FRAME_BYTES_MAX };
            let (mut source, mut payloads) = (BytesMut::new(), Vec::new());
            for piece in whole.chunks(step) {
                source.extend_from_slice(piece);
                while let Some(payload) = codec.decode(&mut source).unwrap() {
                    payloads.push(payload);
                }
            }
            assert_eq!(payloads, [&b"one"[..], b"", &[7; 5000]]);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        for place in 4..HEADER_BYTES + 3 {
            let mut changed = frame(b"one");
            changed[place] ^= 1;
            let error = FrameCodec { bytes_max: 100 }.decode(&mut changed).unwrap_err();
            assert!(matches!(error, FrameError::Checksum { .. }), "{place}: {error}");
        }
    }

    #[test]
    fn a_long_claim_is_refused_and_a_permitted_one_gets_no_memory_in_advance() {
        let mut source = BytesMut::from(&[0xff; 8][..]);
        let error = FrameCodec { bytes_max: FRAME_BYTES_MAX }.decode(&mut source).unwrap_err();
        assert!(error.to_string().contains("4294967295 bytes"), "{error}");
        let mut source = BytesMut::from(&[1, 0, 0, 0, 0, 0, 0, 0][..]);
        assert!(FrameCodec { bytes_max: FRAME_BYTES_MAX }.decode(&mut source).unwrap().is_none());
        assert!(source.capacity() <= 2 * RESERVE_BYTES, "{}", source.capacity());
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error_and_between_frames_is_none() {
        let whole = frame(b"one");
        for cut in 1..whole.len() {
            let mut source = BytesMut::from(&whole[..cut]);
            let error = FrameCodec { bytes_max: 100 }.decode_eof(&mut source).unwrap_err();
            assert!(matches!(error, FrameError::Truncated), "{cut}");
        }
        assert!(FrameCodec { bytes_max: 100 }.decode_eof(&mut BytesMut::new()).unwrap().is_none());
    }
}
