//! From a ReplicatedDatabase to what is worth saying about it. Pure; the JSON output is this.

use super::advice::{self, Advice};
use crate::crd::{ConditionReason, DatabaseSpec, ReplicatedDatabase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

/// Everything that is said of one resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whether everything is as it was asked for.
    pub ok: bool,
    /// The state in one word: the reason of the condition Ready, or what stands in for it.
    pub state: String,
    /// The state in a sentence.
    pub summary: String,
    /// Nodes asked for.
    pub replicas: i32,
    /// Nodes that serve every database.
    pub online: i32,
    /// Entries that wait for a node, over all queues; rounded unless `exact`.
    pub backlog_entries: Option<i64>,
    /// Whether numbers are those of the nodes themselves, of now; those of status are rounded.
    pub exact: bool,
    /// Nodes that were to be asked and did not answer, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// Version of the nodes.
    pub version: Option<String>,
    /// Identity of the cluster of nodes.
    pub cluster_id: Option<String>,
    /// Each node.
    pub nodes: Vec<NodeReport>,
    /// Each database.
    pub databases: Vec<DatabaseReport>,
    /// What is wrong or under way, and what to do.
    pub advice: Vec<Advice>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// OFFLINE, STARTING, SYNCHRONIZING, ONLINE or SHUTTINGDOWN.
    pub status: String,
    /// Why it is so.
    pub message: Option<String>,
    /// Each database on it.
    pub databases: Vec<CopyReport>,
}

/// One database on one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReport {
    /// Name of the database.
    pub name: String,
    /// Its status there.
    pub status: String,
    /// While SYNCHRONIZING: how far.
    pub progress_percent: Option<i32>,
    /// The same in words with entries, rate and time left, where nodes were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Entries that others hold for this node; rounded unless nodes were asked.
    pub lag_entries: Option<i64>,
}

/// One database over all nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// Its identity, once it exists.
    pub uuid: Option<String>,
    /// Nodes on which it is ONLINE.
    pub online: i32,
    /// Nodes that must have a write on disk; absent when the manifest does not declare it.
    pub write_quorum: Option<String>,
    /// Nodes that a plain read asks.
    pub read_quorum: Option<String>,
    /// Whether nodes that lack it get it by themselves.
    pub auto_deploy: Option<bool>,
    /// Whether an absent node keeps its place.
    pub hot_alignment: Option<bool>,
}

/// The report of a resource as the API server holds it.
pub fn report(resource: &ReplicatedDatabase) -> Report {
    let status = resource.status.clone().unwrap_or_default();
    let ready = condition(resource, "Ready");
    let advice = advice::advice(resource);
    let is_seen = status.observed_generation == resource.metadata.generation;
    let is_deleted = resource.metadata.deletion_timestamp.is_some();
    let ok = ready.is_some_and(|ready| ready.status == "True") && is_seen && !is_deleted;
    let (state, summary) = match ready {
        _ if is_deleted => ("Deleting", "it is being deleted".to_owned()),
        None => ("NotSeen", "no operator has looked at it yet".to_owned()),
        Some(_) if !is_seen => ("NotSeen", "no operator has looked at the last change yet".to_owned()),
        Some(ready) => (ready.reason.as_str(), first_line(&ready.message).to_owned()),
    };
    Report {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        ok,
        state: state.to_owned(),
        summary,
        replicas: resource.spec.replicas,
        online: status.ready_replicas,
        backlog_entries: status.backlog_entries,
        exact: false,
        not_asked: Vec::new(),
        version: status.version.clone(),
        cluster_id: status.cluster_id.clone(),
        nodes: nodes(resource),
        databases: databases(resource),
        advice,
    }
}

/// The condition of this type.
pub fn condition<'a>(resource: &'a ReplicatedDatabase, kind: &str) -> Option<&'a Condition> {
    resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition Ready has this reason.
pub fn is_ready_reason(resource: &ReplicatedDatabase, reason: ConditionReason) -> bool {
    condition(resource, "Ready").is_some_and(|ready| ready.reason == reason.as_str())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn nodes(resource: &ReplicatedDatabase) -> Vec<NodeReport> {
    let nodes = resource.status.iter().flat_map(|status| &status.nodes);
    nodes
        .map(|node| NodeReport {
            name: node.name.clone(),
            status: node.status.clone(),
            message: node.message.clone(),
            databases: node
                .databases
                .iter()
                .map(|copy| CopyReport {
                    name: copy.name.clone(),
                    status: copy.status.clone(),
                    progress_percent: copy.progress_percent,
                    progress: None,
                    lag_entries: copy.lag_entries,
                })
                .collect(),
        })
        .collect()
}

/// Those that are declared, in that order, then those that only exist.
fn databases(resource: &ReplicatedDatabase) -> Vec<DatabaseReport> {
    let known = || resource.status.iter().flat_map(|status| &status.databases);
    let declared = declared(resource);
    let undeclared = known().filter(|known| !declared.iter().any(|(name, _)| *name == known.name));
    let names = declared.iter().cloned().chain(undeclared.map(|known| (known.name.clone(), None)));
    names
        .map(|(name, spec)| {
            let found = known().find(|known| known.name == name);
            DatabaseReport {
                uuid: found.and_then(|found| found.uuid.clone()),
                online: found.map_or(0, |found| found.online),
                write_quorum: spec.as_ref().map(|spec| spec.write_quorum.to_string()),
                read_quorum: spec.as_ref().map(|spec| spec.read_quorum.to_string()),
                auto_deploy: spec.as_ref().map(|spec| spec.auto_deploy),
                hot_alignment: spec.as_ref().map(|spec| spec.hot_alignment),
                name,
            }
        })
        .collect()
}

/// Databases of the manifest; without any, the one that is named like the resource.
pub fn declared(resource: &ReplicatedDatabase) -> Vec<(String, Option<DatabaseSpec>)> {
    match &resource.spec.databases {
        Some(list) => list.iter().map(|database| (database.name.clone(), Some(database.clone()))).collect(),
        None => {
            let name = resource.name_any();
            let spec = DatabaseSpec {
                name: name.clone(),
                auto_deploy: true,
                hot_alignment: true,
                write_quorum: coequal_types::WriteQuorum::default(),
                read_quorum: coequal_types::ReadQuorum::default(),
            };
            vec![(name, Some(spec))]
        }
    }
}
