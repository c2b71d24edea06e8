//! What a node can do for its clients: the door between `api` and `replication`.
#![allow(unused_variables, clippy::todo, clippy::unused_async, missing_docs)]

use super::error::ServiceError;
use bytes::Bytes;
use coequal_protocol::message::Operation;
use coequal_protocol::{Ballot, Effect, Key, Revision};
use coequal_types::rest::{
    ClusterDescription, DatabaseDescription, NodeDescription, ReplicationDescription, SettingsPatch,
};
use coequal_types::{CollectionName, DatabaseId, DatabaseName, DatabaseSettings, DatabaseStatus, NodeId};
use std::sync::Arc;
use std::time::Instant;

/// A write that was chosen on a write quorum and is on its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub version: u64,
    pub stamp: Ballot,
    pub effect: Effect,
}

/// How fresh a read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// As the database's `readQuorum` says.
    Default,
    Local,
    Linearizable,
}

/// A document (or tombstone) that was read.
#[derive(Debug, Clone)]
pub struct ReadDocument {
    pub revision: Arc<Revision>,
    /// True when the answer was confirmed by a majority.
    pub linearizable: bool,
}

/// One page of documents in key order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub documents: Vec<(Key, Arc<Revision>)>,
    /// Where the next page begins behind; `None` on the last.
    pub next_after: Option<Key>,
}

/// A position in this node's change feed: (feed identity, sequence).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCursor {
    pub feed: u64,
    pub sequence: u64,
}

/// One change: the newest state of a document.
#[derive(Debug, Clone)]
pub struct ChangeEntry {
    pub cursor: ChangeCursor,
    pub key: Key,
    pub revision: Arc<Revision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessCheck {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

/// One number for `/metrics`. Label values come from bounded sets (databases, nodes, statuses).
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSample {
    /// Full name with unit and `_total` where due, e.g. `coequal_feed_backlog_entries`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
}

/// A running node.
#[derive(Clone)]
pub struct NodeService {}

impl NodeService {
    pub fn node_id(&self) -> NodeId {
        todo!()
    }
    pub fn describe_node(&self) -> NodeDescription {
        todo!()
    }
    pub fn describe_cluster(&self) -> ClusterDescription {
        todo!()
    }
    /// All user databases of the cluster that this node knows, in order of name.
    pub fn databases(&self) -> Vec<DatabaseDescription> {
        todo!()
    }
    /// `DatabaseNotFound` for unknown names; a database that is not deployed here is still returned.
    pub fn database(&self, name: &DatabaseName) -> Result<DatabaseService, ServiceError> {
        todo!()
    }
    /// True when it was created by this call. Same settings again: fine; other settings: `Conflict`.
    pub async fn create_database(
        &self,
        name: &DatabaseName,
        settings: DatabaseSettings,
        deadline: Instant,
    ) -> Result<(DatabaseDescription, bool), ServiceError> {
        todo!()
    }
    pub async fn drop_database(
        &self,
        name: &DatabaseName,
        uuid: DatabaseId,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        todo!()
    }
    pub async fn change_settings(
        &self,
        name: &DatabaseName,
        patch: SettingsPatch,
        deadline: Instant,
    ) -> Result<DatabaseDescription, ServiceError> {
        todo!()
    }
    /// `node` may be an id or a name.
    pub async fn deploy(&self, name: &DatabaseName, node: &str, deadline: Instant) -> Result<(), ServiceError> {
        todo!()
    }
    pub async fn remove_from_database(
        &self,
        name: &DatabaseName,
        node: &str,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        todo!()
    }
    /// True when the cluster was made by this call; an initialised node answers its cluster and false.
    pub async fn initialize_cluster(&self, deadline: Instant) -> Result<(ClusterDescription, bool), ServiceError> {
        todo!()
    }
    pub async fn add_node(&self, peer_address: &str, deadline: Instant) -> Result<(), ServiceError> {
        todo!()
    }
    /// Marks the node as leaving; it is taken out of every database step by step. Returns at once.
    pub async fn remove_node(&self, node: &str, deadline: Instant) -> Result<(), ServiceError> {
        todo!()
    }
    /// One check for joining the cluster and one for each database that this node should serve.
    pub fn readiness(&self) -> Vec<ReadinessCheck> {
        todo!()
    }
    pub fn metrics(&self) -> Vec<MetricSample> {
        todo!()
    }
    /// A time-ordered UUID (version 7) for a generated key, and whether writes of it may use one round.
    pub fn generate_key(&self) -> String {
        todo!()
    }
}

/// One database on this node.
#[derive(Clone)]
pub struct DatabaseService {}

impl DatabaseService {
    pub fn name(&self) -> &DatabaseName {
        todo!()
    }
    pub fn uuid(&self) -> DatabaseId {
        todo!()
    }
    pub fn status(&self) -> DatabaseStatus {
        todo!()
    }
    pub fn settings(&self) -> DatabaseSettings {
        todo!()
    }
    pub fn describe(&self) -> DatabaseDescription {
        todo!()
    }
    pub fn replication(&self) -> ReplicationDescription {
        todo!()
    }
    /// One write. `generated` says that the key was made by `generate_key` for this very write.
    pub async fn write(
        &self,
        key: Key,
        operation: Operation,
        generated: bool,
        deadline: Instant,
    ) -> Result<Written, ServiceError> {
        todo!()
    }
    /// Many writes, each its own atomic unit, pipelined; results in the order of the writes.
    pub async fn write_many(
        &self,
        writes: Vec<(Key, Operation)>,
        deadline: Instant,
    ) -> Vec<Result<Written, ServiceError>> {
        todo!()
    }
    /// `None` for a document that does not exist or is deleted. `session`: newest stamp that the client has seen.
    pub async fn read(
        &self,
        key: &Key,
        consistency: Consistency,
        session: Option<Ballot>,
        deadline: Instant,
    ) -> Result<Option<ReadDocument>, ServiceError> {
        todo!()
    }
    /// Live documents of a collection, local, in key order, behind `after`, whose key begins with `prefix`.
    /// Runs on a blocking thread; each call is one short read transaction.
    pub async fn page(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, ServiceError> {
        todo!()
    }
    /// Changes behind `after` (`None`: from the beginning), oldest first. `CursorVoid` for a cursor of another feed.
    pub async fn changes(&self, after: Option<ChangeCursor>, limit: usize) -> Result<Vec<ChangeEntry>, ServiceError> {
        todo!()
    }
    /// Returns when the feed has something behind `after`, or at the deadline.
    pub async fn wait_for_change(&self, after: Option<ChangeCursor>, deadline: Instant) {
        todo!()
    }
    /// Names in order.
    pub async fn collections(&self) -> Result<Vec<String>, ServiceError> {
        todo!()
    }
    /// True when it was created by this call.
    pub async fn create_collection(&self, name: &CollectionName, deadline: Instant) -> Result<bool, ServiceError> {
        todo!()
    }
    /// Removes an empty collection; with `documents`, deletes its documents first (each by its own tombstone).
    pub async fn delete_collection(
        &self,
        name: &CollectionName,
        documents: bool,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        todo!()
    }
}

/// Body type that `api` hands in: a checked compact document.
pub type Body = Bytes;
