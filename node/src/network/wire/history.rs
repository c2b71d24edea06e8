//! A document's remembered writes in few bytes. They travel with each of its revisions, up to
//! [`coequal_protocol::revision::HISTORY_DEPTH`] of them, and as a list of messages they are most of an accept.
//!
//! Nothing if there are none; else their number, a varint, and the entries. An entry is a head, and what differs from
//! the entry before it (from the revision itself for the first one); numbers of fixed length are little endian:
//!
//! ```text
//! head     varint   origin << 4 | ordinary ballot << 3 | has a request << 2 | effect (1, 2, 3 as in a list)
//! node     8 bytes  }
//! inc.     varint   } only where `origin` is the next new one; the revision's own stamp is origin 0
//! time     varint   difference, zigzag
//! version  varint   difference, zigzag
//! request  24 bytes id (16) and fingerprint (8), if it has one
//! ```
//!
//! Files have a form of their own, on the same idea (`storage::codec`): what is on disk and what travels change at
//! different times, and neither room sees the other.
//!
//! Entries have no length and heads no spare bit: what is to be added needs a new field and a new version.

use super::error::WireError;
use super::values::{effect_number, read_effect};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use coequal_protocol::ballot::BallotClass;
use coequal_protocol::revision::HistoryEntry;
use coequal_protocol::{Ballot, RequestId, Revision};
use coequal_types::{Incarnation, NodeId};
use prost::encoding::{decode_varint, encode_varint};

/// A revision remembers its last writes; a later version may remember more.
pub(super) const HISTORY_ENTRIES_MAX: usize = 64;
/// Room for the number of entries and two origins; and for an entry.
const HEAD_BYTES: usize = 32;
const ENTRY_BYTES: usize = 32;
/// No entry is shorter.
const ENTRY_BYTES_MIN: usize = 3;

const SHORT: WireError = WireError::Missing { field: "the end of a history" };

/// What an entry is told by.
struct Before {
    origins: Vec<(NodeId, Incarnation)>,
    time: u64,
    version: u64,
}

impl Before {
    fn the_first(stamp: Ballot, version: u64) -> Self {
        Self { origins: vec![(stamp.node, stamp.incarnation)], time: stamp.time, version }
    }
}

/// Writes all entries of a revision's history.
pub(super) fn pack_history(revision: &Revision) -> Bytes {
    let Revision { version, stamp, body: _, history } = revision;
    if history.is_empty() {
        return Bytes::new();
    }
    let mut before = Before::the_first(*stamp, *version);
    let mut out = BytesMut::with_capacity(HEAD_BYTES + ENTRY_BYTES * history.len());
    encode_varint(history.len() as u64, &mut out);
    for entry in history {
        append_entry(entry, &mut before, &mut out);
    }
    out.freeze()
}

fn append_entry(entry: &HistoryEntry, before: &mut Before, out: &mut BytesMut) {
    let HistoryEntry { stamp: Ballot { class, time, node, incarnation }, version, effect, request } = entry;
    let is_ordinary = match class {
        BallotClass::Creation => 0,
        BallotClass::Ordinary => 1,
    };
    let effect = u64::from(effect_number(*effect));
    let origin = (*node, *incarnation);
    let known = before.origins.iter().position(|known| *known == origin);
    let index = known.unwrap_or(before.origins.len()) as u64;
    encode_varint(index << 4 | is_ordinary << 3 | u64::from(request.is_some()) << 2 | effect, out);
    if known.is_none() {
        out.put_u64_le(node.0);
        encode_varint(u64::from(*incarnation), out);
        before.origins.push(origin);
    }
    encode_varint(fold(time.wrapping_sub(before.time)), out);
    encode_varint(fold(version.wrapping_sub(before.version)), out);
    (before.time, before.version) = (*time, *version);
    if let Some((RequestId(id), fingerprint)) = request {
        out.put_u128_le(*id);
        out.put_u64_le(*fingerprint);
    }
}

/// Reads what [`pack_history`] wrote of a revision with this stamp and version.
pub(super) fn unpack_history(stamp: Ballot, version: u64, mut packed: Bytes) -> Result<Vec<HistoryEntry>, WireError> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    let count = usize::try_from(decode_varint(&mut packed)?).unwrap_or(usize::MAX);
    if count > HISTORY_ENTRIES_MAX {
        return Err(WireError::TooMany { field: "history", max: HISTORY_ENTRIES_MAX });
    }
    if packed.len() < count * ENTRY_BYTES_MIN {
        return Err(SHORT);
    }
    let mut before = Before::the_first(stamp, version);
    // Exactly as many: histories stay in memory.
    let mut history = Vec::with_capacity(count);
    for _ in 0..count {
        history.push(read_entry(&mut before, &mut packed)?);
    }
    if packed.has_remaining() {
        return Err(WireError::TooMany { field: "history", max: count });
    }
    Ok(history)
}

fn read_entry(before: &mut Before, packed: &mut Bytes) -> Result<HistoryEntry, WireError> {
    let head = decode_varint(packed)?;
    let effect = read_effect((head & 3) as u32)?;
    let index = usize::try_from(head >> 4).unwrap_or(usize::MAX);
    if index == before.origins.len() {
        let node = NodeId(packed.try_get_u64_le().map_err(|_| SHORT)?);
        let value = decode_varint(packed)?;
        let incarnation =
            Incarnation::try_from(value).map_err(|_| WireError::TooLarge { field: "incarnation", value })?;
        before.origins.push((node, incarnation));
    }
    let Some(&(node, incarnation)) = before.origins.get(index) else {
        let value = u32::try_from(index).unwrap_or(u32::MAX);
        return Err(WireError::Unknown { field: "origin of a history entry", value });
    };
    before.time = before.time.wrapping_add(unfold(decode_varint(packed)?));
    before.version = before.version.wrapping_add(unfold(decode_varint(packed)?));
    let request = match head & 4 {
        0 => None,
        _ => {
            let id = RequestId(packed.try_get_u128_le().map_err(|_| SHORT)?);
            Some((id, packed.try_get_u64_le().map_err(|_| SHORT)?))
        }
    };
    let class = if head & 8 == 0 { BallotClass::Creation } else { BallotClass::Ordinary };
    let stamp = Ballot { class, time: before.time, node, incarnation };
    Ok(HistoryEntry { stamp, version: before.version, effect, request })
}

/// Zigzag: small differences either way are small numbers.
fn fold(difference: u64) -> u64 {
    let signed = difference as i64;
    (signed << 1 ^ signed >> 63) as u64
}

fn unfold(folded: u64) -> u64 {
    folded >> 1 ^ (folded & 1).wrapping_neg()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coequal_protocol::Effect;
    use proptest::prelude::*;

    const NODES: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 7, u64::MAX];

    /// So many writes of three nodes, a few milliseconds apart, each with a request's name.
    fn written(count: u64) -> Revision {
        let stamp = |n: u64| {
            let time = (1_780_000_000_000 + n * 40) << 16;
            Ballot::ordinary(time, NodeId(NODES[n as usize % NODES.len()]), 3)
        };
        let entry = |n| HistoryEntry {
            stamp: stamp(n),
            version: n,
            effect: if n == 1 { Effect::Created } else { Effect::Replaced },
            request: Some((RequestId(u128::from(n) << 100 | 1), n)),
        };
        Revision { version: count, stamp: stamp(count), body: None, history: (1..=count).map(entry).collect() }
    }

    #[test]
    fn an_entry_takes_little_more_than_the_name_of_its_request() {
        let (one, many) = (written(1), written(24));
        assert_eq!(pack_history(&one).len(), 1 + 3 + 24);
        let bytes = pack_history(&many).len();
        assert!(bytes < 24 * (24 + 8) + 2 * 10, "{bytes}");
        for revision in [one, many] {
            let read = unpack_history(revision.stamp, revision.version, pack_history(&revision)).unwrap();
            assert_eq!(read, revision.history);
        }
    }

    #[test]
    fn a_history_that_is_cut_or_goes_on_is_an_error() {
        let revision = written(5);
        let packed = pack_history(&revision);
        let read = |packed| unpack_history(revision.stamp, revision.version, packed);
        for end in 1..packed.len() {
            assert!(read(packed.slice(..end)).is_err(), "{end}");
        }
        assert!(read([&packed[..], &[9]].concat().into()).is_err());
    }

    #[test]
    fn an_origin_that_was_not_introduced_and_too_many_entries_are_refused() {
        let (stamp, unknown) = (written(1).stamp, Bytes::from_static(&[1, 2 << 4 | 1, 0, 0]));
        let error = unpack_history(stamp, 1, unknown).unwrap_err();
        assert_eq!(error.to_string(), "origin of a history entry 2 is unknown");
        let of = |count: usize| {
            let entries = [1, 0, 0].repeat(count);
            unpack_history(stamp, 1, [&[count as u8], &entries[..]].concat().into())
        };
        assert_eq!(of(HISTORY_ENTRIES_MAX).unwrap().len(), HISTORY_ENTRIES_MAX);
        assert!(matches!(of(HISTORY_ENTRIES_MAX + 1), Err(WireError::TooMany { .. })));
        let large = [&[1, 1 << 4 | 1][..], &[0; 8], &[0xff, 0xff, 0xff, 0xff, 0x10]].concat();
        let error = unpack_history(stamp, 1, large.into()).unwrap_err();
        assert_eq!(error.to_string(), "incarnation 4563402751 is too large");
    }

    fn ballots() -> impl Strategy<Value = Ballot> {
        (any::<bool>(), any::<u64>(), 0..12_u64, 0..2_u32).prop_map(|(ordinary, time, node, incarnation)| {
            let class = if ordinary { BallotClass::Ordinary } else { BallotClass::Creation };
            Ballot { class, time, node: NodeId(node), incarnation }
        })
    }

    proptest! {
        #[test]
        fn any_history_is_read_back_whoever_wrote_it(
            stamp in ballots(),
            version in any::<u64>(),
            history in prop::collection::vec(
                (ballots(), any::<u64>(), 1..=3_u32, prop::option::of((any::<u128>(), any::<u64>()))),
                0..=HISTORY_ENTRIES_MAX,
            ),
        ) {
            let entry = |(stamp, version, effect, request): (_, _, _, Option<(u128, u64)>)| HistoryEntry {
                stamp,
                version,
                effect: read_effect(effect).unwrap(),
                request: request.map(|(id, fingerprint)| (RequestId(id), fingerprint)),
            };
            let history: Vec<_> = history.into_iter().map(entry).collect();
            let revision = Revision { version, stamp, body: None, history };
            let read = unpack_history(stamp, version, pack_history(&revision)).unwrap();
            prop_assert_eq!(read.capacity(), read.len());
            prop_assert_eq!(read, revision.history);
        }
    }
}
