//! Bodies of the HTTP API.

use crate::status::{DatabaseStatus, NodeStatus, Progress};
use crate::{DatabaseId, DatabaseName, DatabaseSettings, NodeId, NodeName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/node`: this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeDescription {
    /// Identity of the node's disk.
    pub id: NodeId,
    /// Name that people use.
    pub name: NodeName,
    /// Which start of this node this is.
    pub incarnation: u32,
    /// Status of the node.
    pub status: NodeStatus,
    /// Version of the program.
    pub version: String,
    /// The cluster it belongs to; absent before it has joined one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<uuid::Uuid>,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub api_address: String,
    /// Databases and their status here.
    pub databases: Vec<DatabaseOnNode>,
}

/// A database as one node holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseOnNode {
    /// Name of the database.
    pub name: DatabaseName,
    /// Identity of the database.
    #[schema(value_type = String, format = Uuid)]
    pub uuid: DatabaseId,
    /// Its status on this node.
    pub status: DatabaseStatus,
    /// While SYNCHRONIZING: how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What is wrong and what to do, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `GET /v1/cluster`: all nodes as this node sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDescription {
    /// Identity of the cluster; absent before this node has joined one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<uuid::Uuid>,
    /// All nodes.
    pub nodes: Vec<NodeView>,
}

/// One node as another sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Identity of the node's disk.
    pub id: NodeId,
    /// Name that people use.
    pub name: NodeName,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub api_address: String,
    /// Its own word, or OFFLINE when the answering node cannot reach it.
    pub status: NodeStatus,
    /// Whether the answering node reaches it.
    pub reachable: bool,
    /// Seconds since it was last heard of; absent when never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact_seconds: Option<f64>,
    /// Whether it is being removed from the cluster.
    pub leaving: bool,
    /// Databases as that node reported them last.
    pub databases: Vec<DatabaseOnNode>,
}

/// `GET /v1/databases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseList {
    /// All databases that this node knows.
    pub databases: Vec<DatabaseDescription>,
}

/// `GET /v1/databases/{db}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseDescription {
    /// Name of the database.
    pub name: DatabaseName,
    /// Identity of the database.
    #[schema(value_type = String, format = Uuid)]
    pub uuid: DatabaseId,
    /// Its settings.
    pub configuration: DatabaseSettings,
    /// One more at each change of its configuration.
    pub epoch: u64,
    /// Its status on the answering node.
    pub status: DatabaseStatus,
    /// While SYNCHRONIZING: how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What is wrong and what to do, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Documents (without deleted ones) in the local store.
    pub documents: u64,
    /// Tombstones in the local store.
    pub tombstones: u64,
}

/// Body of `PATCH /v1/databases/{db}/configuration`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingsPatch {
    /// Copy the database to nodes that lack it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_deploy: Option<bool>,
    /// Keep an unreachable node's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_alignment: Option<bool>,
    /// `majority`, `all`, or a number that is at least a majority.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub write_quorum: Option<crate::WriteQuorum>,
    /// `1` or `majority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub read_quorum: Option<crate::ReadQuorum>,
    /// Grace period of `hotAlignment: false`, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_grace_period_seconds: Option<u32>,
}

impl SettingsPatch {
    /// The settings with this patch applied.
    pub fn apply(&self, settings: &DatabaseSettings) -> DatabaseSettings {
        DatabaseSettings {
            auto_deploy: self.auto_deploy.unwrap_or(settings.auto_deploy),
            hot_alignment: self.hot_alignment.unwrap_or(settings.hot_alignment),
            write_quorum: self.write_quorum.unwrap_or(settings.write_quorum),
            read_quorum: self.read_quorum.unwrap_or(settings.read_quorum),
            unreachable_grace_period_seconds: self
                .unreachable_grace_period_seconds
                .unwrap_or(settings.unreachable_grace_period_seconds),
        }
    }
}

/// Role of a node in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Its promises and accepts count.
    Voter,
    /// Receives data, does not count yet.
    Learner,
    /// Not in the configuration.
    None,
}

/// `GET /v1/databases/{db}/replication`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDescription {
    /// Name of the database.
    pub name: DatabaseName,
    /// Identity of the database.
    #[schema(value_type = String, format = Uuid)]
    pub uuid: DatabaseId,
    /// Epoch of the configuration.
    pub epoch: u64,
    /// Whether a membership change is under way (joint epoch).
    pub changing: bool,
    /// The node that answers.
    pub node: NodeId,
    /// Status on the answering node.
    pub status: DatabaseStatus,
    /// While SYNCHRONIZING: how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The alignment point of the last change to ONLINE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aligned: Option<AlignmentPoint>,
    /// Every node of the database.
    pub nodes: Vec<ReplicaView>,
    /// How far tombstones of deleted documents are collected.
    #[serde(default)]
    pub tombstone_collection: TombstoneCollection,
}

/// How far tombstones of deleted documents are collected, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TombstoneCollection {
    /// Deleted documents that the answering node remembers.
    pub tombstones: u64,
    /// How long they are remembered at least by the answering node's setting; the longest of all nodes counts.
    pub life_seconds: u64,
    /// Nothing is written any more with a ballot from before this Unix time in milliseconds.
    pub refused_before_unix_ms: u64,
    /// The answering node holds everything written before this Unix time in milliseconds.
    pub complete_before_unix_ms: u64,
    /// What was deleted before this Unix time in milliseconds is forgotten by all nodes.
    pub collected_before_unix_ms: u64,
    /// Nodes without which collecting does not go on: away, being deployed, or not aligned yet.
    pub waits_for: Vec<NodeId>,
}

/// When and against what a database was last aligned (G4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlignmentPoint {
    /// Unix time in milliseconds at which the sources' heads had all been sampled.
    pub unix_ms: u64,
    /// The sampled heads.
    pub sources: Vec<SampledHead>,
}

/// A source's feed head when it was sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampledHead {
    /// The source.
    pub node: NodeId,
    /// Its feed sequence number.
    pub head: u64,
}

/// One replica of a database as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its role in this database.
    pub role: Role,
    /// Its own word on the status, or OFFLINE when not reachable.
    pub status: DatabaseStatus,
    /// While it is SYNCHRONIZING: how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Whether the answering node reaches it.
    pub reachable: bool,
    /// Seconds since it was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact_seconds: Option<f64>,
    /// Entries of the answering node's change feed that this node has not confirmed: its durable queue.
    pub backlog_entries: u64,
    /// Upper bound of that queue: live documents and tombstones here.
    pub backlog_bound_entries: u64,
}

/// `GET …/collections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CollectionList {
    /// All collections, by name.
    pub collections: Vec<CollectionDescription>,
}

/// One collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CollectionDescription {
    /// Its name.
    pub name: String,
}

/// `GET …/documents`: a page of documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentPage {
    /// Documents in key order.
    #[schema(value_type = Vec<Object>)]
    pub documents: Vec<serde_json::Value>,
    /// Give this as `cursor=` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Answer of a write of one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WriteResult {
    /// Key of the document.
    #[serde(rename = "_key")]
    pub key: String,
    /// Its version now.
    #[serde(rename = "_version")]
    pub version: u64,
    /// Its stamp now.
    #[serde(rename = "_stamp")]
    pub stamp: String,
}

/// Body of `POST /v1/cluster/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddNode {
    /// Where the node listens for other nodes, `host:port`; the rest is learned from the node itself.
    pub peer_address: String,
}

/// RFC 9457 problem details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable: `urn:coequal:error:<kebab-case>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Which value was wrong, why, and what to do.
    pub detail: String,
    /// Key of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Current version of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// `not-applied` or `unknown` (G7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The id to ask again with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A line of the answer of `POST …/documents:batch`: the write was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// Key of the document.
    pub key: String,
    /// 201 created, 200 replaced or patched, 204 deleted.
    pub status: u16,
    /// Its version now.
    pub version: u64,
    /// Its stamp now.
    pub stamp: String,
}

/// A line of the answer of `POST …/documents:batch`: the line was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchError {
    /// Key of the document, as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Number of the line in the request, from 1.
    pub line: u64,
    /// HTTP status that the write alone would have had.
    pub status: u16,
    /// What was wrong.
    pub error: Problem,
}

/// A line of the body of `POST …/documents:batch`. A document with `_key` is a line too, and is put.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchOperation {
    /// `put`, `create`, `patch` or `delete`.
    pub op: String,
    /// Key of the document.
    pub key: String,
    /// The document or merge patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub document: Option<serde_json::Value>,
    /// Entity tag, `*`, or a version as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub if_match: Option<serde_json::Value>,
    /// Name of this write: an exact retry finds its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A line of `GET …/changes`: the newest state of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeLine {
    /// Give this as `since=` to go on behind this entry.
    pub cursor: String,
    /// Collection of the document.
    pub collection: String,
    /// Key of the document.
    pub key: String,
    /// Its version.
    pub version: u64,
    /// Its stamp.
    pub stamp: String,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The document; absent when it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub document: Option<serde_json::Value>,
}
