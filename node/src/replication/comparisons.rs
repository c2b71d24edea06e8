//! When databases are compared: by schedule (each database and node at a moment of its own, so that they do not all begin
//! together) and on demand. The comparison itself is `replica::comparison`.

use super::database_loop::ReplicaHandle;
use super::database_service::DatabaseService;
use super::error::ServiceError;
use super::node::Node;
use super::replica::{ComparisonView, Event};
use super::system::overloaded;
use coequal_protocol::range_comparison::is_due;
use coequal_types::rest::ComparisonDescription;
use coequal_types::{DatabaseId, DatabaseStatus, NodeId};
use std::sync::PoisonError;
use std::time::Instant;
use tokio::sync::oneshot;

/// Begins what is due. `running_since_ms`: Unix milliseconds at which this node started.
pub(super) fn begin_due(node: &Node, running_since_ms: u64) {
    let every_ms = node.settings.compare_every_seconds * 1_000;
    if every_ms == 0 {
        return;
    }
    let open: Vec<(DatabaseId, ReplicaHandle)> = {
        let routes = node.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.iter().map(|(database, handle)| (*database, handle.clone())).collect()
    };
    for (database, handle) in open {
        let view = handle.view();
        let ComparisonView { running, last, .. } = &view.comparison;
        let last_ms = last.as_ref().map(|last| last.started_unix_ms);
        let due = is_due(node.clock.now().unix_ms, every_ms, spread(database, node.id), last_ms, running_since_ms);
        if due && running.is_none() && view.status == DatabaseStatus::Online {
            // A full queue, or a node that does not vote yet: it stays due.
            let _ = handle.events.try_send(Event::Compare(None));
        }
    }
}

fn spread(database: DatabaseId, node: NodeId) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(database.as_bytes(), node.0)
}

impl DatabaseService {
    /// Begins a comparison of this node's copy with the other voters', or tells of the one under way.
    pub async fn compare(&self, deadline: Instant) -> Result<ComparisonDescription, ServiceError> {
        let handle = self.replica()?;
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |result| drop(sender.send(result)));
        handle.events.try_send(Event::Compare(Some(reply))).map_err(|_| overloaded())?;
        let answer = tokio::time::timeout_at(deadline.into(), receiver).await;
        let answer = answer.map_err(|_| overloaded())?;
        Ok(self.describe_comparison(answer.map_err(|_| ServiceError::ShuttingDown)??))
    }

    /// How the comparison stands, and how the last one ended.
    pub fn comparison(&self) -> Result<ComparisonDescription, ServiceError> {
        Ok(self.describe_comparison(self.replica()?.view().comparison.clone()))
    }

    fn describe_comparison(&self, view: ComparisonView) -> ComparisonDescription {
        ComparisonDescription {
            name: self.name.clone(),
            uuid: self.uuid,
            node: self.node.id,
            every_seconds: self.node.settings.compare_every_seconds,
            running: view.running,
            last: view.last,
        }
    }
}
