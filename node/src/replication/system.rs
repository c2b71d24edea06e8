//! The system database: the cluster's own documents, written and read by the same protocol as any other.

use super::database_loop::ReplicaHandle;
use super::error::ServiceError;
use super::replica::{ClientRead, ClientWrite, Event};
use super::service::Written;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::{Ballot, Held, Key};
use coequal_types::{DatabaseName, NodeEntry, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

/// Collection of database configurations, keyed by name.
pub const DATABASES: &str = "databases";
/// Collection of nodes, keyed by id.
pub const NODES: &str = "nodes";

/// Key of a database's configuration.
pub fn configuration_key(name: &DatabaseName) -> Key {
    Key::of(DATABASES, name.as_str())
}

/// Key of a node's entry.
pub fn node_key(node: NodeId) -> Key {
    Key::of(NODES, &node.to_string())
}

/// A system document with the stamp that a conditional write needs.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// The document.
    pub value: T,
    /// Stamp of its revision.
    pub stamp: Ballot,
}

fn decode<T: DeserializeOwned>(held: &Held) -> Option<Stored<T>> {
    let value = serde_json::from_slice(held.revision.body.as_deref()?).ok()?;
    Some(Stored { value, stamp: held.revision.stamp })
}

/// All documents of a system collection, as this node has them.
pub fn list<T: DeserializeOwned>(system: &ReplicaHandle, collection: &str) -> Vec<Stored<T>> {
    let mut prefix = collection.as_bytes().to_vec();
    prefix.push(0);
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Ok(page) = system.store.scan(after.as_ref(), &prefix, 512, 4 << 20) else { return all };
        let Some(last) = page.last() else { return all };
        after = Some(last.key.clone());
        all.extend(page.iter().filter_map(|b| decode(&Held { ballot: b.ballot, revision: b.revision.clone() })));
    }
}

/// A node's entry, as this node has it.
pub fn node(system: &ReplicaHandle, node: NodeId) -> Option<Stored<NodeEntry>> {
    system.store.chosen(&node_key(node)).ok().flatten().as_ref().and_then(decode)
}

/// Reads a system document by a quorum.
pub async fn read<T: DeserializeOwned>(
    system: &ReplicaHandle,
    key: Key,
    deadline_ms: u64,
) -> Result<Option<Stored<T>>, ServiceError> {
    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |result| drop(sender.send(result)));
    let event = Event::Read(ClientRead { key, deadline_ms, reply });
    system.events.try_send(event).map_err(|_| overloaded())?;
    let held: Option<Held> = receiver.await.map_err(|_| ServiceError::ShuttingDown)??;
    Ok(held.as_ref().and_then(decode))
}

/// Writes a system document: created when `stamp` is `None`, replaced at that very revision otherwise.
pub async fn write<T: Serialize>(
    system: &ReplicaHandle,
    key: Key,
    value: &T,
    stamp: Option<Ballot>,
    deadline_ms: u64,
) -> Result<Written, ServiceError> {
    let body = serde_json::to_vec(value).map_err(|e| ServiceError::NotAcceptable(e.to_string()))?;
    let (kind, condition) = match stamp {
        None => (OperationKind::Create(body.into()), Condition::Any),
        Some(stamp) => (OperationKind::Put(body.into()), Condition::Stamp(stamp)),
    };
    let operation = Operation { kind, condition, request: None };
    submit(system, key, operation, false, deadline_ms).await
}

/// Hands a write to a database and waits for its end.
pub async fn submit(
    replica: &ReplicaHandle,
    key: Key,
    operation: Operation,
    generated: bool,
    deadline_ms: u64,
) -> Result<Written, ServiceError> {
    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |result| drop(sender.send(result)));
    let event = Event::Write(ClientWrite { key, operation, generated, deadline_ms, reply });
    replica.events.try_send(event).map_err(|_| overloaded())?;
    receiver.await.map_err(|_| ServiceError::ShuttingDown)?
}

/// The bound that a database's queue of events has.
pub fn overloaded() -> ServiceError {
    ServiceError::Overloaded {
        what: "requests waiting for this database",
        limit: super::database_loop::EVENTS_MAX as u64,
    }
}
