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
}
