//! What nodes say to each other. Every message is harmless when lost, repeated, late or out of order.

use crate::auto_deploy::DonorPosition;
use crate::ballot::Ballot;
use crate::key::Key;
use crate::range_comparison::{KeyDigest, Range, RangeAnswer};
use crate::record::FeedId;
use crate::register::Held;
use crate::revision::{Effect, RequestId, Revision};
use bytes::Bytes;
use coequal_types::{ClusterId, DatabaseId};
use std::sync::Arc;

/// A message about one database, or about the node itself (database nil).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Phase 1 of a write: promise not to take anything below `ballot`.
    Prepare {
        /// Epoch of the sender's configuration.
        epoch: u64,
        /// The document.
        key: Key,
        /// The ballot.
        ballot: Ballot,
    },
    /// Answer to a prepare that was taken; on disk before it leaves (I3).
    Promised {
        /// Epoch in which it was taken.
        epoch: u64,
        /// The document.
        key: Key,
        /// The promised ballot.
        ballot: Ballot,
        /// The newest accepted revision.
        held: Option<Held>,
        /// Whether that revision is known to be chosen.
        chosen: bool,
    },
    /// Phase 2 of a write: accept `revision` at `ballot`.
    Accept {
        /// Epoch of the sender's configuration.
        epoch: u64,
        /// The document.
        key: Key,
        /// The ballot.
        ballot: Ballot,
        /// The value.
        revision: Arc<Revision>,
    },
    /// Answer to an accept that was taken; on disk before it leaves (I3).
    Accepted {
        /// Epoch in which it was taken.
        epoch: u64,
        /// The document.
        key: Key,
        /// The accepted ballot.
        ballot: Ballot,
    },
    /// Answer to a prepare or accept that was not taken.
    Refused {
        /// Epoch of the refusing node.
        epoch: u64,
        /// The document.
        key: Key,
        /// The refused ballot.
        ballot: Ballot,
        /// The ballot to go beyond.
        promised: Ballot,
    },
    /// The sender of a request has an older configuration than the receiver: nothing was done.
    StaleEpoch {
        /// Epoch of the refusing node.
        epoch: u64,
        /// The refusing node's configuration, as JSON.
        configuration: Bytes,
    },
    /// A linearizable read asks what a node holds.
    Query {
        /// Epoch of the sender's configuration.
        epoch: u64,
        /// The document.
        key: Key,
        /// Number of the read at its coordinator; comes back in the answer.
        read: u64,
        /// What the coordinator holds itself: that value need not travel.
        known: Ballot,
    },
    /// Answer to a query.
    QueryAnswer {
        /// Epoch in which it was answered.
        epoch: u64,
        /// The document.
        key: Key,
        /// Number of the read.
        read: u64,
        /// Ballot of the newest accepted revision.
        accepted: Ballot,
        /// Whether it is known to be chosen.
        chosen: bool,
        /// The revision, unless the coordinator knows it.
        revision: Option<Arc<Revision>>,
    },
    /// Asks for the entries of the receiver's feed behind `after`. One request stands at a time; it is answered
    /// at once if there are entries, else when there are: the receiver's pull is its credit.
    FeedRequest {
        /// Number of the request; comes back in the batch.
        request: u64,
        /// Which feed the cursor belongs to; 0 before the first batch.
        feed: FeedId,
        /// The cursor: everything up to here is durably applied.
        after: u64,
        /// Entries at most.
        entries_max: u32,
        /// Bytes at most, roughly.
        bytes_max: u32,
        /// Whether to send the revisions along (catching up) or only ballots (live).
        bodies: bool,
        /// The asker's own feed, and how far its log is durable: 0 until it may vote (`disk_check`).
        own_feed: FeedId,
        /// See `own_feed`.
        durable: u64,
    },
    /// A node that has just opened its store asks how far the log of that store was, as the receiver remembers.
    Recall {
        /// The asker's own feed.
        feed: FeedId,
    },
    /// What the sender remembers; zeros for nothing.
    Recalled {
        /// The asker's feed.
        feed: FeedId,
        /// Last log row that it had called durable.
        durable: u64,
        /// In which of its starts.
        incarnation: u32,
    },
    /// Entries of the sender's feed.
    FeedBatch {
        /// Number of the request that it answers.
        request: u64,
        /// Identity of the feed.
        feed: FeedId,
        /// The cursor that it starts behind.
        after: u64,
        /// The cursor that it leads to.
        through: u64,
        /// Live entries behind `through`.
        remaining: u64,
        /// Entries, in order of sequence.
        entries: Vec<FeedEntry>,
        /// Epoch of the sender's configuration: who has an older one does not take the batch, because the sender may have
        /// collected tombstones that are still there (`tombstone_collection`).
        epoch: u64,
    },
    /// Asks for chosen revisions that the asker lacks.
    BodyRequest {
        /// The documents.
        keys: Vec<Key>,
    },
    /// Chosen revisions.
    Bodies {
        /// Key, ballot and revision of each.
        bodies: Vec<ChosenBody>,
    },
    /// Asks for a sample: feed head and pending keys (hot alignment, step 3).
    Sample {
        /// Number of the alignment at the asker.
        alignment: u64,
        /// Epoch that the source must have adopted.
        epoch: u64,
        /// The feed that the asker's cursor belongs to.
        feed: FeedId,
        /// The asker's cursor, to count what lies behind it.
        after: u64,
    },
    /// A sample of the sender.
    SampleAnswer {
        /// Number of the alignment.
        alignment: u64,
        /// Epoch of the source.
        epoch: u64,
        /// Identity of the source's feed.
        feed: FeedId,
        /// Its head.
        head: u64,
        /// Live entries behind the asker's cursor.
        behind: u64,
        /// Keys accepted and not known to be chosen.
        pending: Vec<Key>,
    },
    /// A write that another node coordinates for the sender, because the key is hot.
    Forward {
        /// Number of the request at the sender.
        forward: u64,
        /// The document.
        key: Key,
        /// What to do.
        operation: Operation,
        /// How many milliseconds are left.
        deadline_ms: u32,
    },
    /// Its result.
    ForwardAnswer {
        /// Number of the request at the asker.
        forward: u64,
        /// The result, encoded by the coordinator's side as [`crate::message::ForwardResult`].
        result: ForwardResult,
    },
    /// Asks a donor for a range of chosen revisions, in key order (auto-deploy). Goes over the bulk connection.
    RangeRequest {
        /// Number of the request.
        request: u64,
        /// The range begins behind this key.
        after: Option<Key>,
        /// Bytes at most, roughly.
        bytes_max: u32,
    },
    /// A range of chosen revisions. Goes over the bulk connection.
    RangeAnswer {
        /// Number of the request.
        request: u64,
        /// Where the donor stood when it read the range.
        position: DonorPosition,
        /// Documents and tombstones in the donor's store, for progress.
        total: u64,
        /// The revisions, in key order.
        bodies: Vec<ChosenBody>,
        /// Whether this range reaches the end.
        done: bool,
        /// CRC-32C over the entries as the donor read them (`range_checksum`).
        checksum: u32,
    },
    /// Heartbeat, several a second. Its report is JSON (`NodeReport`).
    Ping {
        /// Sender's hybrid clock.
        time: u64,
        /// Sender's report: statuses, databases, whom it reaches. Empty when nothing changed.
        report: Bytes,
    },
    /// A node asks to be taken into the cluster. JSON of a `NodeEntry`.
    JoinRequest {
        /// The node, as JSON of `NodeEntry`.
        entry: Bytes,
        /// The cluster that it belongs to already, if any.
        cluster: Option<ClusterId>,
    },
    /// Answer to a join request.
    JoinAnswer {
        /// The cluster; `None` when the answering node has none itself yet.
        cluster: Option<ClusterId>,
        /// Configuration of the system database, as JSON.
        configuration: Bytes,
        /// All nodes, JSON list of `NodeEntry`.
        nodes: Bytes,
        /// Why the node is refused; empty when it is not.
        refused: String,
    },
    /// A configuration that the receiver may not know yet, as JSON.
    ConfigurationNotice {
        /// JSON of `Configuration`.
        configuration: Bytes,
    },
    /// Comparison of ranges by hashes. Goes over the bulk connection.
    Compare(Compare),
}

/// What nodes say to each other when they compare their chosen revisions. `comparison` and `step` are numbers of the
/// asker; they come back in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Does the receiver hold the same in this range?
    Range {
        /// Number of the comparison at the asker.
        comparison: u64,
        /// Number of the step in it.
        step: u64,
        /// The range.
        range: Range,
    },
    /// Answer to a range.
    RangeAnswer {
        /// Number of the comparison.
        comparison: u64,
        /// Number of the step.
        step: u64,
        /// The answering node's feed.
        feed: FeedId,
        /// Its head when the range was read.
        head: u64,
        /// What it holds.
        answer: RangeAnswer,
    },
    /// What does the receiver hold of these documents?
    Keys {
        /// Number of the comparison, or of a verdict, at the asker.
        comparison: u64,
        /// Number of the step in it.
        step: u64,
        /// The documents.
        keys: Vec<Key>,
    },
    /// Answer to keys: those of which something chosen is there.
    KeysAnswer {
        /// Number of the comparison or verdict.
        comparison: u64,
        /// Number of the step.
        step: u64,
        /// What it holds.
        entries: Vec<KeyDigest>,
    },
    /// Asks for the chosen revisions that the asker silently lacks.
    Fetch {
        /// Number of the comparison at the asker.
        comparison: u64,
        /// Number of the step in it.
        step: u64,
        /// The documents.
        keys: Vec<Key>,
    },
    /// Answer to a fetch, as many as an answer holds.
    Fetched {
        /// Number of the comparison.
        comparison: u64,
        /// Number of the step.
        step: u64,
        /// The revisions.
        bodies: Vec<ChosenBody>,
    },
    /// Chosen revisions that the receiver silently lacks.
    Repair {
        /// The revisions.
        bodies: Vec<ChosenBody>,
    },
    /// A quorum agrees on another content of these documents than the receiver's: it should ask for itself.
    Doubt {
        /// Documents and ballots.
        keys: Vec<(Key, Ballot)>,
    },
}

/// One entry of a feed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// The document.
    pub key: Key,
    /// Ballot of its chosen revision.
    pub ballot: Ballot,
    /// Place in the sender's feed.
    pub sequence: u64,
    /// The revision, when bodies were asked for.
    pub revision: Option<Arc<Revision>>,
}

/// A chosen revision on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBody {
    /// The document.
    pub key: Key,
    /// Ballot of the accept round that chose it.
    pub ballot: Ballot,
    /// The value.
    pub revision: Arc<Revision>,
}

/// What a write does to a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The kind of change.
    pub kind: OperationKind,
    /// What must hold of the document before.
    pub condition: Condition,
    /// The client's request id and a fingerprint of the request.
    pub request: Option<(RequestId, u64)>,
}

/// The kinds of writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Create or replace.
    Put(Bytes),
    /// Create; 409 if it exists.
    Create(Bytes),
    /// JSON merge patch; 404 if it does not exist.
    Patch {
        /// The patch (RFC 7396).
        patch: Bytes,
        /// Largest document that it may make, in bytes, by the settings of the node that took the request: whoever
        /// coordinates the write holds it to that.
        bytes_max: u32,
    },
    /// Tombstone; 404 if it does not exist.
    Delete,
    /// Nothing: get what is there chosen (reads and settling).
    Settle,
}

impl OperationKind {
    /// Length of the document or patch that it carries, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(body) | Self::Create(body) | Self::Patch { patch: body, .. } => body.len(),
            Self::Delete | Self::Settle => 0,
        }
    }
}

/// A precondition (RFC 9110, section 13).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// None.
    Any,
    /// `If-None-Match: *`: the document must not exist.
    Absent,
    /// `If-Match: *`: the document must exist.
    Present,
    /// The document must be at a revision of this stamp. Writes that were done together share one, so this alone does not
    /// tell their revisions apart; for documents that one writer changes at a time.
    Stamp(Ballot),
    /// `If-Match: "…"`: the document must be at this very revision.
    Revision {
        /// Its version.
        version: u64,
        /// Its stamp.
        stamp: Ballot,
    },
    /// The document must be at this version (batch lines may name versions).
    Version(u64),
}

/// Result of a forwarded write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardResult {
    /// Chosen.
    Written {
        /// Version now.
        version: u64,
        /// Stamp now.
        stamp: Ballot,
        /// What it did.
        effect: Effect,
    },
    /// Refused by the document's chosen state.
    Rejected(Rejection),
    /// Certainly not applied; try elsewhere or again.
    NotApplied,
    /// Nobody knows (G7).
    Unknown,
}

/// Refusals that are answers about a chosen state (I8).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// 404.
    NotFound,
    /// 409: create of something that exists.
    Exists {
        /// Version now.
        version: u64,
        /// Stamp now.
        stamp: Ballot,
    },
    /// 412: the precondition does not hold.
    PreconditionFailed {
        /// Version and stamp now, if the document exists.
        current: Option<(u64, Ballot)>,
    },
    /// 413: the patched document would be larger than a document may be.
    TooLarge {
        /// Bytes that it would have.
        bytes: u64,
        /// Bytes that it may have.
        bytes_max: u32,
    },
    /// 422: the merge patch cannot be applied, or an idempotency key came back with another request.
    NotAcceptable(String),
}

impl Message {
    /// Whether the message goes over the bulk connection, so that heartbeats and writes never wait behind it.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::RangeRequest { .. } | Self::RangeAnswer { .. } | Self::Compare(_))
    }
}

/// Messages of one sender about one database, as they travel in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The database; nil for messages about the node.
    pub database: DatabaseId,
    /// In the order in which they were sent.
    pub messages: Vec<Message>,
}
