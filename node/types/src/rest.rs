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
    /// What is wrong with the node or its place in the cluster and what to do, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
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
    /// What forced recoveries have done, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<ForcedRecovery>,
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
    /// Unix time in milliseconds at which the first of the samples was asked for: every write acknowledged before it is here.
    /// Where the wall clock was set since, the earlier one of both its readings.
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

/// `GET` and `POST /v1/databases/{db}/compare`: the answering node's copy compared with the other voters', by hashes of
/// key ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonDescription {
    /// Name of the database.
    pub name: DatabaseName,
    /// Identity of the database.
    #[schema(value_type = String, format = Uuid)]
    pub uuid: DatabaseId,
    /// The node that answers, and whose copy is compared.
    pub node: NodeId,
    /// How often a comparison begins by itself, in seconds; 0: never.
    pub every_seconds: u64,
    /// The comparison under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<ComparisonRun>,
    /// The last one that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<ComparisonRun>,
}

/// One comparison, under way or ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonRun {
    /// Unix time in milliseconds at which it began.
    pub started_unix_ms: u64,
    /// The same of its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_unix_ms: Option<u64>,
    /// Key ranges compared, over all peers.
    pub ranges_done: u64,
    /// Key ranges to compare, roughly.
    pub ranges_total: u64,
    /// Keys compared, over all peers.
    pub keys_compared: u64,
    /// Differences that the change feeds do not explain.
    pub differences: u64,
    /// Of those: repaired by the newer chosen revision.
    pub repaired: u64,
    /// Of those: copies that hold another content at the same ballot than a quorum, which go into quarantine.
    pub quarantined: u64,
    /// Of those: left as they are, because no quorum agrees or a node did not answer.
    pub unresolved: u64,
    /// The peers that it is through with.
    pub peers: Vec<ComparedPeer>,
    /// The first differences in words, at most 16.
    pub findings: Vec<String>,
}

/// One peer of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparedPeer {
    /// The node.
    pub node: NodeId,
    /// Whether everything was compared; false: it did not answer, or did not keep up, in time.
    pub compared: bool,
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

/// Body of `POST /v1/cluster/recover`. Nothing in it has a default: it cannot be sent by a slip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverCluster {
    /// UUID of the cluster that is meant.
    #[schema(value_type = String, format = Uuid)]
    pub cluster_id: uuid::Uuid,
    /// Ids of all nodes that are lost for good: exactly those that are not reached.
    pub lost_nodes: Vec<NodeId>,
    /// `true`: what only these nodes held is lost with them.
    pub accept_data_loss: bool,
}

/// What forced recoveries have done to a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForcedRecovery {
    /// Whether all that follows from the last one has been done.
    pub complete: bool,
    /// How often the system database's configuration was forced.
    pub forced: u32,
    /// Every node that was ever given up. None of them comes back under its identity.
    pub lost_nodes: Vec<NodeId>,
    /// The databases.
    pub databases: Vec<RecoveredDatabase>,
    /// What a forced recovery cannot keep, in words.
    pub may_be_lost: String,
}

/// One database after forced recoveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveredDatabase {
    /// Its name.
    pub name: DatabaseName,
    /// Its identity.
    #[schema(value_type = String, format = Uuid)]
    pub uuid: DatabaseId,
    /// Epoch of its configuration.
    pub epoch: u64,
    /// How often its configuration was forced; 0 where a majority was left.
    pub forced: u32,
    /// Whether no voter of it is left: it cannot be recovered, only dropped and made anew.
    pub no_copy: bool,
    /// Who votes now.
    pub voters: Vec<NodeId>,
}
