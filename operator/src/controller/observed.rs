//! What was seen in one look at a cluster. No I/O: whoever looked fills it in.

use coequal_types::rest::{
    ClusterDescription, DatabaseDescription, NodeDescription, ReplicaView, ReplicationDescription, Role,
};
use coequal_types::{NodeId, NodeName, NodeStatus};

/// What carries a node: a process here, a pod on Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// There is none.
    Absent,
    /// It ended by itself and waits for its next start.
    BackingOff,
    /// It runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// Nobody knows (the machine is lost).
    Unknown,
}

/// What is recorded of the cluster's beginning, outside of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// No node was told to initialise.
    NotBegun,
    /// This node, and no other, may initialise.
    Chosen(NodeName),
    /// Initialised, with this identity. Never again.
    Initialized(uuid::Uuid),
}

/// One node as it was seen.
#[derive(Debug, Clone)]
pub struct ObservedNode {
    /// Its name.
    pub name: NodeName,
    /// The number at the end of the name.
    pub ordinal: u32,
    /// What carries it.
    pub carrier: Carrier,
    /// Whether it has a data directory or volume.
    pub has_data: bool,
    /// Whether that is older than what is recorded of the cluster's beginning: it may belong to a cluster already.
    pub may_hold_cluster: bool,
    /// Whether its readiness probe passes; `None` without an answer.
    pub ready: Option<bool>,
    /// Its own report; `None` without an answer.
    pub report: Option<NodeDescription>,
    /// All nodes as it sees them.
    pub view: Option<ClusterDescription>,
    /// Databases that it knows.
    pub databases: Option<Vec<DatabaseDescription>>,
    /// Replication of each database as it sees it.
    pub replication: Vec<ReplicationDescription>,
}

/// Everything that was seen.
#[derive(Debug, Clone)]
pub struct Observed {
    /// How the cluster began.
    pub beginning: Beginning,
    /// Nodes that have a carrier or data, by ordinal.
    pub nodes: Vec<ObservedNode>,
}

impl ObservedNode {
    /// A node of which nothing is known but its name.
    pub fn unseen(name: NodeName, ordinal: u32) -> Self {
        Self {
            name,
            ordinal,
            carrier: Carrier::Absent,
            has_data: false,
            may_hold_cluster: false,
            ready: None,
            report: None,
            view: None,
            databases: None,
            replication: Vec::new(),
        }
    }

    /// Whether it answers and says that it takes part in its cluster.
    pub fn takes_part(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.status == NodeStatus::Online && report.cluster_id.is_some())
    }

    /// Its identity, by its own word.
    pub fn id(&self) -> Option<NodeId> {
        self.report.as_ref().map(|report| report.id)
    }
}

impl Observed {
    /// The node with this name.
    pub fn node(&self, name: &NodeName) -> Option<&ObservedNode> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// Whether another answering node reaches `name`; `None` if no other node can tell.
    pub fn reached_by_peers(&self, name: &NodeName) -> Option<bool> {
        let mut told = None;
        for peer in self.nodes.iter().filter(|peer| peer.name != *name && peer.takes_part()) {
            for view in peer.view.iter().flat_map(|view| &view.nodes).filter(|view| view.name == *name) {
                told = Some(told.unwrap_or(false) || view.reachable);
            }
        }
        told
    }

    /// A node's identity: by its own word, or by that of the others who keep its place.
    pub fn id_of(&self, node: &ObservedNode) -> Option<NodeId> {
        node.id().or_else(|| self.places_of(&node.name).map(|(_, replica)| replica.node).next())
    }

    /// What others say of the databases in which this node has a vote.
    pub fn places_of(&self, name: &NodeName) -> impl Iterator<Item = (&ReplicationDescription, &ReplicaView)> {
        let told = self.nodes.iter().filter(move |peer| peer.name != *name).flat_map(|peer| &peer.replication);
        told.flat_map(|seen| seen.nodes.iter().map(move |replica| (seen, replica)))
            .filter(move |(_, replica)| replica.name == *name && replica.role == Role::Voter)
    }

    /// Entries that others keep for this node: the longest queue of each database, summed. A node that still gets its
    /// first copy has no queue: what it lacks is its progress.
    pub fn backlog_entries(&self, id: NodeId) -> Option<u64> {
        let mut longest = std::collections::BTreeMap::new();
        for replication in self.nodes.iter().flat_map(|node| &node.replication).filter(|seen| seen.node != id) {
            let of_node = |replica: &&ReplicaView| replica.node == id && replica.role == Role::Voter;
            for replica in replication.nodes.iter().filter(of_node) {
                let entry = longest.entry(replication.uuid).or_insert(0);
                *entry = replica.backlog_entries.max(*entry);
            }
        }
        (!longest.is_empty()).then(|| longest.values().sum())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    /// A node that has confirmed nothing yet would have everything as its queue, for as long as it gets its first copy.
    #[test]
    fn only_voters_have_a_queue() {
        let mut node = ObservedNode::unseen("o-0".parse().unwrap(), 0);
        for (database, lengths) in [(1, [7, 3]), (2, [5, 0])] {
            let replica = |id: u64, role: &str, backlog: u64| {
                json!({
                    "node": NodeId(id), "name": format!("o-{id}"), "role": role, "status": "SYNCHRONIZING",
                    "reachable": true, "backlogEntries": backlog, "backlogBoundEntries": 9,
                })
            };
            let told = json!({
                "name": format!("d{database}"), "uuid": Uuid::from_u128(database), "epoch": 1, "changing": true,
                "node": NodeId(9), "status": "ONLINE",
                "nodes": [replica(1, "voter", lengths[0]), replica(2, "learner", lengths[1])],
            });
            node.replication.push(serde_json::from_value(told).unwrap());
        }
        let seen = Observed { beginning: Beginning::NotBegun, nodes: vec![node] };
        assert_eq!(seen.backlog_entries(NodeId(1)), Some(12));
        assert_eq!(seen.backlog_entries(NodeId(2)), None);
    }
}
