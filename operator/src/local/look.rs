//! Looking at one replica a few times a second, beside everything else.

use super::client::NodeClient;
use coequal_types::rest::{ClusterDescription, DatabaseDescription, NodeDescription, ReplicationDescription};
use std::time::{Duration, Instant};

/// Time between two looks.
const BETWEEN: Duration = Duration::from_millis(400);

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

impl Look {
    /// Takes back what a node of another cluster said at this node's address: nothing that it says may lead to a step
    /// against it. The node that should be there says in its own log that its port is taken.
    pub fn disown_strangers(&mut self, own: Option<uuid::Uuid>) {
        let theirs = self.report.as_ref().and_then(|report| report.cluster_id);
        if own.is_some() && theirs.is_some() && own != theirs {
            (self.ready, self.report, self.view, self.databases) = (None, None, None, None);
            self.replication.clear();
        }
    }
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

/// Looks again and again until told to stop by `report` giving false.
pub async fn keep_looking(client: NodeClient, mut report: impl FnMut(Look) -> bool) {
    while report(look(&client).await) {
        tokio::time::sleep(BETWEEN).await;
    }
}
