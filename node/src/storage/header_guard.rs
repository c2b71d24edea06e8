//! A guard in redb's header: a checksum, and how long the file was when it was last durable.
//!
//! redb checks its two commit slots, but not the bytes before them, and it believes the file's length: of a file that was
//! cut after a power cut, it fails by an assertion, which ends the process. So the header carries a checksum of all its
//! bytes and a length below which the file cannot be unless it was cut.
//!
//! The guard stands in bytes that redb leaves zero and ignores. Header and guard are one write within one sector, so they
//! arrive together or not at all. The length is one that a sync has made durable *before* the header was written, and it
//! is lowered durably before the file is made shorter: no power cut can leave a file that is shorter than its guard says.
//! A header without a guard (twelve zeros, which no flipped bit makes of one) is what former programs wrote; these also
//! write it back without one, so old and new programs may take turns.

use std::io;
use std::ops::Range;

/// Length of redb's header; always written whole.
pub(super) const HEADER_BYTES: usize = 320;
/// In the part that describes the file, behind the last field: length (8 bytes), CRC32C of all other bytes (4 bytes).
const GUARD: Range<usize> = 52..64;
const LENGTH_BYTES: usize = 8;

/// redb's header.
pub(super) type Header = [u8; HEADER_BYTES];

/// Puts a guard into a header of redb's that is about to be written.
pub(super) fn protect(header: &mut Header, durable_len: u64) -> io::Result<()> {
    if header[GUARD].iter().any(|byte| *byte != 0) {
        return Err(io::Error::other("redb's header has a field where this program keeps its guard"));
    }
    header[GUARD][..LENGTH_BYTES].copy_from_slice(&durable_len.to_be_bytes());
    let sum = sum_of(header);
    header[GUARD][LENGTH_BYTES..].copy_from_slice(&sum);
    Ok(())
}

/// Checks a header as it stands in the file and takes the guard out; answers the length that the file has at least,
/// `None` when a former program wrote it. `InvalidData` when the header is not what was written.
pub(super) fn check(header: &mut Header) -> io::Result<Option<u64>> {
    let mut guard = [0; GUARD.end - GUARD.start];
    guard.copy_from_slice(&header[GUARD]);
    if guard.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (length, sum) = guard.split_at(LENGTH_BYTES);
    if sum_of(header) != sum {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of its header does not fit"));
    }
    header[GUARD].fill(0);
    Ok(Some(length.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))))
}

/// Never zero, so that a guard is not taken for none.
fn sum_of(header: &Header) -> [u8; 4] {
    let (before, behind) = header.split_at(GUARD.start + LENGTH_BYTES);
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), &behind[GUARD.end - GUARD.start - LENGTH_BYTES..]);
    sum.max(1).to_be_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn redb_header() -> Header {
        let mut header: Header = std::array::from_fn(|at| (at * 7) as u8);
        header[GUARD].fill(0);
        header
    }

    #[test]
    fn a_guarded_header_is_read_back_as_it_was_and_every_flipped_bit_is_found() {
        let mut header = redb_header();
        protect(&mut header, 81_920).unwrap();
        let mut read = header;
        assert_eq!(check(&mut read).unwrap(), Some(81_920));
        assert_eq!(read, redb_header());
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&mut flipped).unwrap_err().kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
    }

    #[test]
    fn a_header_of_a_former_program_has_no_guard_and_is_taken() {
        assert_eq!(check(&mut redb_header()).unwrap(), None);
    }

    #[test]
    fn a_field_of_redbs_is_never_overwritten() {
        let mut header = redb_header();
        header[GUARD.start] = 1;
        assert!(protect(&mut header, 4096).is_err());
    }
}
