//! What is. Written only when it changed; fast-moving numbers are rounded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `observedGeneration` of a resource that no operator has looked at.
pub const UNSEEN: i64 = -1;

/// What is, as the operator saw it last.
// The API server gives this default to a resource that no operator has seen: tools that find no status at all (kstatus:
// Flux, helm --wait) would take it for finished.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = { "observedGeneration": UNSEEN }))]
pub struct ReplicatedDatabaseStatus {
    /// Generation of the spec that this status answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Identity of the cluster of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Name of the node that initialises the cluster; written before it is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializing_node: Option<String>,
    /// Whether the cluster was initialised. Never becomes false again.
    #[serde(default)]
    pub initialized: bool,
    /// Nodes that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Nodes that serve every database they should.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Entries that wait for a node, over all queues; rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_entries: Option<i64>,
    /// Version of the nodes; the oldest while an update runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Each node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<NodeSummary>,
    /// Each database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub databases: Vec<DatabaseSummary>,
    /// Ready, Available, Reconciling, Stalled, Replicated, CertificatesValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One node.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSummary {
    /// Its name, which is its pod's.
    pub name: String,
    /// Identity of its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// OFFLINE, STARTING, SYNCHRONIZING, ONLINE or SHUTTINGDOWN.
    pub status: String,
    /// Why it is so, and what to do where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Each database on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub databases: Vec<DatabaseOnNodeStatus>,
}

/// One database on one node.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseOnNodeStatus {
    /// Name of the database.
    pub name: String,
    /// Its status on this node.
    pub status: String,
    /// While SYNCHRONIZING: how far, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<i32>,
    /// Entries that others hold for this node; rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_entries: Option<i64>,
}

/// One database over all nodes.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSummary {
    /// Name of the database.
    pub name: String,
    /// Its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Epoch of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Nodes on which it is ONLINE.
    pub online: i32,
}
