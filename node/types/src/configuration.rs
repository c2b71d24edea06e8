//! Documents of the system database: one for each database, one for each node.

use crate::{ClusterId, DatabaseId, DatabaseName, DatabaseSettings, NodeId, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The configuration of a database: who votes, who learns, and the settings. It is itself a document
/// (collection `databases` of the system database), chosen by the same protocol as any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Name of the database.
    pub name: DatabaseName,
    /// Identity of the database.
    pub uuid: DatabaseId,
    /// One more at each change; carried by every protocol message (I5, I6).
    pub epoch: u64,
    /// Nodes whose promises and accepts count.
    pub voters: Vec<NodeId>,
    /// While set, the epoch is *joint*: quorums need a majority of these former voters too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint_with: Option<Vec<NodeId>>,
    /// Nodes that receive data and do not count yet.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// Nodes that a person removed from this database: auto-deploy leaves them alone.
    #[serde(default)]
    pub excluded: Vec<NodeId>,
    /// Epoch at which each member was taken in: one that knows only older epochs was removed in between, and its
    /// old copy counts no more (I7).
    #[serde(default)]
    pub joined: BTreeMap<NodeId, u64>,
    /// Former databases of this name that were dropped on purpose: a returning node sets such a copy aside.
    #[serde(default)]
    pub dropped_uuids: Vec<DatabaseId>,
    /// What the user chose.
    pub settings: DatabaseSettings,
    /// A dropped database keeps its configuration so that late nodes learn of the drop.
    #[serde(default)]
    pub dropped: bool,
    /// How far tombstones are collected.
    #[serde(default)]
    pub low_bound: LowBound,
}

/// How far back ballots are refused and tombstones forgotten, for the collection of tombstones. Times of ballots (hybrid
/// clock); neither ever goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LowBound {
    /// Every prepare and accept with a ballot of this time or an earlier one is refused.
    pub agreed: u64,
    /// Tombstones with a ballot of this time or an earlier one do not exist any more; at most `agreed`.
    pub collected: u64,
}

impl Configuration {
    /// Whether `node` votes now, in the new or in the old set of a joint epoch.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.joint_with.as_ref().is_some_and(|old| old.contains(&node))
    }

    /// Whether `node` holds (or is to hold) this database.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// All nodes that hold this database, each once, in order of id.
    pub fn members(&self) -> Vec<NodeId> {
        let mut all = self.all_voters();
        all.extend(self.learners.iter().copied());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All nodes that vote in this epoch (both sets of a joint one), each once, in order of id.
    pub fn all_voters(&self) -> Vec<NodeId> {
        let mut all = self.voters.clone();
        all.extend(self.joint_with.iter().flatten().copied());
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A node of the cluster (collection `nodes` of the system database, keyed by node id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    /// Identity of the node's disk.
    pub id: NodeId,
    /// Name that people use.
    pub name: NodeName,
    /// Where other nodes reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach its HTTP API, `host:port`.
    pub api_address: String,
    /// Set once a person or the operator asked to remove the node: it is taken out of every database,
    /// one step at a time, and then this entry goes.
    #[serde(default)]
    pub leaving: bool,
    /// Set once it is out of every database: this identity never comes back (I7).
    #[serde(default)]
    pub removed: bool,
}

/// The cluster's own document (collection `cluster`, key `cluster`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterEntry {
    /// Identity of the cluster.
    pub id: ClusterId,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back_as_it_was_written() {
        let configuration = Configuration {
            name: DatabaseName::system(),
            uuid: DatabaseId::from_u128(7),
            epoch: 3,
            voters: vec![NodeId(1)],
            joint_with: Some(vec![NodeId(2)]),
            learners: vec![],
            excluded: vec![],
            joined: BTreeMap::from([(NodeId(1), 1)]),
            dropped_uuids: vec![DatabaseId::from_u128(8)],
            settings: DatabaseSettings::default(),
            dropped: false,
            low_bound: LowBound { agreed: 9, collected: 4 },
        };
        let json = serde_json::to_string(&configuration).unwrap();
        assert_eq!(serde_json::from_str::<Configuration>(&json).unwrap(), configuration, "{json}");
    }
}
