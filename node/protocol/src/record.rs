//! What a node writes to its log: the only way in which its state changes.

use crate::ballot::Ballot;
use crate::key::Key;
use crate::revision::Revision;
use bytes::Bytes;
use coequal_types::NodeId;
use std::sync::Arc;

/// Identity of one unbroken change feed: a node that comes back from an older disk image gets a new one, and
/// cursors into the former are void.
pub type FeedId = u64;

/// A change of one register.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// Nothing below this ballot is taken any more.
    Promise {
        /// The promised ballot.
        ballot: Ballot,
    },
    /// This revision is accepted.
    Accept {
        /// Ballot of the accept round.
        ballot: Ballot,
        /// The value.
        revision: Arc<Revision>,
    },
    /// This ballot is known to be chosen.
    Chosen {
        /// Ballot of the accept round that chose it.
        ballot: Ballot,
        /// Its place in this node's change feed.
        feed_sequence: u64,
        /// The value; `None` when it was accepted here at this ballot.
        revision: Option<Arc<Revision>>,
    },
    /// A tombstone, or a promise without a value, is collected (`tombstone_collection`).
    Collect {
        /// The bound: what is above it stays.
        through: u64,
    },
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRecord {
    /// A register changes.
    Register {
        /// The document.
        key: Key,
        /// What changes.
        change: Change,
    },
    /// This node has applied `source`'s feed up to and including `sequence`.
    Cursor {
        /// Whose feed.
        source: NodeId,
        /// Which feed of that node.
        feed: FeedId,
        /// Everything up to here is applied.
        sequence: u64,
    },
    /// A small named value of the database itself (its configuration, deploy progress, low bound …).
    Meta {
        /// Name of the value.
        name: String,
        /// The value; empty removes it.
        value: Bytes,
    },
}
