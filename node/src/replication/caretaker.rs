//! The caretaker: looks at what is observed and writes the next configuration, one step at a time. The decisions
//! are `protocol::membership`; here they get their facts and their pen. Any node may be the caretaker, two at
//! once do no harm: each write is conditional.

use super::node::{Node, Place, State};
use super::recovery;
use super::system::{self, Stored};
use coequal_protocol::membership::{MemberView, invariant_step_is_safe, next_change};
use coequal_types::{Configuration, DatabaseName, DatabaseStatus, NodeEntry, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

const WRITE_DEADLINE_MS: u64 = 3_000;
/// A report older than this says nothing about now.
const REPORT_AGE_MAX_MS: u64 = 3_000;

/// One round: at most one step for each database.
pub(super) async fn run(node: &Arc<Node>) {
    let Ok(handle) = node.system() else { return };
    if handle.view().status != DatabaseStatus::Online || !is_caretaker(node, &handle.view().configuration) {
        return;
    }
    let entries: Vec<Stored<NodeEntry>> = system::list(&handle, system::NODES);
    let configurations: Vec<Stored<Configuration>> = system::list(&handle, system::DATABASES);
    if !recovery::drive(node, &handle, &entries, &configurations).await {
        node.wake.notify_one();
        return;
    }
    for stored in &configurations {
        let views = views(node, &stored.value, &entries, &configurations);
        let Some(next) = next_change(&stored.value, &views) else { continue };
        if !invariant_step_is_safe(&stored.value, &next) {
            tracing::error!(database = %next.name, from = ?stored.value, to = ?next, "unsafe step of membership refused");
            continue;
        }
        let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
        let key = system::configuration_key(&next.name);
        match system::write(&handle, key, &next, Some(stored.stamp), deadline_ms).await {
            Ok(_) => {
                tracing::info!(database = %next.name, epoch = next.epoch, voters = ?next.voters, learners = ?next.learners, joint = next.joint_with.is_some(), "membership changes");
            }
            Err(error) => {
                tracing::debug!(%error, database = %next.name, "membership step not written; looked at again");
            }
        }
        node.wake.notify_one();
    }
    super::tombstones::run(node, &configurations).await;
    forget_removed(node, &entries, &configurations).await;
}

/// The reachable, ONLINE voter of the system database with the lowest id.
fn is_caretaker(node: &Node, system: &Configuration) -> bool {
    let state = node.state();
    let online =
        |voter: &NodeId| *voter == node.id || status_of(node, &state, system, *voter) == Some(DatabaseStatus::Online);
    let reachable = |voter: &NodeId| *voter == node.id || state.detector.reaches(*voter);
    system.all_voters().into_iter().find(|voter| reachable(voter) && online(voter)) == Some(node.id)
}

fn status_of(node: &Node, state: &State, configuration: &Configuration, of: NodeId) -> Option<DatabaseStatus> {
    if of == node.id {
        return state.databases.get(&configuration.name).map(|database| database.status().0);
    }
    let (report, _) = state.reports.get(&of)?;
    report.databases.iter().find(|database| database.uuid == configuration.uuid).map(|database| database.status)
}

fn views(
    node: &Node,
    configuration: &Configuration,
    entries: &[Stored<NodeEntry>],
    all: &[Stored<Configuration>],
) -> BTreeMap<NodeId, MemberView> {
    let now_ms = node.now_ms();
    let own = node.report();
    let mut state = node.state();
    note_learners(&mut state, configuration, now_ms);
    let state = state;
    let elsewhere =
        |id: NodeId| all.iter().any(|c| !c.value.name.is_system() && !c.value.dropped && c.value.is_member(id));
    let mut views = BTreeMap::new();
    for entry in entries.iter().map(|stored| &stored.value) {
        let id = entry.id;
        // A leaving node stays in the system database until every other database has let it go.
        let held = configuration.name.is_system() && elsewhere(id);
        let aligned = if id == node.id {
            own.epochs.get(&configuration.uuid)
        } else {
            state.reports.get(&id).and_then(|(report, _)| report.epochs.get(&configuration.uuid))
        };
        views.insert(
            id,
            MemberView {
                stays: !entry.removed && (!entry.leaving || held),
                reachable: !entry.leaving && (id == node.id || state.detector.reaches(id)),
                unreachable_by_majority_ms: unreachable_by_majority(node, &state, configuration, id, now_ms),
                status: status_of(node, &state, configuration, id),
                aligned_epoch: aligned.map_or(0, |(_, aligned)| *aligned),
                learner_ms: state
                    .learners_since
                    .get(&(configuration.uuid, id))
                    .map_or(0, |since| now_ms.saturating_sub(*since)),
            },
        );
    }
    views
}

/// Remembers since when each learner has been one; whoever is none any more is forgotten.
fn note_learners(state: &mut State, configuration: &Configuration, now_ms: u64) {
    let uuid = configuration.uuid;
    state.learners_since.retain(|(database, node), _| *database != uuid || configuration.learners.contains(node));
    for learner in &configuration.learners {
        state.learners_since.entry((uuid, *learner)).or_insert(now_ms);
    }
}

/// For how long a majority of the voters has not reached `id`, each by its own clock: the least of that majority.
fn unreachable_by_majority(node: &Node, state: &State, configuration: &Configuration, id: NodeId, now_ms: u64) -> u64 {
    let mut times: Vec<u64> = Vec::new();
    for voter in configuration.all_voters() {
        if voter == id {
            continue;
        }
        if voter == node.id {
            times.push(state.detector.unreachable_ms(id, 0, now_ms));
        } else if let Some((report, at_ms)) = state.reports.get(&voter)
            && now_ms.saturating_sub(*at_ms) < REPORT_AGE_MAX_MS
        {
            times.push(report.unreachable_ms.get(&id).copied().unwrap_or(0));
        }
    }
    let majority = configuration.all_voters().len() / 2 + 1;
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.get(majority - 1).copied().unwrap_or(0)
}

/// A leaving node that no configuration names any more is removed for good.
async fn forget_removed(node: &Arc<Node>, entries: &[Stored<NodeEntry>], configurations: &[Stored<Configuration>]) {
    let Ok(handle) = node.system() else { return };
    for stored in entries.iter().filter(|stored| stored.value.leaving && !stored.value.removed) {
        let named = |c: &Stored<Configuration>| !c.value.dropped && c.value.is_member(stored.value.id);
        if configurations.iter().any(named) {
            continue;
        }
        let entry = NodeEntry { removed: true, ..stored.value.clone() };
        let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
        if system::write(&handle, system::node_key(entry.id), &entry, Some(stored.stamp), deadline_ms).await.is_ok() {
            tracing::info!(node = %entry.id, name = %entry.name, "node removed from the cluster");
        }
    }
}

/// The newest configuration that this node knows of a database.
pub(super) fn newest(state: &State, name: &DatabaseName) -> Option<Configuration> {
    let database = state.databases.get(name)?;
    let open = match &database.place {
        Place::Open(handle) => Some(handle.view().configuration.clone()),
        _ => None,
    };
    let newer =
        open.filter(|open| open.uuid == database.configuration.uuid && open.epoch > database.configuration.epoch);
    Some(newer.unwrap_or_else(|| database.configuration.clone()))
}
