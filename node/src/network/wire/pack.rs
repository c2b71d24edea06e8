//! Lists as one field of length-delimited entries.
//!
//! A plain `repeated` field is decoded as a whole before anybody looks at it: two bytes on the wire become a
//! struct of hundreds in memory, millions of times. A packed list is read entry by entry, and the first bad
//! one ends it, so what garbage can allocate is bounded.

use super::error::WireError;
use bytes::{Buf, Bytes, BytesMut};

/// Appends one entry with its length before it.
pub(crate) fn append<W: prost::Message>(entry: &W, out: &mut BytesMut) {
    let bytes = entry.encoded_len();
    out.reserve(bytes + prost::length_delimiter_len(bytes));
    let written = entry.encode_length_delimited(out);
    debug_assert!(written.is_ok(), "a growing buffer takes every message");
}

/// Packs a list.
pub(super) fn pack<W: prost::Message>(entries: impl Iterator<Item = W>) -> Bytes {
    let mut out = BytesMut::new();
    for entry in entries {
        append(&entry, &mut out);
    }
    out.freeze()
}

/// Reads a packed list of at most `max` entries and converts each.
pub(super) fn unpack<W, T>(field: &'static str, max: usize, mut packed: Bytes) -> Result<Vec<T>, WireError>
where
    W: prost::Message + Default,
    T: TryFrom<W, Error = WireError>,
{
    let mut list = Vec::new();
    while packed.has_remaining() {
        if list.len() == max {
            return Err(WireError::TooMany { field, max });
        }
        let entry = T::try_from(W::decode_length_delimited(&mut packed)?)?;
        if list.is_empty() {
            // Histories stay in memory, and many are of one write.
            list.reserve_exact(1);
        }
        list.push(entry);
    }
    Ok(list)
}
