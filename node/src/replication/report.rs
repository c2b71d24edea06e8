//! What a node tells its peers about itself, several times a second.

use coequal_types::rest::DatabaseOnNode;
use coequal_types::{NodeId, NodeStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node's word about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its status.
    pub status: NodeStatus,
    /// Its databases as users see them.
    pub databases: Vec<DatabaseOnNode>,
    /// For each of them: epoch, and newest epoch aligned with.
    pub epochs: BTreeMap<uuid::Uuid, (u64, u64)>,
    /// Nodes that it does not reach, and for how many milliseconds.
    pub unreachable_ms: BTreeMap<NodeId, u64>,
    /// For each open database: its word on the collection of tombstones. A node that says nothing has none collected.
    #[serde(default)]
    pub low_bounds: BTreeMap<uuid::Uuid, LowBoundWord>,
}

impl NodeReport {
    /// Whether `next` tells what this one did not, but for what changes with time alone.
    pub fn is_news(&self, next: &Self) -> bool {
        (self.status, &self.databases, &self.epochs) != (next.status, &next.databases, &next.epochs)
    }
}

/// A member's word on the collection of tombstones (`protocol::tombstone_collection::MemberWord`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LowBoundWord {
    /// Epoch that it has adopted.
    pub epoch: u64,
    /// Complete up to this time of ballots, on disk.
    pub complete: u64,
    /// What was deleted before this time of ballots is old enough for it.
    pub horizon: u64,
    /// Tombstones in its store.
    pub tombstones: u64,
}
