//! What goes into a replica and what comes out.

use crate::replication::error::ServiceError;
use crate::replication::service::Written;
use crate::storage::Lsn;
use coequal_protocol::message::Operation;
use coequal_protocol::{Held, Key, Message};
use coequal_types::rest::{AlignmentPoint, ComparisonRun};
use coequal_types::status::Progress;
use coequal_types::{Configuration, DatabaseStatus, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds of a clock that only goes forward; all waiting is measured with it.
    pub monotonic_ms: u64,
    /// Unix milliseconds; only for ballots and for people.
    pub unix_ms: u64,
}

/// Tells the client of a write how it ended.
pub type WriteReply = Box<dyn FnOnce(Result<Written, ServiceError>) + Send>;
/// Tells the client of a read what was read.
pub type ReadReply = Box<dyn FnOnce(Result<Option<Held>, ServiceError>) + Send>;

/// Tells who asked for a comparison how it stands.
pub type CompareReply = Box<dyn FnOnce(Result<ComparisonView, ServiceError>) + Send>;

/// A client's write.
pub struct ClientWrite {
    /// The document.
    pub key: Key,
    /// What to do with it.
    pub operation: Operation,
    /// Whether this node made the key up for this write (one-round write b).
    pub generated: bool,
    /// When to give up, in monotonic milliseconds.
    pub deadline_ms: u64,
    /// Called once.
    pub reply: WriteReply,
}

/// A client's linearizable read.
pub struct ClientRead {
    /// The document.
    pub key: Key,
    /// When to give up, in monotonic milliseconds.
    pub deadline_ms: u64,
    /// Called once.
    pub reply: ReadReply,
}

/// What happens to a replica.
pub enum Event {
    /// A client writes.
    Write(ClientWrite),
    /// A client reads linearizably.
    Read(ClientRead),
    /// A peer says something.
    Peer {
        /// Who.
        from: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
        /// What.
        message: Message,
    },
    /// The log is on disk up to here.
    Durable(Lsn),
    /// A peer became reachable or unreachable.
    Reachable {
        /// Which.
        node: NodeId,
        /// Whether it is now.
        reachable: bool,
    },
    /// This process stood still for longer than a peer may: it was away, whatever it believes.
    StoodStill,
    /// A newer configuration was chosen.
    Configuration(Box<Configuration>),
    /// The disk became full, or has space again.
    DiskFull(bool),
    /// The store failed for good.
    StorageFailed(String),
    /// Time passes.
    Tick,
    /// This copy is to be compared with the other voters'; nothing new where that is under way.
    Compare(Option<CompareReply>),
}

/// What a replica wants done.
#[derive(Default)]
pub struct Effects {
    /// Messages, in order.
    pub sends: Vec<(NodeId, Message)>,
    /// Changes of status, for the log and for metrics.
    pub status_changes: Vec<(DatabaseStatus, DatabaseStatus)>,
    /// Documents of which a newer chosen revision is now here; only counted, except in the system database.
    pub learned: u64,
}

/// What others may know of a replica.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    /// Status of the database here.
    pub status: DatabaseStatus,
    /// The peers that it takes for reachable.
    pub reached: BTreeSet<NodeId>,
    /// Epoch of its configuration.
    pub epoch: u64,
    /// Newest epoch against which this replica has aligned.
    pub aligned_epoch: u64,
    /// The last alignment point.
    pub aligned: Option<AlignmentPoint>,
    /// Its configuration.
    pub configuration: Configuration,
    /// The configuration that made this copy void.
    pub superseded: Option<Configuration>,
    /// While SYNCHRONIZING.
    pub progress: Option<Progress>,
    /// What is wrong.
    pub message: Option<String>,
    /// Entries of this node's feed that each peer has not confirmed.
    pub backlog: BTreeMap<NodeId, u64>,
    /// Since when local reads may be old, in monotonic milliseconds (see `Replica::fresh_ms`).
    pub fresh_ms: Option<u64>,
    /// Documents with writes under way.
    pub writes_in_flight: u64,
    /// Whether writes are refused because the disk is full.
    pub disk_full: bool,
    /// Comparison with the other voters' copies.
    pub comparison: ComparisonView,
    /// Complete up to this time of ballots, on disk (`tombstone_collection`).
    pub complete: u64,
    /// Tombstones collected here since the start.
    pub collected_tombstones: u64,
    /// Promises without a value collected here since the start.
    pub collected_promises: u64,
}

/// How the comparison of ranges stands.
#[derive(Debug, Clone, Default)]
pub struct ComparisonView {
    /// The one under way.
    pub running: Option<ComparisonRun>,
    /// The last one that ended, also before the last restart.
    pub last: Option<ComparisonRun>,
    /// Since this start of the node.
    pub totals: ComparisonTotals,
}

/// Sums over all comparisons that this node made since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComparisonTotals {
    /// Comparisons that ended.
    pub ended: u64,
    /// Keys compared.
    pub keys: u64,
    /// Real differences.
    pub differences: u64,
    /// Differences repaired, here or at the peer.
    pub repaired: u64,
    /// Copies found by a quorum to hold another content.
    pub quarantined: u64,
    /// Differences left.
    pub unresolved: u64,
    /// Revisions learned here from other nodes' comparisons.
    pub received: u64,
}
