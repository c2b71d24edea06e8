//! From the text of a manifest to a cluster that can be run, or to all faults at once.

mod fault;
mod fields;
mod pod;
mod quantity;
mod spec;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

pub use fault::{Fault, Faults};

use crate::crd::{ResourcesSpec, RetentionPolicy, bounds};
use coequal_types::{DatabaseName, DatabaseSettings, NodeName};
use fields::Fields;

/// A manifest that keeps every rule. Later steps cannot reach the raw text.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedDatabaseCluster {
    /// `metadata.name`; nodes are named `<name>-<ordinal>`.
    pub name: String,
    /// Nodes asked for; 0 hibernates.
    pub replicas: u32,
    /// Databases asked for, at least one.
    pub databases: Vec<ValidatedDatabase>,
    /// Volume of each node; without effect in local mode.
    pub storage: ValidatedStorage,
    /// What becomes of unused volumes; without effect in local mode.
    pub retention: RetentionPolicy,
    /// Image of the nodes; without effect in local mode.
    pub image: Option<String>,
    /// Processor and memory of each node; without effect in local mode.
    pub resources: ResourcesSpec,
}

/// A database that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedDatabase {
    /// Its name.
    pub name: DatabaseName,
    /// Its settings.
    pub settings: DatabaseSettings,
}

/// Volume of each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedStorage {
    /// Size as written.
    pub size: String,
    /// Storage class; `None` is the cluster's default.
    pub storage_class_name: Option<String>,
}

impl ValidatedDatabaseCluster {
    /// Name of the node with this ordinal. A validated name always makes a valid node name.
    pub fn node_name(&self, ordinal: u32) -> Option<NodeName> {
        format!("{}-{ordinal}", self.name).parse().ok()
    }

    /// The ordinal in a node's name, if it belongs to this cluster.
    pub fn ordinal(&self, node: &NodeName) -> Option<u32> {
        ordinal_of(&self.name, node.as_str())
    }
}

/// The ordinal in `<cluster>-<ordinal>`, written as a number is (no leading zero).
pub fn ordinal_of(cluster: &str, node: &str) -> Option<u32> {
    let digits = node.strip_prefix(cluster)?.strip_prefix('-')?;
    let ordinal: u32 = digits.parse().ok()?;
    (ordinal.to_string() == digits).then_some(ordinal)
}

/// The whole way: text to a cluster, or every fault that was found.
pub fn validate(text: &str) -> Result<ValidatedDatabaseCluster, Faults> {
    let root = yaml::single_document(text).map_err(|fault| Faults(vec![fault]))?;
    let mut faults = Vec::new();
    let cluster = manifest(Fields::root(&root), &mut faults);
    match cluster {
        Some(cluster) if faults.is_empty() => Ok(cluster),
        _ => Err(Faults(faults)),
    }
}

fn manifest(root: Fields<'_>, faults: &mut Vec<Fault>) -> Option<ValidatedDatabaseCluster> {
    root.refuse_unknown(&["apiVersion", "kind", "metadata", "spec", "status"], faults);
    expect_exactly(&root, "apiVersion", crate::crd::API_VERSION, faults);
    expect_exactly(&root, "kind", crate::crd::KIND, faults);
    let name = match root.mapping("metadata", faults) {
        Some(metadata) => resource_name(&metadata, faults),
        None => {
            if !root.has("metadata") {
                faults.push(Fault::new("metadata", "is missing; write metadata: { name: orders }"));
            }
            None
        }
    };
    if !root.has("spec") {
        faults.push(Fault::new("spec", "is missing; write spec: {} to take every default"));
    }
    let spec = root.mapping("spec", faults)?;
    spec::cluster(&spec, name.as_deref(), faults)
}

fn expect_exactly(root: &Fields<'_>, field: &str, expected: &str, faults: &mut Vec<Fault>) {
    if !root.has(field) {
        faults.push(Fault::new(field, format!("is missing; write {field}: {expected}")));
    } else if let Some(value) = root.text(field, faults)
        && value != expected
    {
        faults.push(Fault::new(field, format!("is {value:?}; this program knows only {expected}")));
    }
}

/// What `metadata` may hold besides the name: what Kubernetes itself writes, so that an exported manifest can be used.
const METADATA_FIELDS: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn resource_name(metadata: &Fields<'_>, faults: &mut Vec<Fault>) -> Option<String> {
    metadata.refuse_unknown(METADATA_FIELDS, faults);
    if !metadata.has("name") {
        faults.push(Fault::new("metadata.name", "is missing; write the name of the cluster, for example orders"));
        return None;
    }
    let name = metadata.text("name", faults)?;
    let longest = bounds::NAME_BYTES_MAX;
    let bytes = name.as_bytes();
    let wrong = if bytes.is_empty() {
        "is empty".to_owned()
    } else if bytes.len() > longest {
        format!("{} has {} characters", fault::cut(name), bytes.len())
    } else if let Some(odd) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        format!("{name:?} contains {odd:?}")
    } else if !bytes.first().is_some_and(u8::is_ascii_lowercase) {
        format!("{name:?} does not begin with a letter")
    } else if bytes.last() == Some(&b'-') {
        format!("{name:?} ends with '-'")
    } else {
        return Some(name.to_owned());
    };
    faults.push(Fault::new(
        "metadata.name",
        format!("{wrong}; use 1 to {longest} characters of a-z, 0-9 and '-', beginning with a letter and ending with a letter or digit"),
    ));
    None
}
