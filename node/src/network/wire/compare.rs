//! The comparison of ranges as it travels, both ways. Tags are for ever here, too.

use super::error::WireError;
use super::pack::{pack, unpack};
use super::values::{WireBallot, WireChosenBody, WireKey, pack_bodies, read_ballot, read_key};
use bytes::Bytes;
use coequal_protocol::message::{ChosenBody, Compare};
use coequal_protocol::range_comparison::{KEYS_MAX, KeyDigest, Range, RangeAnswer};
use coequal_protocol::{Ballot, Key};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireCompare {
    /// Number of the comparison, or of the verdict, at the asker; 0 where there is none.
    #[prost(uint64, tag = "1")]
    comparison: u64,
    #[prost(uint64, tag = "2")]
    step: u64,
    #[prost(oneof = "Kind", tags = "3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "3")]
    Range(WireRange),
    #[prost(message, tag = "4")]
    RangeAnswer(WireRangeAnswer),
    /// Packed [`WireKey`].
    #[prost(bytes = "bytes", tag = "5")]
    Keys(Bytes),
    /// Packed [`WireKeyDigest`].
    #[prost(bytes = "bytes", tag = "6")]
    KeysAnswer(Bytes),
    /// Packed [`WireKey`].
    #[prost(bytes = "bytes", tag = "7")]
    Fetch(Bytes),
    /// Packed [`WireChosenBody`].
    #[prost(bytes = "bytes", tag = "8")]
    Fetched(Bytes),
    /// Packed [`WireChosenBody`].
    #[prost(bytes = "bytes", tag = "9")]
    Repair(Bytes),
    /// Packed [`WireDoubt`].
    #[prost(bytes = "bytes", tag = "10")]
    Doubt(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRange {
    #[prost(bytes = "bytes", optional, tag = "1")]
    after: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    through: Option<Bytes>,
    #[prost(uint64, tag = "3")]
    count: u64,
    #[prost(fixed64, tag = "4")]
    digest_high: u64,
    #[prost(fixed64, tag = "5")]
    digest_low: u64,
    #[prost(uint64, tag = "6")]
    low_bound: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRangeAnswer {
    #[prost(fixed64, tag = "1")]
    feed: u64,
    #[prost(uint64, tag = "2")]
    head: u64,
    #[prost(bool, tag = "3")]
    same: bool,
    #[prost(bytes = "bytes", optional, tag = "4")]
    through: Option<Bytes>,
    #[prost(uint64, tag = "5")]
    low_bound: u64,
    /// Packed [`WireKeyDigest`].
    #[prost(bytes = "bytes", tag = "6")]
    entries: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireKeyDigest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, optional, tag = "2")]
    ballot: Option<WireBallot>,
    #[prost(fixed64, tag = "3")]
    digest_high: u64,
    #[prost(fixed64, tag = "4")]
    digest_low: u64,
    #[prost(bool, tag = "5")]
    tombstone: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireDoubt {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, optional, tag = "2")]
    ballot: Option<WireBallot>,
}

fn halves(digest: u128) -> (u64, u64) {
    ((digest >> 64) as u64, digest as u64)
}

fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl From<&KeyDigest> for WireKeyDigest {
    fn from(KeyDigest { key, ballot, digest, tombstone }: &KeyDigest) -> Self {
        let (digest_high, digest_low) = halves(*digest);
        let (key, ballot) = (key.as_bytes().clone(), Some((*ballot).into()));
        Self { key, ballot, digest_high, digest_low, tombstone: *tombstone }
    }
}

impl TryFrom<WireKeyDigest> for KeyDigest {
    type Error = WireError;
    fn try_from(wire: WireKeyDigest) -> Result<Self, WireError> {
        Ok(Self {
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot of a compared key", wire.ballot)?,
            digest: whole(wire.digest_high, wire.digest_low),
            tombstone: wire.tombstone,
        })
    }
}

impl TryFrom<WireDoubt> for (Key, Ballot) {
    type Error = WireError;
    fn try_from(wire: WireDoubt) -> Result<Self, WireError> {
        Ok((read_key(wire.key)?, read_ballot("ballot of a doubt", wire.ballot)?))
    }
}

fn optional(key: Option<&Key>) -> Option<Bytes> {
    key.map(|key| key.as_bytes().clone())
}

fn keys(keys: &[Key]) -> Bytes {
    pack(keys.iter().map(WireKey::from))
}

fn digests(entries: &[KeyDigest]) -> Bytes {
    pack(entries.iter().map(WireKeyDigest::from))
}

impl WireCompare {
    /// As a node reads it that speaks this version of the protocol.
    pub(super) fn of(message: &Compare, protocol: u32) -> Self {
        let (comparison, step, kind) = match message {
            Compare::Range { comparison, step, range } => {
                let Range { after, through, count, digest, low_bound } = range;
                let (digest_high, digest_low) = halves(*digest);
                let (after, through) = (optional(after.as_ref()), optional(through.as_ref()));
                let wire = WireRange { after, through, count: *count, digest_high, digest_low, low_bound: *low_bound };
                (*comparison, *step, Kind::Range(wire))
            }
            Compare::RangeAnswer { comparison, step, feed, head, answer } => {
                let RangeAnswer { same, through, low_bound, entries } = answer;
                let wire = WireRangeAnswer {
                    feed: *feed,
                    head: *head,
                    same: *same,
                    through: optional(through.as_ref()),
                    low_bound: *low_bound,
                    entries: digests(entries),
                };
                (*comparison, *step, Kind::RangeAnswer(wire))
            }
            Compare::Keys { comparison, step, keys: asked } => (*comparison, *step, Kind::Keys(keys(asked))),
            Compare::KeysAnswer { comparison, step, entries } => {
                (*comparison, *step, Kind::KeysAnswer(digests(entries)))
            }
            Compare::Fetch { comparison, step, keys: asked } => (*comparison, *step, Kind::Fetch(keys(asked))),
            Compare::Fetched { comparison, step, bodies: sent } => {
                (*comparison, *step, Kind::Fetched(pack_bodies(sent, protocol)))
            }
            Compare::Repair { bodies: sent } => (0, 0, Kind::Repair(pack_bodies(sent, protocol))),
            Compare::Doubt { keys } => {
                let doubt = |(key, ballot): &(Key, Ballot)| WireDoubt {
                    key: key.as_bytes().clone(),
                    ballot: Some((*ballot).into()),
                };
                (0, 0, Kind::Doubt(pack(keys.iter().map(doubt))))
            }
        };
        Self { comparison, step, kind: Some(kind) }
    }
}

impl TryFrom<WireCompare> for Compare {
    type Error = WireError;
    fn try_from(wire: WireCompare) -> Result<Self, WireError> {
        let WireCompare { comparison, step, kind } = wire;
        let keys = |packed| unpack::<WireKey, Key>("keys", KEYS_MAX, packed);
        let digests = |packed| unpack::<WireKeyDigest, KeyDigest>("entries", KEYS_MAX, packed);
        let bodies = |packed| unpack::<WireChosenBody, ChosenBody>("bodies", KEYS_MAX, packed);
        Ok(match kind.ok_or(WireError::UnknownMessage)? {
            Kind::Range(wire) => {
                let range = Range {
                    after: wire.after.map(read_key).transpose()?,
                    through: wire.through.map(read_key).transpose()?,
                    count: wire.count,
                    digest: whole(wire.digest_high, wire.digest_low),
                    low_bound: wire.low_bound,
                };
                Self::Range { comparison, step, range }
            }
            Kind::RangeAnswer(wire) => {
                let answer = RangeAnswer {
                    same: wire.same,
                    through: wire.through.map(read_key).transpose()?,
                    low_bound: wire.low_bound,
                    entries: digests(wire.entries)?,
                };
                Self::RangeAnswer { comparison, step, feed: wire.feed, head: wire.head, answer }
            }
            Kind::Keys(packed) => Self::Keys { comparison, step, keys: keys(packed)? },
            Kind::KeysAnswer(packed) => Self::KeysAnswer { comparison, step, entries: digests(packed)? },
            Kind::Fetch(packed) => Self::Fetch { comparison, step, keys: keys(packed)? },
            Kind::Fetched(packed) => Self::Fetched { comparison, step, bodies: bodies(packed)? },
            Kind::Repair(packed) => Self::Repair { bodies: bodies(packed)? },
            Kind::Doubt(packed) => {
                Self::Doubt { keys: unpack::<WireDoubt, (Key, Ballot)>("doubts", KEYS_MAX, packed)? }
            }
        })
    }
}
