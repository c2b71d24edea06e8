//! What a node says of itself and of each of its databases.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Status of a node.
///
/// ```text
/// OFFLINE ─► STARTING ─► ONLINE ─► SHUTTINGDOWN ─► OFFLINE
///                │                      ▲
///                └──────────────────────┘        (a crash leads to OFFLINE from everywhere)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeStatus {
    /// Not running, or not reachable.
    Offline,
    /// Running; has not joined its cluster or opened its databases yet.
    Starting,
    /// Takes part in its cluster.
    Online,
    /// Stops; takes no new requests.
    ShuttingDown,
}

/// Status of a database on one node.
///
/// ```text
/// NOT_AVAILABLE ─► SYNCHRONIZING ─► ONLINE ◄─► BACKUP
///       ▲             ▲  │  ▲         │
///       │             │  ▼  └─────────┤ (lost contact with its sources)
///       │          OFFLINE ◄──────────┤
///       └── removed ──┴───────────────┘
/// CONFLICT: same name, other UUID.   FAULTY: the local store failed a check; both end by being removed or repaired.
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DatabaseStatus {
    /// Not deployed here.
    NotAvailable,
    /// Put off on purpose, or the node is unreachable.
    Offline,
    /// Being deployed or aligned; refuses local reads.
    Synchronizing,
    /// Online while a backup runs.
    Backup,
    /// Aligned: every write acknowledged before the alignment point is here.
    Online,
    /// Another database of this name, with another UUID, exists in the cluster. Nothing was touched.
    Conflict,
    /// The local store failed a check; it is neither served nor replicated.
    Faulty,
}

impl DatabaseStatus {
    /// The one table of allowed transitions.
    pub fn may_become(self, next: Self) -> bool {
        use DatabaseStatus::*;
        match self {
            NotAvailable => matches!(next, Synchronizing | Conflict | Faulty | Offline),
            Offline => matches!(next, Synchronizing | NotAvailable | Faulty | Conflict),
            Synchronizing => matches!(next, Online | Offline | NotAvailable | Faulty | Conflict),
            Online => matches!(next, Backup | Synchronizing | Offline | NotAvailable | Faulty | Conflict),
            Backup => matches!(next, Online | Synchronizing | Offline | Faulty),
            Conflict => matches!(next, NotAvailable | Synchronizing | Offline),
            Faulty => matches!(next, NotAvailable | Offline | Synchronizing),
        }
    }

    /// Whether local reads are answered.
    pub fn serves_local_reads(self) -> bool {
        matches!(self, Self::Online | Self::Backup)
    }

    /// Every status, for tables and metrics.
    pub const ALL: [Self; 7] = [
        Self::NotAvailable,
        Self::Offline,
        Self::Synchronizing,
        Self::Backup,
        Self::Online,
        Self::Conflict,
        Self::Faulty,
    ];

    /// The status as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAvailable => "NOT_AVAILABLE",
            Self::Offline => "OFFLINE",
            Self::Synchronizing => "SYNCHRONIZING",
            Self::Backup => "BACKUP",
            Self::Online => "ONLINE",
            Self::Conflict => "CONFLICT",
            Self::Faulty => "FAULTY",
        }
    }
}

impl NodeStatus {
    /// The status as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "OFFLINE",
            Self::Starting => "STARTING",
            Self::Online => "ONLINE",
            Self::ShuttingDown => "SHUTTINGDOWN",
        }
    }
}

/// What a SYNCHRONIZING database is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SynchronizationPhase {
    /// Waits for enough sources to answer.
    Connecting,
    /// Copies the whole database from a donor (auto-deploy).
    Deploying,
    /// Drains the sources' change feeds up to the sampled heads (hot alignment).
    Draining,
    /// Settles keys whose last write may or may not have been chosen.
    Settling,
}

/// How far a synchronization is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is being done.
    pub phase: SynchronizationPhase,
    /// Entries done in this phase.
    pub entries_done: u64,
    /// Entries of this phase in all, as known now.
    pub entries_total: u64,
    /// Entries per second, over the last seconds.
    pub entries_per_second: f64,
    /// Seconds to the end of this phase at that rate; absent while the rate is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
}

impl fmt::Display for DatabaseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_becomes_online_only_from_synchronizing_or_backup() {
        for from in DatabaseStatus::ALL {
            let allowed = matches!(from, DatabaseStatus::Synchronizing | DatabaseStatus::Backup);
            assert_eq!(from.may_become(DatabaseStatus::Online), allowed, "{from}");
        }
    }

    #[test]
    fn a_conflict_or_a_faulty_store_never_goes_online_directly() {
        assert!(!DatabaseStatus::Conflict.may_become(DatabaseStatus::Online));
        assert!(!DatabaseStatus::Faulty.may_become(DatabaseStatus::Online));
    }
}
