//! Everything that can be answered to a request other than success.

use coequal_protocol::Ballot;
use coequal_protocol::message::Rejection;
use coequal_types::status::Progress;
use coequal_types::{DatabaseId, DatabaseName, DatabaseStatus, NodeId};

/// Why a request was not done. `api` maps each variant to its HTTP status in one exhaustive table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// The document's chosen state refuses the write (404, 409, 412, 422).
    #[error("refused by the document's current state")]
    Rejected(Rejection),
    /// No such database on this node.
    #[error("database {0} does not exist; create it with PUT /v1/databases/{0}")]
    DatabaseNotFound(DatabaseName),
    /// The database exists in the cluster and is not deployed on this node.
    #[error(
        "database {0} is not deployed on this node (NOT_AVAILABLE); use another node, or deploy it with POST /v1/databases/{0}/nodes/{1}/deploy"
    )]
    DatabaseNotAvailable(DatabaseName, NodeId),
    /// The database is SYNCHRONIZING, so local reads are refused (G4).
    #[error(
        "database {name} is {status} on this node, so it cannot answer local reads yet; try again, use another node, or read with consistency=linearizable"
    )]
    Synchronizing {
        /// The database.
        name: DatabaseName,
        /// Its status.
        status: DatabaseStatus,
        /// How far it is.
        progress: Option<Progress>,
    },
    /// Another database of this name exists (G8).
    #[error("{0}")]
    NameConflict(String),
    /// The local store is damaged or failed.
    #[error("the local store of database {name} failed: {reason}; use another node")]
    Faulty {
        /// The database.
        name: DatabaseName,
        /// What failed.
        reason: String,
    },
    /// No quorum answered in time, and certainly nothing was applied.
    #[error("{reached} of the {needed} voters needed for a quorum answered in time; nothing was applied, try again")]
    NoQuorum {
        /// Voters that answered.
        reached: u32,
        /// Voters needed.
        needed: u32,
    },
    /// The outcome is not known (G7).
    #[error("whether the write was applied could not be found out in time; ask again with the same Idempotency-Key")]
    OutcomeUnknown,
    /// Too much at once.
    #[error("{what} is at its limit of {limit}; try again shortly")]
    Overloaded {
        /// Which bound was reached.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The node is stopping.
    #[error("this node is shutting down; use another node")]
    ShuttingDown,
    /// The node belongs to no cluster yet.
    #[error(
        "this node belongs to no cluster yet; initialise one with POST /v1/cluster/initialize or start it with --join"
    )]
    NoCluster,
    /// The disk is full: writes are refused until there is space.
    #[error("the disk of this node is full; writes are refused until space is free, use another node")]
    DiskFull,
    /// A change feed cursor of another feed or of a collected past.
    #[error("the cursor is void: {0}; start again without since=")]
    CursorVoid(String),
    /// Settings that cannot be taken, with the reason and what to do.
    #[error("{0}")]
    NotAcceptable(String),
    /// The request agrees with nothing here: unknown node, wrong UUID and the like (404).
    #[error("{0}")]
    NotFound(String),
    /// The state of cluster or database does not allow it now (409), with the reason and what to do.
    #[error("{0}")]
    Conflict(String),
    /// The database is being changed or dropped under another UUID than asked for (409).
    #[error("database {name} has the UUID {actual}, not {asked}; nothing was dropped")]
    WrongUuid {
        /// The database.
        name: DatabaseName,
        /// Its UUID.
        actual: DatabaseId,
        /// The one in the request.
        asked: DatabaseId,
    },
}

impl ServiceError {
    /// The document's stamp and version where the refusal tells them.
    pub fn current(&self) -> Option<(u64, Ballot)> {
        match self {
            Self::Rejected(Rejection::Exists { version, stamp }) => Some((*version, *stamp)),
            Self::Rejected(Rejection::PreconditionFailed { current }) => *current,
            _ => None,
        }
    }
}
