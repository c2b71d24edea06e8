//! Forced recovery of the nodes that are left. The decisions are `protocol::forced_recovery`; here they get their facts
//! and are carried out.
//!
//! One step makes the recovery: the system database's replica adopts the forced configuration, which is on disk before
//! anything is said under it. Whatever comes after follows from that configuration, and any caretaker does it, after a
//! crash as well: the other databases' configurations, and the lost nodes' entries.

use super::caretaker;
use super::database_loop::ReplicaHandle;
use super::error::ServiceError;
use super::node::{Node, State};
use super::replica::Event;
use super::service::user_databases;
use super::system::{self, Stored};
use super::{databases, node_loop};
use bytes::Bytes;
use coequal_protocol::Message;
use coequal_protocol::forced_recovery::{
    Ask, Contact, Outcome, Refusal, Situation, Verdict, decide, is_first, lost_nodes, outcome, recoveries,
};
use coequal_types::rest::{ForcedRecovery, RecoverCluster, RecoveredDatabase};
use coequal_types::{Configuration, DatabaseName, DatabaseStatus, NodeEntry, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WRITE_DEADLINE_MS: u64 = 3_000;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOSS: &str = "writes whose only acknowledged copies were on the lost nodes may be missing, a retry of such a write \
                    is applied as a new one, and clients that have read one will not find it again; copies on the lost \
                    nodes' disks are set aside when these come back, and never mixed in";

/// Carries a request out, and waits until it is done or the deadline. Repeating it is harmless.
pub(super) async fn run(
    node: &Arc<Node>,
    request: &RecoverCluster,
    deadline: Instant,
) -> Result<ForcedRecovery, ServiceError> {
    let handle = node.system()?;
    let ask = Ask {
        cluster: request.cluster_id,
        lost: request.lost_nodes.iter().copied().collect(),
        accept_data_loss: request.accept_data_loss,
    };
    let epoch = match judge(node, &handle, &ask).map_err(|refusal| answer(&refusal))? {
        Verdict::Done => 0,
        Verdict::Force(next) => {
            tracing::warn!(lost = ?ask.lost, survivors = ?next.voters, epoch = next.epoch, "FORCED RECOVERY asked for by a person: {LOSS}");
            let epoch = next.epoch;
            let event = Event::Configuration(Box::new(next.clone()));
            handle.events.send(event).await.map_err(|_| ServiceError::ShuttingDown)?;
            databases::note_configuration(node, next);
            epoch
        }
        Verdict::Agree(next) => {
            tracing::warn!(lost = ?ask.lost, epoch = next.epoch, "FORCED RECOVERY of databases asked for by a person: {LOSS}");
            agree(node, &handle, &next, deadline).await?;
            next.epoch
        }
    };
    while !(handle.view().epoch >= epoch && is_settled(node, &handle)) && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    describe(node).ok_or_else(|| ServiceError::Conflict("the recovery was not begun in time; ask again".to_owned()))
}

fn answer(refusal: &Refusal) -> ServiceError {
    let text = format!("{refusal}");
    match refusal {
        Refusal::NobodyNamed | Refusal::NotAccepted | Refusal::NamesItself(_) | Refusal::Unknown(_) => {
            ServiceError::NotAcceptable(text)
        }
        Refusal::OtherCluster { .. }
        | Refusal::StillThere(_)
        | Refusal::TooEarly { .. }
        | Refusal::NotNamed(_)
        | Refusal::MajorityIsThere
        | Refusal::Behind { .. }
        | Refusal::NotHeard(_)
        | Refusal::NoVoter
        | Refusal::ChangeUnderWay => ServiceError::Conflict(text),
    }
}

fn judge(node: &Node, handle: &ReplicaHandle, ask: &Ask) -> Result<Verdict, Refusal> {
    let system = handle.view().configuration.clone();
    let now_ms = node.now_ms();
    let state = node.state();
    let contact = |id: NodeId| Contact {
        reachable: state.detector.reaches(id),
        silent_ms: state.detector.unreachable_ms(id, 0, now_ms),
        system_epoch: state
            .reports
            .get(&id)
            .and_then(|(report, _)| report.epochs.get(&system.uuid))
            .map_or(0, |(epoch, _)| *epoch),
        word_age_ms: state.reports.get(&id).map(|(_, at_ms)| now_ms.saturating_sub(*at_ms)),
    };
    let others: BTreeMap<NodeId, Contact> = state
        .nodes
        .values()
        .filter(|entry| entry.id != node.id && !entry.removed)
        .map(|entry| (entry.id, contact(entry.id)))
        .collect();
    let databases: Vec<Configuration> = newest_of_all(&state);
    let cluster = state.cluster.unwrap_or_default();
    drop(state);
    decide(ask, &Situation { me: node.id, cluster, others, system: &system, databases: &databases })
}

fn newest_of_all(state: &State) -> Vec<Configuration> {
    let names: Vec<DatabaseName> = user_databases(&state.databases).map(|d| d.configuration.name.clone()).collect();
    names.iter().filter_map(|name| caretaker::newest(state, name)).collect()
}

/// The system database itself agrees on who is lost.
async fn agree(
    node: &Node,
    handle: &ReplicaHandle,
    next: &Configuration,
    deadline: Instant,
) -> Result<(), ServiceError> {
    let (key, deadline_ms) = (system::configuration_key(&next.name), node.clock.deadline_ms(deadline));
    let known: Option<Stored<Configuration>> = system::read(handle, key.clone(), deadline_ms).await?;
    let known = known.filter(|known| known.value.epoch + 1 == next.epoch).ok_or_else(|| {
        ServiceError::Conflict("the system database's configuration has just been changed; ask again".to_owned())
    })?;
    system::write(handle, key, next, Some(known.stamp), deadline_ms).await?;
    databases::note_configuration(node, next.clone());
    Ok(())
}

/// Does what still follows from a forced recovery; true when nothing does. Called by the caretaker.
pub(super) async fn drive(
    node: &Node,
    handle: &ReplicaHandle,
    entries: &[Stored<NodeEntry>],
    configurations: &[Stored<Configuration>],
) -> bool {
    let system = handle.view().configuration.clone();
    let lost = lost_nodes(&system);
    if lost.is_empty() {
        return true;
    }
    let mut settled = true;
    let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
    for stored in configurations {
        let Some(next) = due(node, &system, &lost, &stored.value) else { continue };
        settled = false;
        tracing::warn!(database = %next.name, epoch = next.epoch, voters = ?next.voters, "configuration forced");
        let key = system::configuration_key(&next.name);
        if let Err(error) = system::write(handle, key, &next, Some(stored.stamp), deadline_ms).await {
            tracing::debug!(%error, database = %next.name, "forced configuration not written; looked at again");
        }
    }
    for stored in entries.iter().filter(|stored| is_to_leave(&stored.value, &lost)) {
        settled = false;
        let entry = NodeEntry { leaving: true, ..stored.value.clone() };
        if let Err(error) =
            system::write(handle, system::node_key(entry.id), &entry, Some(stored.stamp), deadline_ms).await
        {
            tracing::debug!(%error, node = %entry.id, "entry of a lost node not written; looked at again");
        }
    }
    settled
}

fn is_to_leave(entry: &NodeEntry, lost: &BTreeSet<NodeId>) -> bool {
    lost.contains(&entry.id) && !entry.leaving && !entry.removed
}

/// The configuration that has to be written in place of `stored`, if any.
fn due(node: &Node, system: &Configuration, lost: &BTreeSet<NodeId>, stored: &Configuration) -> Option<Configuration> {
    if stored.name.is_system() {
        return (stored.epoch < system.epoch).then(|| system.clone());
    }
    // A copy may have adopted an epoch of which the system database's own copy here does not know.
    let known = caretaker::newest(&node.state(), &stored.name)
        .filter(|known| known.uuid == stored.uuid && known.epoch > stored.epoch)
        .unwrap_or_else(|| stored.clone());
    match outcome(&known, lost) {
        Outcome::Forced(next) => Some(*next),
        Outcome::Kept | Outcome::NoCopy => None,
    }
}

/// Whether everything that follows is written, and this node goes by it.
fn is_settled(node: &Node, handle: &ReplicaHandle) -> bool {
    let goes_by = |stored: &Configuration| {
        let known = caretaker::newest(&node.state(), &stored.name);
        known.is_none_or(|known| known.uuid != stored.uuid || known.epoch >= stored.epoch)
    };
    let system = handle.view().configuration.clone();
    let lost = lost_nodes(&system);
    let entries: Vec<Stored<NodeEntry>> = system::list(handle, system::NODES);
    let configurations: Vec<Stored<Configuration>> = system::list(handle, system::DATABASES);
    handle.view().status == DatabaseStatus::Online
        && !is_first(system.epoch)
        && !entries.iter().any(|stored| is_to_leave(&stored.value, &lost))
        && configurations
            .iter()
            .all(|stored| due(node, &system, &lost, &stored.value).is_none() && goes_by(&stored.value))
}

/// What forced recoveries have done to this cluster, if there were any.
pub(super) fn describe(node: &Node) -> Option<ForcedRecovery> {
    let handle = node.system().ok()?;
    let system = handle.view().configuration.clone();
    let lost = lost_nodes(&system);
    if lost.is_empty() {
        return None;
    }
    let complete = is_settled(node, &handle);
    let known = newest_of_all(&node.state());
    let database = |configuration: &Configuration| RecoveredDatabase {
        name: configuration.name.clone(),
        uuid: configuration.uuid,
        epoch: configuration.epoch,
        forced: u32::try_from(recoveries(configuration.epoch)).unwrap_or(u32::MAX),
        no_copy: outcome(configuration, &lost) == Outcome::NoCopy,
        voters: configuration.voters.clone(),
    };
    Some(ForcedRecovery {
        complete,
        forced: u32::try_from(recoveries(system.epoch)).unwrap_or(u32::MAX),
        lost_nodes: lost.iter().copied().collect(),
        databases: known.iter().map(database).collect(),
        may_be_lost: LOSS.to_owned(),
    })
}

/// Keeps the addresses of lost nodes: who comes back with an old disk has to be told, whomever it asks.
pub(super) fn note_lost(node: &Node, entries: &[Stored<NodeEntry>]) {
    let Ok(handle) = node.system() else { return };
    let lost = lost_nodes(&handle.view().configuration);
    let addresses: BTreeMap<NodeId, String> = entries
        .iter()
        .filter(|stored| lost.contains(&stored.value.id))
        .map(|stored| (stored.value.id, stored.value.peer_address.clone()))
        .collect();
    let mut state = node.state();
    if state.lost != addresses {
        state.lost = addresses;
        drop(state);
        node_loop::dial(node);
    }
}

/// A lost node is there again: it hears at once that it is out of everything.
pub(super) fn tell_if_lost(node: &Node, to: NodeId) {
    let configurations: Vec<Configuration> = {
        let state = node.state();
        if !state.lost.contains_key(&to) {
            return;
        }
        state.databases.keys().filter_map(|name| caretaker::newest(&state, name)).collect()
    };
    tracing::warn!(peer = %to, "a node that was given up in a forced recovery is there again; it is told that it is out");
    for configuration in configurations.iter().filter(|configuration| !configuration.is_member(to)) {
        if let Ok(json) = serde_json::to_vec(configuration) {
            let message = Message::ConfigurationNotice { configuration: Bytes::from(json) };
            let _ = node.network.send(to, configuration.uuid, message);
        }
    }
}

/// Whether this node is one of the lost ones: it says so, and comes back as a new node if that is wished.
pub(super) fn look_at_self(node: &Node) {
    let given_up = |state: &State| {
        if state.given_up.is_some() {
            return None;
        }
        let system = caretaker::newest(state, &DatabaseName::system())?;
        (lost_nodes(&system).contains(&node.id) && !system.is_member(node.id)).then_some(system.epoch)
    };
    let mut state = node.state();
    let Some(epoch) = given_up(&state) else { return };
    let text = format!(
        "this node was given up as lost in a forced recovery of its cluster (epoch {epoch}) and is out of it for good; its \
         copies are set aside under aside/, and nothing of them is mixed in: start it with an empty data directory to \
         come back as a new node"
    );
    tracing::error!(reason = %text, "out of the cluster");
    state.given_up = Some(text);
    state.status = coequal_types::NodeStatus::Starting;
    drop(state);
    if node.settings.renew_when_removed {
        match node.directory.note_renewal() {
            Ok(()) => node.renewal.notify_one(),
            Err(error) => tracing::error!(%error, "the renewal could not be written down"),
        }
    }
}
