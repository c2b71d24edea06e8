//! The values inside messages: ballots, keys, revisions, operations and results.

use super::error::WireError;
use super::history::{HISTORY_ENTRIES_MAX, pack_history, unpack_history};
use super::pack::{pack, unpack};
use bytes::Bytes;
use coequal_protocol::ballot::BallotClass;
use coequal_protocol::message::{ChosenBody, FeedEntry};
use coequal_protocol::register::Held;
use coequal_protocol::revision::HistoryEntry;
use coequal_protocol::{Ballot, Effect, Key, RequestId, Revision};
use coequal_types::NodeId;
use std::sync::Arc;
use uuid::Uuid;

/// Values from this size on stay slices of the frame they came in; smaller ones are copied, because a small
/// slice that lives on (a key in a map, a body in a cache) would keep its whole frame in memory.
const SHARE_BYTES_MIN: usize = 256 * 1024;
/// From this version of the protocol on histories are written by `history`; they were lists of [`WireHistoryEntry`].
const PACKED_HISTORY_SINCE: u32 = 2;

pub(super) fn keep(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARE_BYTES_MIN { Bytes::copy_from_slice(&bytes) } else { bytes }
}

pub(super) fn uuid_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(crate) fn read_uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, WireError> {
    Uuid::from_slice(bytes).map_err(|_| WireError::IdLength { field, found: bytes.len() })
}

pub(super) fn read_key(bytes: Bytes) -> Result<Key, WireError> {
    let start: String = String::from_utf8_lossy(bytes.get(..80.min(bytes.len())).unwrap_or_default()).into_owned();
    Key::from_bytes(keep(bytes)).ok_or(WireError::Key { text: start })
}

pub(super) fn read_ballot(field: &'static str, ballot: Option<WireBallot>) -> Result<Ballot, WireError> {
    ballot.ok_or(WireError::Missing { field })?.try_into()
}

pub(super) fn read_revision(revision: Option<WireRevision>) -> Result<Arc<Revision>, WireError> {
    revision.ok_or(WireError::Missing { field: "revision" })?.try_into().map(Arc::new)
}

pub(super) fn optional_revision(revision: Option<WireRevision>) -> Result<Option<Arc<Revision>>, WireError> {
    revision.map(|revision| revision.try_into().map(Arc::new)).transpose()
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireBallot {
    #[prost(uint32, tag = "1")]
    class: u32,
    #[prost(fixed64, tag = "2")]
    time: u64,
    #[prost(fixed64, tag = "3")]
    node: u64,
    #[prost(uint32, tag = "4")]
    incarnation: u32,
}

impl From<Ballot> for WireBallot {
    fn from(ballot: Ballot) -> Self {
        let Ballot { class, time, node, incarnation } = ballot;
        let class = match class {
            BallotClass::Creation => 1,
            BallotClass::Ordinary => 2,
        };
        Self { class, time, node: node.0, incarnation }
    }
}

impl TryFrom<WireBallot> for Ballot {
    type Error = WireError;
    fn try_from(wire: WireBallot) -> Result<Self, WireError> {
        let class = match wire.class {
            1 => BallotClass::Creation,
            2 => BallotClass::Ordinary,
            value => return Err(WireError::Unknown { field: "ballot class", value }),
        };
        Ok(Self { class, time: wire.time, node: NodeId(wire.node), incarnation: wire.incarnation })
    }
}

pub(super) fn effect_number(effect: Effect) -> u32 {
    match effect {
        Effect::Created => 1,
        Effect::Replaced => 2,
        Effect::Deleted => 3,
    }
}

pub(super) fn read_effect(value: u32) -> Result<Effect, WireError> {
    match value {
        1 => Ok(Effect::Created),
        2 => Ok(Effect::Replaced),
        3 => Ok(Effect::Deleted),
        value => Err(WireError::Unknown { field: "effect", value }),
    }
}

/// A client's request id and the fingerprint of what it asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireRequest {
    #[prost(fixed64, tag = "1")]
    id_high: u64,
    #[prost(fixed64, tag = "2")]
    id_low: u64,
    #[prost(fixed64, tag = "3")]
    fingerprint: u64,
}

impl From<(RequestId, u64)> for WireRequest {
    fn from((RequestId(id), fingerprint): (RequestId, u64)) -> Self {
        Self { id_high: (id >> 64) as u64, id_low: id as u64, fingerprint }
    }
}

impl From<WireRequest> for (RequestId, u64) {
    fn from(wire: WireRequest) -> Self {
        (RequestId(u128::from(wire.id_high) << 64 | u128::from(wire.id_low)), wire.fingerprint)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireHistoryEntry {
    #[prost(message, optional, tag = "1")]
    stamp: Option<WireBallot>,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(uint32, tag = "3")]
    effect: u32,
    #[prost(message, optional, tag = "4")]
    request: Option<WireRequest>,
}

impl From<&HistoryEntry> for WireHistoryEntry {
    fn from(entry: &HistoryEntry) -> Self {
        let HistoryEntry { stamp, version, effect, request } = entry;
        Self {
            stamp: Some((*stamp).into()),
            version: *version,
            effect: effect_number(*effect),
            request: request.map(WireRequest::from),
        }
    }
}

impl TryFrom<WireHistoryEntry> for HistoryEntry {
    type Error = WireError;
    fn try_from(wire: WireHistoryEntry) -> Result<Self, WireError> {
        Ok(Self {
            stamp: read_ballot("stamp of a history entry", wire.stamp)?,
            version: wire.version,
            effect: read_effect(wire.effect)?,
            request: wire.request.map(Into::into),
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireRevision {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(message, optional, tag = "2")]
    stamp: Option<WireBallot>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    body: Option<Bytes>,
    /// Packed [`WireHistoryEntry`]; of version 1.
    #[prost(bytes = "bytes", tag = "4")]
    history: Bytes,
    /// Instead of it: what [`pack_history`] wrote.
    #[prost(bytes = "bytes", tag = "5")]
    packed_history: Bytes,
}

impl WireRevision {
    /// As a node reads it that speaks this version of the protocol.
    pub(super) fn of(revision: &Revision, protocol: u32) -> Self {
        let Revision { version, stamp, body, history } = revision;
        let (list, packed) = if protocol < PACKED_HISTORY_SINCE {
            (pack(history.iter().map(WireHistoryEntry::from)), Bytes::new())
        } else {
            (Bytes::new(), pack_history(revision))
        };
        Self {
            version: *version,
            stamp: Some((*stamp).into()),
            body: body.clone(),
            history: list,
            packed_history: packed,
        }
    }
}

impl TryFrom<WireRevision> for Revision {
    type Error = WireError;
    fn try_from(wire: WireRevision) -> Result<Self, WireError> {
        let (version, stamp) = (wire.version, read_ballot("stamp of a revision", wire.stamp)?);
        let history = match (wire.history.is_empty(), wire.packed_history.is_empty()) {
            (_, true) => unpack::<WireHistoryEntry, _>("history", HISTORY_ENTRIES_MAX, wire.history)?,
            (true, false) => unpack_history(stamp, version, wire.packed_history)?,
            (false, false) => return Err(WireError::Twice { field: "history" }),
        };
        Ok(Self { version, stamp, body: wire.body.map(keep), history })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireHeld {
    #[prost(message, optional, tag = "1")]
    ballot: Option<WireBallot>,
    #[prost(message, optional, tag = "2")]
    revision: Option<WireRevision>,
}

impl WireHeld {
    pub(super) fn of(Held { ballot, revision }: &Held, protocol: u32) -> Self {
        Self { ballot: Some((*ballot).into()), revision: Some(WireRevision::of(revision, protocol)) }
    }
}

impl TryFrom<WireHeld> for Held {
    type Error = WireError;
    fn try_from(wire: WireHeld) -> Result<Self, WireError> {
        let ballot = read_ballot("ballot of a held revision", wire.ballot)?;
        Ok(Self { ballot, revision: read_revision(wire.revision)? })
    }
}

/// A key as an entry of a packed list.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireKey {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

impl From<&Key> for WireKey {
    fn from(key: &Key) -> Self {
        Self { key: key.as_bytes().clone() }
    }
}

impl TryFrom<WireKey> for Key {
    type Error = WireError;
    fn try_from(wire: WireKey) -> Result<Self, WireError> {
        read_key(wire.key)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireFeedEntry {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, optional, tag = "2")]
    ballot: Option<WireBallot>,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(message, optional, tag = "4")]
    revision: Option<WireRevision>,
}

impl WireFeedEntry {
    pub(super) fn of(FeedEntry { key, ballot, sequence, revision }: &FeedEntry, protocol: u32) -> Self {
        Self {
            key: key.as_bytes().clone(),
            ballot: Some((*ballot).into()),
            sequence: *sequence,
            revision: revision.as_deref().map(|revision| WireRevision::of(revision, protocol)),
        }
    }
}

impl TryFrom<WireFeedEntry> for FeedEntry {
    type Error = WireError;
    fn try_from(wire: WireFeedEntry) -> Result<Self, WireError> {
        Ok(Self {
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot of a feed entry", wire.ballot)?,
            sequence: wire.sequence,
            revision: optional_revision(wire.revision)?,
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireChosenBody {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, optional, tag = "2")]
    ballot: Option<WireBallot>,
    #[prost(message, optional, tag = "3")]
    revision: Option<WireRevision>,
}

impl WireChosenBody {
    fn of(ChosenBody { key, ballot, revision }: &ChosenBody, protocol: u32) -> Self {
        let revision = WireRevision::of(revision, protocol);
        Self { key: key.as_bytes().clone(), ballot: Some((*ballot).into()), revision: Some(revision) }
    }
}

/// Packs bodies.
pub(super) fn pack_bodies(bodies: &[ChosenBody], protocol: u32) -> Bytes {
    pack(bodies.iter().map(|body| WireChosenBody::of(body, protocol)))
}

impl TryFrom<WireChosenBody> for ChosenBody {
    type Error = WireError;
    fn try_from(wire: WireChosenBody) -> Result<Self, WireError> {
        Ok(Self {
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot of a chosen body", wire.ballot)?,
            revision: read_revision(wire.revision)?,
        })
    }
}
