//! Every message as it travels. Tags are for ever: a field that is no longer used keeps its number.

use super::compare::WireCompare;
use super::operation::{WireOperation, WireResult};
use super::values::{WireBallot, WireHeld, WireRevision};
use bytes::Bytes;

/// One message with its database; a frame is a sequence of these, each with its length before it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Parcel {
    /// 16 bytes; nil for messages about the node.
    #[prost(bytes = "bytes", tag = "1")]
    pub database: Bytes,
    #[prost(
        oneof = "Body",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26"
    )]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "2")]
    Prepare(Prepare),
    #[prost(message, tag = "3")]
    Promised(Promised),
    #[prost(message, tag = "4")]
    Accept(Accept),
    #[prost(message, tag = "5")]
    Accepted(Accepted),
    #[prost(message, tag = "6")]
    Refused(Refused),
    #[prost(message, tag = "7")]
    StaleEpoch(StaleEpoch),
    #[prost(message, tag = "8")]
    Query(Query),
    #[prost(message, tag = "9")]
    QueryAnswer(QueryAnswer),
    #[prost(message, tag = "10")]
    FeedRequest(FeedRequest),
    #[prost(message, tag = "11")]
    FeedBatch(FeedBatch),
    #[prost(message, tag = "12")]
    BodyRequest(BodyRequest),
    #[prost(message, tag = "13")]
    Bodies(Bodies),
    #[prost(message, tag = "14")]
    Sample(Sample),
    #[prost(message, tag = "15")]
    SampleAnswer(SampleAnswer),
    #[prost(message, tag = "16")]
    Forward(Forward),
    #[prost(message, tag = "17")]
    ForwardAnswer(ForwardAnswer),
    #[prost(message, tag = "18")]
    RangeRequest(RangeRequest),
    #[prost(message, tag = "19")]
    RangeAnswer(RangeAnswer),
    #[prost(message, tag = "20")]
    Ping(Ping),
    #[prost(message, tag = "21")]
    JoinRequest(JoinRequest),
    #[prost(message, tag = "22")]
    JoinAnswer(JoinAnswer),
    #[prost(message, tag = "23")]
    ConfigurationNotice(ConfigurationNotice),
    #[prost(message, tag = "24")]
    Recall(Recall),
    #[prost(message, tag = "25")]
    Recalled(Recalled),
    #[prost(message, tag = "26")]
    Compare(WireCompare),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Prepare {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub ballot: Option<WireBallot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Promised {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub ballot: Option<WireBallot>,
    #[prost(message, optional, tag = "4")]
    pub held: Option<WireHeld>,
    #[prost(bool, tag = "5")]
    pub chosen: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Accept {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub ballot: Option<WireBallot>,
    #[prost(message, optional, tag = "4")]
    pub revision: Option<WireRevision>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Accepted {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub ballot: Option<WireBallot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refused {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub ballot: Option<WireBallot>,
    #[prost(message, optional, tag = "4")]
    pub promised: Option<WireBallot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StaleEpoch {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub configuration: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Query {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(uint64, tag = "3")]
    pub read: u64,
    #[prost(message, optional, tag = "4")]
    pub known: Option<WireBallot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct QueryAnswer {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(uint64, tag = "3")]
    pub read: u64,
    #[prost(message, optional, tag = "4")]
    pub accepted: Option<WireBallot>,
    #[prost(bool, tag = "5")]
    pub chosen: bool,
    #[prost(message, optional, tag = "6")]
    pub revision: Option<WireRevision>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FeedRequest {
    #[prost(uint64, tag = "1")]
    pub request: u64,
    #[prost(fixed64, tag = "2")]
    pub feed: u64,
    #[prost(uint64, tag = "3")]
    pub after: u64,
    #[prost(uint32, tag = "4")]
    pub entries_max: u32,
    #[prost(uint32, tag = "5")]
    pub bytes_max: u32,
    #[prost(bool, tag = "6")]
    pub bodies: bool,
    #[prost(fixed64, tag = "7")]
    pub own_feed: u64,
    #[prost(uint64, tag = "8")]
    pub durable: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Recall {
    #[prost(fixed64, tag = "1")]
    pub feed: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Recalled {
    #[prost(fixed64, tag = "1")]
    pub feed: u64,
    #[prost(uint64, tag = "2")]
    pub durable: u64,
    #[prost(uint32, tag = "3")]
    pub incarnation: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FeedBatch {
    #[prost(uint64, tag = "1")]
    pub request: u64,
    #[prost(fixed64, tag = "2")]
    pub feed: u64,
    #[prost(uint64, tag = "3")]
    pub after: u64,
    #[prost(uint64, tag = "4")]
    pub through: u64,
    #[prost(uint64, tag = "5")]
    pub remaining: u64,
    /// Packed [`super::values::WireFeedEntry`].
    #[prost(bytes = "bytes", tag = "6")]
    pub entries: Bytes,
    #[prost(uint64, tag = "7")]
    pub epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BodyRequest {
    /// Packed [`super::values::WireKey`].
    #[prost(bytes = "bytes", tag = "1")]
    pub keys: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Bodies {
    /// Packed [`super::values::WireChosenBody`].
    #[prost(bytes = "bytes", tag = "1")]
    pub bodies: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    #[prost(uint64, tag = "1")]
    pub alignment: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(fixed64, tag = "3")]
    pub feed: u64,
    #[prost(uint64, tag = "4")]
    pub after: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SampleAnswer {
    #[prost(uint64, tag = "1")]
    pub alignment: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(fixed64, tag = "3")]
    pub feed: u64,
    #[prost(uint64, tag = "4")]
    pub head: u64,
    #[prost(uint64, tag = "5")]
    pub behind: u64,
    /// Packed [`super::values::WireKey`].
    #[prost(bytes = "bytes", tag = "6")]
    pub pending: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Forward {
    #[prost(uint64, tag = "1")]
    pub forward: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "3")]
    pub operation: Option<WireOperation>,
    #[prost(uint32, tag = "4")]
    pub deadline_ms: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ForwardAnswer {
    #[prost(uint64, tag = "1")]
    pub forward: u64,
    #[prost(message, optional, tag = "2")]
    pub result: Option<WireResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeRequest {
    #[prost(uint64, tag = "1")]
    pub request: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub after: Option<Bytes>,
    #[prost(uint32, tag = "3")]
    pub bytes_max: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeAnswer {
    #[prost(uint64, tag = "1")]
    pub request: u64,
    #[prost(fixed64, tag = "2")]
    pub feed: u64,
    #[prost(uint64, tag = "3")]
    pub head: u64,
    #[prost(uint64, tag = "4")]
    pub total: u64,
    /// Packed [`super::values::WireChosenBody`].
    #[prost(bytes = "bytes", tag = "5")]
    pub bodies: Bytes,
    #[prost(bool, tag = "6")]
    pub done: bool,
    #[prost(fixed32, tag = "7")]
    pub checksum: u32,
    #[prost(uint64, tag = "8")]
    pub opening: u64,
    #[prost(message, repeated, tag = "9")]
    pub cursors: Vec<Cursor>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Cursor {
    #[prost(fixed64, tag = "1")]
    pub source: u64,
    #[prost(fixed64, tag = "2")]
    pub feed: u64,
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ping {
    #[prost(fixed64, tag = "1")]
    pub time: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub report: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub entry: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub cluster: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinAnswer {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub cluster: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    pub configuration: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub nodes: Bytes,
    #[prost(string, tag = "4")]
    pub refused: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConfigurationNotice {
    #[prost(bytes = "bytes", tag = "1")]
    pub configuration: Bytes,
}
