//! What stands in `status`. Pure: from what was seen to what is written, with numbers coarse enough to stay still.

#[cfg(test)]
mod samples_test;
#[cfg(test)]
mod tests;

use crate::controller::cluster_status::{Counted, reason};
use crate::controller::node_status::{ShownStatus, Views, node_status};
use crate::controller::observed::{Beginning, Carrier, Observed, ObservedNode};
use crate::controller::validate::ValidatedDatabaseCluster;
use crate::crd::{
    ConditionReason as R, ConditionType as C, DatabaseOnNodeStatus, DatabaseSummary, NodeSummary,
    ReplicatedDatabaseStatus,
};
use coequal_types::rest::Role;
use coequal_types::{DatabaseName, DatabaseStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What `Stalled` says while it is False.
const NOTHING_BLOCKS: &str = "nothing waits for a person";

/// Something that a person has to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Which kind of thing.
    pub reason: R,
    /// What is wrong and what to do.
    pub message: String,
}

/// What is known of a pod besides what the decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodWords {
    /// What stands in its way.
    pub trouble: Option<String>,
    /// Whether it answered once since it was made, or had time enough to.
    pub should_answer: bool,
    /// Whether the kubelet's readiness probe passes.
    pub probe_passes: bool,
}

/// Everything that status depends on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Generation of the manifest.
    pub generation: Option<i64>,
    /// What is wished.
    pub wish: &'a ValidatedDatabaseCluster,
    /// What was seen.
    pub observed: &'a Observed,
    /// More about pods, by ordinal.
    pub pods: &'a BTreeMap<u32, PodWords>,
    /// What is under way besides starting and aligning, and what is waited for.
    pub activity: Option<(R, String)>,
    /// What a person has to put right.
    pub obstacles: &'a [Obstacle],
    /// Whether the certificates are valid, why, and until when.
    pub certificates: &'a (bool, R, String),
}

/// What is written when a resource is seen for the first time: nobody may take it for finished.
pub fn first(generation: Option<i64>, now: &Time) -> ReplicatedDatabaseStatus {
    let mut status = ReplicatedDatabaseStatus { observed_generation: generation, ..Default::default() };
    let begins = "the operator has begun";
    let mut note = |kind, value, reason| set(&mut status.conditions, generation, now, kind, (value, reason, begins));
    note(C::Ready, "Unknown", R::Initializing);
    note(C::Available, "Unknown", R::Initializing);
    note(C::Reconciling, "True", R::Initializing);
    note(C::Stalled, "False", R::NothingBlocks);
    note(C::Replicated, "Unknown", R::Initializing);
    status
}

/// The status of a manifest that breaks a rule: what was there stays, nothing more happens.
pub fn invalid(
    old: &ReplicatedDatabaseStatus,
    generation: Option<i64>,
    faults: &str,
    now: &Time,
) -> ReplicatedDatabaseStatus {
    let mut status = ReplicatedDatabaseStatus { observed_generation: generation, ..old.clone() };
    let mut note =
        |kind, value, reason, text| set(&mut status.conditions, generation, now, kind, (value, reason, text));
    note(C::Ready, "False", R::InvalidSpec, faults);
    note(C::Reconciling, "False", R::InvalidSpec, "nothing is changed before the manifest is corrected");
    note(C::Stalled, "True", R::InvalidSpec, faults);
    status
}

/// The status of now; `old` is kept where it says the same.
pub fn status(old: &ReplicatedDatabaseStatus, facts: &Facts<'_>, now: &Time) -> ReplicatedDatabaseStatus {
    let (wish, observed) = (facts.wish, facts.observed);
    let nodes: Vec<(&ObservedNode, NodeSummary, ShownStatus)> = shown(facts);
    let desired: Vec<ShownStatus> = (0..wish.replicas)
        .map(|ordinal| {
            nodes.iter().find(|(node, ..)| node.ordinal == ordinal).map_or(ShownStatus::Offline, |(.., status)| *status)
        })
        .collect();
    let online = desired.iter().filter(|status| **status == ShownStatus::Online).count();
    let reports = || observed.nodes.iter().filter_map(|node| node.report.as_ref());
    let cluster = match observed.beginning {
        Beginning::Initialized(id) if !id.is_nil() => Some(id),
        _ => reports().find_map(|report| report.cluster_id),
    };
    let backlog = observed.nodes.iter().filter_map(|node| observed.backlog_entries(observed.id_of(node)?)).sum::<u64>();
    // What waits for a node that is away stays until it is back, so every entry of it is worth a word.
    let rounded = if nodes.iter().all(|(.., status)| *status == ShownStatus::Online) { coarse } else { one_digit };
    let mut status = ReplicatedDatabaseStatus {
        observed_generation: facts.generation,
        cluster_id: cluster.map(|id| id.to_string()).or_else(|| old.cluster_id.clone()),
        initializing_node: old.initializing_node.clone(),
        initialized: old.initialized || cluster.is_some(),
        replicas: count(observed.nodes.iter().filter(|node| node.carrier != Carrier::Absent).count()),
        ready_replicas: count(online),
        selector: Some(crate::kubernetes::names::selector_text(&wish.name)),
        backlog_entries: Some(rounded(backlog)),
        version: reports().map(|report| report.version.clone()).min().or_else(|| old.version.clone()),
        databases: databases(wish, observed, &old.databases),
        nodes: nodes.iter().map(|(_, summary, _)| summary.clone()).collect(),
        conditions: old.conditions.clone(),
    };
    let exists =
        |name: &DatabaseName| status.databases.iter().any(|known| known.name == name.as_str() && known.uuid.is_some());
    let counted = Counted {
        initialized: status.initialized,
        desired: &desired,
        surplus: nodes.iter().filter(|(node, ..)| node.ordinal >= wish.replicas).count(),
        databases_exist: wish.databases.iter().all(|database| exists(&database.name)),
    };
    conditions(&mut status, facts, reason(wish, counted), &desired, now);
    status
}

fn conditions(
    status: &mut ReplicatedDatabaseStatus,
    facts: &Facts<'_>,
    reason: R,
    desired: &[ShownStatus],
    now: &Time,
) {
    let generation = facts.generation;
    let summary = summary(reason, desired, facts.activity.as_ref().map(|(_, text)| text.as_str()));
    let is_settled = match reason {
        R::AllNodesOnline => facts.activity.is_none(),
        R::Hibernated => status.replicas == 0,
        _ => false,
    };
    let serving = desired.iter().filter(|status| matches!(status, ShownStatus::Online)).count();
    let is_available = status.initialized && serving * 2 > desired.len();
    let not_available = match reason {
        R::Hibernated | R::Initializing => reason,
        _ => R::NoQuorum,
    };
    let word = |truth: bool| if truth { "True" } else { "False" };
    let obstacle = facts.obstacles.first();
    let ready = obstacle.is_none() && is_settled;
    let ready_reason = match (obstacle, &facts.activity) {
        (Some(obstacle), _) => obstacle.reason,
        (None, Some((activity, _))) if reason == R::AllNodesOnline => *activity,
        _ => reason,
    };
    let obstacles: Vec<&str> = facts.obstacles.iter().map(|obstacle| obstacle.message.as_str()).collect();
    let obstacles = obstacles.join("\n");
    let mut note = |kind, value, reason, text: &str| {
        set(&mut status.conditions, generation, now, kind, (value, reason, text));
    };
    note(C::Ready, word(ready), ready_reason, obstacle.map_or(summary.as_str(), |_| obstacles.as_str()));
    let serving = format!("{serving} of {} nodes serve reads and writes", desired.len());
    note(C::Available, word(is_available), if is_available { R::QuorumOnline } else { not_available }, &serving);
    let settled_reason = if is_settled { R::Settled } else { ready_reason };
    note(C::Reconciling, word(!is_settled && obstacle.is_none()), settled_reason, &summary);
    let stalled = obstacle.map_or(R::NothingBlocks, |obstacle| obstacle.reason);
    let stalled_words = obstacle.map_or(NOTHING_BLOCKS, |_| obstacles.as_str());
    note(C::Stalled, word(obstacle.is_some()), stalled, stalled_words);
    let (is_valid, why, until) = facts.certificates;
    note(C::CertificatesValid, word(*is_valid), *why, until);
    let replicated = !desired.is_empty() && desired.iter().all(|status| *status == ShownStatus::Online);
    note(C::Replicated, word(replicated), if replicated { R::AllNodesOnline } else { reason }, &summary);
}

fn summary(reason: R, desired: &[ShownStatus], activity: Option<&str>) -> String {
    let online = desired.iter().filter(|status| **status == ShownStatus::Online).count();
    let mut text = match reason {
        R::Hibernated => "all nodes are stopped, their volumes are kept; set replicas to wake them".to_owned(),
        _ => format!("{online} of {} nodes are ONLINE", desired.len()),
    };
    if !desired.is_empty() && desired.len().is_multiple_of(2) {
        let tolerated = (desired.len() - 1) / 2;
        text += &format!("; {} nodes tolerate the loss of {tolerated}, as {} do", desired.len(), desired.len() - 1);
    }
    if let Some(activity) = activity {
        text += &format!("; {activity}");
    }
    text
}

/// Sets a condition; its time moves only when its value does.
fn set(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    now: &Time,
    kind: C,
    (value, reason, message): (&str, R, &str),
) {
    let found = conditions.iter_mut().find(|condition| condition.type_ == kind.as_str());
    let since =
        found.as_ref().filter(|c| c.status == value).map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
    // Kubernetes takes 32 KiB; nobody reads more than this.
    let message: String = message.chars().take(2000).collect();
    let condition = Condition {
        type_: kind.as_str().to_owned(),
        status: value.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        last_transition_time: since,
        observed_generation: generation,
    };
    match found {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// Nodes that are there, or should be.
fn shown<'a>(facts: &Facts<'a>) -> Vec<(&'a ObservedNode, NodeSummary, ShownStatus)> {
    let observed = facts.observed;
    let is_shown = |node: &&ObservedNode| node.carrier != Carrier::Absent || node.ordinal < facts.wish.replicas;
    observed
        .nodes
        .iter()
        .filter(is_shown)
        .map(|node| {
            let words = facts.pods.get(&node.ordinal).cloned().unwrap_or_default();
            let (status, why) = node_status(Views {
                carrier: node.carrier,
                report: node.report.as_ref().map(|report| report.status),
                should_answer: words.should_answer,
                ready: node.ready == Some(true),
                reached_by_peers: observed.reached_by_peers(&node.name),
                probe_passes: words.probe_passes,
            });
            let message = words.trouble.or_else(|| of_databases(node)).or_else(|| why.map(str::to_owned));
            let summary = NodeSummary {
                name: node.name.to_string(),
                id: observed.id_of(node).map(|id| id.to_string()),
                status: status.to_string(),
                message,
                databases: on_node(node, observed, status),
            };
            (node, summary, status)
        })
        .collect()
}

/// What is wrong with a database there, where something is.
fn of_databases(node: &ObservedNode) -> Option<String> {
    let databases = &node.report.as_ref()?.databases;
    let ill = databases
        .iter()
        .find(|database| matches!(database.status, DatabaseStatus::Conflict | DatabaseStatus::Faulty))?;
    Some(format!("database {} is {}: {}", ill.name, ill.status, ill.message.as_deref().unwrap_or("see the node's log")))
}

fn on_node(node: &ObservedNode, observed: &Observed, shown: ShownStatus) -> Vec<DatabaseOnNodeStatus> {
    let Some(report) = &node.report else { return kept_for(node, observed) };
    let databases = report.databases.iter().filter(|database| !database.name.is_system());
    databases
        .map(|database| {
            let progress = database.progress.filter(|progress| progress.entries_total > 0);
            let lag = observed
                .nodes
                .iter()
                .flat_map(|peer| &peer.replication)
                .filter(|seen| seen.uuid == database.uuid && seen.node != report.id)
                .flat_map(|seen| &seen.nodes)
                .filter(|replica| replica.node == report.id && replica.role == Role::Voter)
                .map(|replica| replica.backlog_entries)
                .max();
            DatabaseOnNodeStatus {
                name: database.name.to_string(),
                status: database.status.to_string(),
                progress_percent: progress.map(|progress| percent(progress.entries_done, progress.entries_total)),
                // What a serving node lags behind by is gone before anybody reads it.
                lag_entries: lag.map(|lag| if shown == ShownStatus::Online { coarse(lag) } else { one_digit(lag) }),
            }
        })
        .collect()
}

/// What the others keep for a node that does not answer.
fn kept_for(node: &ObservedNode, observed: &Observed) -> Vec<DatabaseOnNodeStatus> {
    let mut kept: BTreeMap<&DatabaseName, u64> = BTreeMap::new();
    for (seen, replica) in observed.places_of(&node.name).filter(|(seen, _)| !seen.name.is_system()) {
        let longest = kept.entry(&seen.name).or_default();
        *longest = replica.backlog_entries.max(*longest);
    }
    let kept = kept.into_iter().map(|(name, entries)| DatabaseOnNodeStatus {
        name: name.to_string(),
        status: DatabaseStatus::Offline.to_string(),
        progress_percent: None,
        lag_entries: Some(one_digit(entries)),
    });
    kept.collect()
}

/// In steps of five, so that a long copy does not write status all the time.
fn percent(done: u64, total: u64) -> i32 {
    let percent = done.min(total).saturating_mul(100) / total.max(1);
    i32::try_from(percent / 5 * 5).unwrap_or(100)
}

/// The leading digit: 1234 is 1000.
fn one_digit(number: u64) -> i64 {
    let scale = number.checked_ilog10().map_or(1, |digits| 10_u64.saturating_pow(digits));
    i64::try_from(number / scale * scale).unwrap_or(i64::MAX)
}

/// The leading digit of what is worth a word.
fn coarse(number: u64) -> i64 {
    if number < 1000 { 0 } else { one_digit(number) }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Databases that are wished or exist. One that no node tells of now is still the same one.
fn databases(wish: &ValidatedDatabaseCluster, observed: &Observed, old: &[DatabaseSummary]) -> Vec<DatabaseSummary> {
    let told = || observed.nodes.iter().flat_map(|node| node.databases.iter().flatten());
    let mut names: BTreeSet<&str> = wish.databases.iter().map(|database| database.name.as_str()).collect();
    names.extend(told().filter(|database| !database.name.is_system()).map(|database| database.name.as_str()));
    names.extend(old.iter().filter(|database| database.uuid.is_some()).map(|database| database.name.as_str()));
    names
        .into_iter()
        .map(|name| {
            let before = old.iter().find(|database| database.name == name);
            let known = told().filter(|database| database.name.as_str() == name).max_by_key(|database| database.epoch);
            let serves = |node: &&ObservedNode| {
                let databases = node.report.iter().flat_map(|report| &report.databases);
                node.carrier == Carrier::Running
                    && databases.filter(|on| on.name.as_str() == name).any(|on| on.status.serves_local_reads())
            };
            DatabaseSummary {
                name: name.to_owned(),
                uuid: known.map(|known| known.uuid.to_string()).or_else(|| before?.uuid.clone()),
                epoch: known.and_then(|known| i64::try_from(known.epoch).ok()).or_else(|| before?.epoch),
                online: count(observed.nodes.iter().filter(serves).count()),
            }
        })
        .collect()
}
