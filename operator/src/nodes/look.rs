//! One look at one node: everything that it tells of itself, its cluster and its databases.

use super::client::NodeClient;
use coequal_types::rest::{ClusterDescription, DatabaseDescription, NodeDescription, ReplicationDescription};
use std::time::Instant;

/// What one look saw; everything that was not answered is absent.
#[derive(Debug, Clone)]
pub struct Look {
    /// When the look began: what was done later is not in it.
    pub begun: Instant,
    /// Whether the readiness probe passes.
    pub ready: Option<bool>,
    /// The node's own report.
    pub report: Option<NodeDescription>,
    /// All nodes as it sees them.
    pub view: Option<ClusterDescription>,
    /// Databases that it knows.
    pub databases: Option<Vec<DatabaseDescription>>,
    /// Replication of each database.
    pub replication: Vec<ReplicationDescription>,
}

/// One look; bounded by the deadlines of the client.
pub async fn look(client: &NodeClient) -> Look {
    let begun = Instant::now();
    let (ready, report, view, databases) =
        futures::join!(client.ready(), client.node(), client.cluster(), client.databases());
    let databases = databases.ok().map(|list| list.databases);
    let names = databases.iter().flatten().map(|database| &database.name).filter(|name| !name.is_system());
    let replication = futures::future::join_all(names.map(|name| client.replication(name))).await;
    let replication = replication.into_iter().filter_map(Result::ok).collect();
    Look { begun, ready: ready.ok(), report: report.ok(), view: view.ok(), databases, replication }
}
