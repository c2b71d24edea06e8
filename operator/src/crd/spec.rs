//! What a user asks for. What one field says about itself stands beside it, what needs words of its own in `rules`.

use super::status::ReplicatedDatabaseStatus;
use super::{bounds, rules, schema};
use coequal_types::{ReadQuorum, WriteQuorum};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A group of equal replica nodes and the databases that each of them holds in full. Every node takes writes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "coequal.dev",
    version = "v1alpha1",
    kind = "ReplicatedDatabase",
    plural = "replicateddatabases",
    shortname = "rdb",
    namespaced,
    doc = "A group of equal replica nodes and the databases that each of them holds in full. Every node takes writes.",
    status = "ReplicatedDatabaseStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".spec.replicas", description = "Replica nodes asked for"),
    printcolumn(name = "Online", type_ = "integer", json_path = ".status.readyReplicas", description = "Replica nodes that serve every database"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlogEntries", priority = 1, description = "Entries that wait for a node, over all queues"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    selectable = ".spec.replicas",
    selectable = ".status.version",
    validation = rules::resource_name()
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::write_quorum_is_a_majority(),
    validation = rules::write_quorum_is_possible()
)]
pub struct ReplicatedDatabaseSpec {
    /// Replica nodes. Odd numbers are best: an even number tolerates no more failures than the odd one below. 0 stops all nodes and keeps their data.
    #[serde(default = "replicas_default")]
    #[schemars(range(min = 0, max = bounds::REPLICAS_MAX))]
    pub replicas: i32,
    /// Databases of these nodes; without it, one that is named like the resource. Taking an entry out never drops a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<DatabaseSpec>", length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub databases: Option<Vec<DatabaseSpec>>,
    /// How long a majority of the nodes must have missed a node before a database with hotAlignment: false removes it, in seconds.
    #[serde(default = "grace_default")]
    #[schemars(range(min = bounds::GRACE_SECONDS_MIN, max = bounds::GRACE_SECONDS_MAX))]
    pub unreachable_grace_period_seconds: i32,
    /// The volume of each node.
    #[serde(default)]
    pub storage: StorageSpec,
    /// What becomes of the volumes when they are no longer used.
    #[serde(default)]
    pub persistent_volume_claim_retention_policy: RetentionPolicy,
    /// Container image of the nodes. Changing it restarts them one at a time. Without it, the nodes keep the image that the operator gave them first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512), regex(pattern = "^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$"))]
    pub image: Option<String>,
    /// Processor and memory of each node. Changing them restarts the nodes one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResourcesSpec")]
    pub resources: Option<ResourcesSpec>,
}

/// Processor and memory of each node: requests 100m and 256Mi, and at most 1Gi of memory (or what is requested, if that
/// is more), where nothing else is said.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::cpu_request_is_within_limit(),
    validation = rules::memory_request_is_within_limit()
)]
pub struct ResourcesSpec {
    /// What is set aside for each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResourceAmounts")]
    pub requests: Option<ResourceAmounts>,
    /// What a node may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResourceAmounts")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts as quantities.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::cpu_is_something(),
    validation = rules::memory_is_something()
)]
pub struct ResourceAmounts {
    /// Processors, in quotes: "2" or 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 24), regex(pattern = "^[0-9]+(\\.[0-9]+)?m?$"))]
    pub cpu: Option<String>,
    /// Bytes of memory: 512Mi, 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 24),
        regex(pattern = "^[0-9]+(\\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
    )]
    pub memory: Option<String>,
}

/// One database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Name of the database: 1 to 63 characters of a-z, 0-9, '-' and '_'; begins with a letter.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z][a-z0-9_-]*$"))]
    pub name: String,
    /// Copy the database to nodes that lack it, without being asked.
    #[serde(default = "yes")]
    pub auto_deploy: bool,
    /// Keep the place of an unreachable node and let it drain what it missed when it returns. With false it is removed after the grace period and deployed anew on return.
    #[serde(default = "yes")]
    pub hot_alignment: bool,
    /// Nodes that must have a write on disk before it is acknowledged: majority, all, or a number that is at least a majority of the replicas.
    #[serde(default)]
    #[schemars(schema_with = "schema::write_quorum")]
    pub write_quorum: WriteQuorum,
    /// Nodes that a plain read asks: 1 reads from the store of the asked node, majority makes every read linearizable unless it asks for consistency=local.
    #[serde(default)]
    #[schemars(schema_with = "schema::read_quorum")]
    pub read_quorum: ReadQuorum,
}

/// The volume of each node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::size_is_something(),
    validation = rules::size_never_shrinks(),
    validation = rules::storage_class_stays()
)]
pub struct StorageSpec {
    /// Size of each node's volume, as a quantity: 500Mi, 10Gi. It can grow later, never shrink.
    #[serde(default = "size_default")]
    #[schemars(schema_with = "schema::quantity")]
    pub size: Quantity,
    /// Storage class of the volumes; without it, the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
}

/// What becomes of volumes that are no longer used.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// When the resource is deleted.
    #[serde(default)]
    pub when_deleted: VolumeRetention,
    /// When a node is removed by a smaller replicas.
    #[serde(default)]
    pub when_scaled: VolumeRetention,
}

/// Keep a volume or delete it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeRetention {
    /// The volume stays.
    #[default]
    Retain,
    /// The volume goes, and the data with it.
    Delete,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self { size: size_default(), storage_class_name: None }
    }
}

fn replicas_default() -> i32 {
    bounds::REPLICAS_DEFAULT.cast_signed()
}
fn grace_default() -> i32 {
    60
}
fn yes() -> bool {
    true
}
fn size_default() -> Quantity {
    Quantity(bounds::SIZE_DEFAULT.to_owned())
}
