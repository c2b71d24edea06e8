//! What a user asks of the nodes' pods besides image and resources. Narrow on purpose: what is not here is decided by the
//! operator. There is no affinity: nodeSelector, tolerations and topologySpreadConstraints say the same in fewer words.

use super::{bounds, schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The nodes' pods. Changing anything here restarts the nodes one at a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Labels besides the operator's own; not app.kubernetes.io/… and not coequal.dev/….
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations besides the operator's own; not coequal.dev/….
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the machines that may carry nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of machines that nodes put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<TolerationSpec>,
    /// How nodes are spread over machines and zones. Without it: evenly over machines and over zones, as far as possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"]))]
    pub topology_spread_constraints: Vec<SpreadSpec>,
    /// Priority class of the pods; it has to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// Secrets with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretName>,
    /// Environment variables of the nodes, besides the operator's own; not COEQUAL_… and not POD_NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvironmentVariable>,
}

/// A taint that nodes put up with.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.key) || (has(self.operator) && self.operator == 'Exists')", "message": "a toleration without key has operator: Exists" },
    { "rule": "!has(self.value) || !has(self.operator) || self.operator == 'Equal'", "message": "a toleration with operator: Exists has no value" },
    { "rule": "!has(self.tolerationSeconds) || !has(self.effect) || self.effect == 'NoExecute'", "message": "tolerationSeconds has a meaning with effect: NoExecute alone" },
]))]
pub struct TolerationSpec {
    /// Key of the taint; without it every key, and operator is Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 317), regex(pattern = schema::QUALIFIED))]
    pub key: Option<String>,
    /// Exists: any value; Equal: this value, which is also meant where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TolerationOperator")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint, with Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = schema::LABEL_VALUE))]
    pub value: Option<String>,
    /// Effect of the taint; without it every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TaintEffect")]
    pub effect: Option<TaintEffect>,
    /// How long a pod stays on a machine after the taint came, in seconds; only with NoExecute. Without it for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = bounds::TOLERATION_SECONDS_MAX))]
    pub toleration_seconds: Option<i64>,
}

/// How a taint is compared.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// The same value.
    Equal,
}

/// What a taint does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// Nothing new comes here.
    NoSchedule,
    /// Nothing new comes here if it can be avoided.
    PreferNoSchedule,
    /// Nothing stays here.
    NoExecute,
}

/// How nodes are spread.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SpreadSpec {
    /// Label of machines whose values are the places: kubernetes.io/hostname, topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 317), regex(pattern = schema::QUALIFIED))]
    pub topology_key: String,
    /// By how many nodes two places may differ.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_skew: i32,
    /// DoNotSchedule: a node rather waits than stands in the wrong place; ScheduleAnyway: it is only preferred.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

/// What happens where nodes cannot be spread.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnsatisfiable {
    /// The node waits.
    DoNotSchedule,
    /// The node comes anyway.
    #[default]
    ScheduleAnyway,
}

/// A Secret by its name.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct SecretName {
    /// Its name, in the namespace of the resource.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// An environment variable.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!self.name.startsWith('COEQUAL_') && self.name != 'POD_NAME'", "message": "COEQUAL_… and POD_NAME are the operator's own" },
]))]
pub struct EnvironmentVariable {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, as it is.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

fn one() -> i32 {
    1
}
