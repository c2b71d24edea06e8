//! The node's own loop: hears the network, keeps the list of nodes, tells and hears reports, and gives each
//! database what concerns it.

use super::node::Node;
use super::replica::Event;
use super::report::NodeReport;
use super::{caretaker, comparisons, databases, join, recovery, system};
use crate::network::NetworkEvent;
use bytes::Bytes;
use coequal_protocol::Message;
use coequal_protocol::message::Envelope;
use coequal_types::{
    Configuration, DatabaseId, DatabaseName, DatabaseStatus, Incarnation, NodeEntry, NodeId, NodeStatus,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How often databases are looked at while one is on its way to somewhere.
const KEEP_EVERY_MS: u64 = 50;
/// How often the caretaker looks then.
const CARETAKE_EVERY_MS: u64 = 100;
/// News of this node's databases is told to the peers after this long, with what comes meanwhile.
const NEWS_TOLD_AFTER: Duration = Duration::from_millis(10);

/// Runs until the node stops.
pub(super) async fn run(node: Arc<Node>, mut network: mpsc::Receiver<NetworkEvent>, mut stop: watch::Receiver<bool>) {
    let caretaker = tokio::spawn(caretake(Arc::clone(&node), stop.clone()));
    let joiner = tokio::spawn(join::run(Arc::clone(&node), stop.clone()));
    let keeper = tokio::spawn(keep_databases(Arc::clone(&node), stop.clone()));
    let mut news = node.news.subscribe();
    let mut due = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        tokio::select! {
            event = network.recv() => match event {
                Some(event) => on_network(&node, event),
                None => break,
            },
            () = &mut due => {
                tick(&node);
                ping(&node);
                due.as_mut().reset(tokio::time::Instant::now() + until_next_tick(&node));
            }
            _ = news.changed() => {
                let soon = tokio::time::Instant::now() + NEWS_TOLD_AFTER;
                if due.deadline() > soon {
                    due.as_mut().reset(soon);
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    node.state().status = NodeStatus::ShuttingDown;
    ping(&node);
    let _ = tokio::join!(caretaker, joiner, keeper);
}

/// Time until the next beat, or until a peer has been silent for too long.
fn until_next_tick(node: &Node) -> Duration {
    let silent = node.state().detector.due_ms().map(|due_ms| due_ms.saturating_sub(node.now_ms()));
    node.until_next_beat().min(silent.map_or(Duration::MAX, |ms| Duration::from_millis(ms.max(1))))
}

async fn caretake(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let mut news = node.news.subscribe();
    while !*stop.borrow() {
        caretaker::run(&node).await;
        let pause = tokio::time::sleep(node.pause(CARETAKE_EVERY_MS));
        tokio::select! {
            () = pause => {}
            _ = news.changed() => {}
            () = node.reported.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break
        }
    }
}

async fn keep_databases(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let running_since_ms = node.clock.now().unix_ms;
    let mut news = node.news.subscribe();
    while !*stop.borrow() {
        refresh(&node);
        databases::keep(&node).await;
        recovery::look_at_self(&node);
        comparisons::begin_due(&node, running_since_ms);
        let pause = tokio::time::sleep(node.pause(KEEP_EVERY_MS));
        tokio::select! {
            () = pause => {}
            _ = news.changed() => {}
            () = node.wake.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break
        }
    }
}

fn on_network(node: &Arc<Node>, event: NetworkEvent) {
    match event {
        NetworkEvent::Connected { node: peer, incarnation, .. } => {
            node.state().connected.insert(peer);
            heard(node, peer, incarnation);
            recovery::tell_if_lost(node, peer);
        }
        NetworkEvent::Disconnected { node: peer, reason } => {
            tracing::debug!(%peer, %reason, "disconnected");
            let now_ms = node.now_ms();
            let mut state = node.state();
            state.connected.remove(&peer);
            state.detector.disconnected(peer, now_ms);
            drop(state);
            tell_all(node, peer, false);
        }
        NetworkEvent::Heard { from, incarnation } => heard(node, from, incarnation),
        NetworkEvent::Received { from, incarnation, envelope } => {
            heard(node, from, incarnation);
            dispatch(node, from, incarnation, envelope);
        }
        NetworkEvent::Refused { address, reason } => tracing::warn!(%address, %reason, "a peer refused the connection"),
        NetworkEvent::Silenced { reason } => {
            node.state().silenced = Some(format!(
                "{reason}; this process takes part in nothing any more: start it again when it is the only one"
            ));
        }
        NetworkEvent::IdentityConflict { reason } => {
            let now_ms = node.now_ms();
            let mut state = node.state();
            state.identity_conflicts += 1;
            state.identity_conflict = Some((reason, now_ms));
        }
        NetworkEvent::Asked { message, answer, .. } => {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let _ = answer.send(join::answer(&node, message).await);
            });
        }
    }
}

/// A word from a peer; reachable are those that are heard and can be talked to.
fn heard(node: &Node, peer: NodeId, incarnation: Incarnation) {
    let now_ms = node.now_ms();
    let mut state = node.state();
    if !state.connected.contains(&peer) {
        return;
    }
    let came_back = state.detector.heard(peer, incarnation, now_ms);
    drop(state);
    if came_back {
        tell_all(node, peer, true);
    }
}

fn tell_all(node: &Node, peer: NodeId, reachable: bool) {
    let name = node.state().nodes.get(&peer).map(|entry| entry.name.to_string()).unwrap_or_default();
    tracing::info!(%peer, %name, reachable, "peer");
    for handle in open_databases(node) {
        let _ = handle.events.try_send(Event::Reachable { node: peer, reachable });
    }
}

fn open_databases(node: &Node) -> Vec<super::database_loop::ReplicaHandle> {
    let routes = node.routes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    routes.values().cloned().collect()
}

fn dispatch(node: &Arc<Node>, from: NodeId, incarnation: Incarnation, envelope: Envelope) {
    if envelope.database == DatabaseId::nil() {
        for message in envelope.messages {
            on_node_message(node, from, message);
        }
        return;
    }
    let handle = node.route(envelope.database);
    for message in envelope.messages {
        match message {
            Message::RangeRequest { .. } => databases::serve_range(node, from, envelope.database, message),
            Message::RangeAnswer { .. } => databases::take_range(node, from, envelope.database, message),
            message => {
                note_configuration_of(node, &message);
                if let Some(handle) = &handle {
                    // A full queue loses the message, as a network may; the protocol sends again what still matters.
                    drop(handle.events.try_send(Event::Peer { from, incarnation, message }));
                }
            }
        }
    }
}

/// A database that is not open here, or FAULTY, still learns its newest configuration: it may have been let go.
fn note_configuration_of(node: &Node, message: &Message) {
    if let Message::ConfigurationNotice { configuration } | Message::StaleEpoch { configuration, .. } = message
        && let Ok(configuration) = serde_json::from_slice::<Configuration>(configuration)
    {
        databases::note_configuration(node, configuration);
    }
}

fn on_node_message(node: &Arc<Node>, from: NodeId, message: Message) {
    match message {
        Message::Ping { report, .. } => {
            if let Ok(report) = serde_json::from_slice::<NodeReport>(&report) {
                let now_ms = node.now_ms();
                tell_newer_configurations(node, from, &report);
                let mut state = node.state();
                let before = state.reports.get(&from).map(|(report, _)| report);
                if before.is_none_or(|before| before.is_news(&report)) {
                    node.reported.notify_one();
                }
                state.reports.insert(from, (report, now_ms));
            }
        }
        message => note_configuration_of(node, &message),
    }
}

/// A peer that holds (or is to hold) a database under an older epoch than ours is told the newer one.
fn tell_newer_configurations(node: &Node, to: NodeId, report: &NodeReport) {
    let newer: Vec<Configuration> = {
        let state = node.state();
        let known: Vec<&DatabaseName> = state.databases.keys().collect();
        let all = known.into_iter().filter_map(|name| caretaker::newest(&state, name));
        all.filter(|c| {
            let theirs = report.epochs.get(&c.uuid).map(|(epoch, _)| *epoch);
            let behind = theirs.is_some_and(|epoch| epoch < c.epoch && epoch > 0);
            let unknown = theirs.is_none_or(|epoch| epoch == 0) && c.is_member(to) && !c.dropped;
            behind || unknown
        })
        .collect()
    };
    for configuration in newer {
        if let Ok(json) = serde_json::to_vec(&configuration) {
            let message = Message::ConfigurationNotice { configuration: Bytes::from(json) };
            let _ = node.network.send(to, configuration.uuid, message);
        }
    }
}

fn ping(node: &Node) {
    let Ok(report) = serde_json::to_vec(&node.report()) else { return };
    let report = Bytes::from(report);
    let peers: Vec<NodeId> = node.state().nodes.keys().copied().filter(|peer| *peer != node.id).collect();
    let time = node.clock.now().unix_ms;
    for peer in peers {
        let _ = node.network.send(peer, DatabaseId::nil(), Message::Ping { time, report: report.clone() });
    }
}

fn tick(node: &Node) {
    let findings = node.state().detector.tick(node.now_ms());
    if let Some(ms) = findings.stood_still_ms {
        tracing::warn!(ms, "this process stood still; its databases align again");
        for handle in open_databases(node) {
            let _ = handle.events.try_send(Event::StoodStill);
        }
    }
    for peer in findings.lost {
        tell_all(node, peer, false);
    }
    repeat_reachability(node);
}

/// Says again whom this node reaches where a replica shows another picture: one that was being opened while a peer came or
/// went must not keep it. What is not news changes nothing.
fn repeat_reachability(node: &Node) {
    let peers: Vec<(NodeId, bool)> = {
        let state = node.state();
        let others = state.nodes.keys().filter(|peer| **peer != node.id);
        others.map(|peer| (*peer, state.detector.reaches(*peer))).collect()
    };
    for handle in open_databases(node) {
        let view = handle.view();
        for (peer, reachable) in peers.iter().filter(|(peer, reachable)| view.reached.contains(peer) != *reachable) {
            let _ = handle.events.try_send(Event::Reachable { node: *peer, reachable: *reachable });
        }
    }
}

/// Takes over what the system database says: nodes, configurations.
fn refresh(node: &Arc<Node>) {
    let Ok(handle) = node.system() else { return };
    let entries: Vec<system::Stored<NodeEntry>> = system::list(&handle, system::NODES);
    let configurations: Vec<system::Stored<Configuration>> = system::list(&handle, system::DATABASES);
    recovery::note_lost(node, &entries);
    if !entries.is_empty() {
        set_nodes(node, entries.into_iter().map(|stored| stored.value).collect());
    }
    for stored in configurations {
        databases::note_configuration(node, stored.value);
    }
    let mut state = node.state();
    if state.status == NodeStatus::Starting && handle.view().status == DatabaseStatus::Online {
        state.status = NodeStatus::Online;
    }
}

/// Takes a list of nodes: dials the new ones, lets go of the removed ones.
pub(super) fn set_nodes(node: &Node, entries: Vec<NodeEntry>) {
    let mut state = node.state();
    let alive: std::collections::BTreeMap<NodeId, NodeEntry> = entries
        .into_iter()
        .filter(|entry| !entry.removed || entry.id == node.id)
        .map(|entry| (entry.id, entry))
        .collect();
    if state.nodes == alive {
        return;
    }
    let ids: Vec<NodeId> = alive.keys().copied().collect();
    let before = std::mem::take(&mut state.nodes);
    state.detector.retain(&ids);
    state.reports.retain(|id, _| ids.contains(id));
    // An address that was found by asking holds until the node itself has written down where it is.
    state.found_at.retain(|id, _| alive.get(id).is_some_and(|entry| is_where_it_was(&before, entry)));
    state.nodes = alive;
    drop(state);
    dial(node);
}

fn is_where_it_was(before: &std::collections::BTreeMap<NodeId, NodeEntry>, entry: &NodeEntry) -> bool {
    before.get(&entry.id).is_none_or(|known| known.peer_address == entry.peer_address)
}

/// A peer answered at another address than the one that is written down.
pub(super) fn note_address(node: &Node, peer: NodeId, address: &str) {
    let mut state = node.state();
    let known = state.nodes.get(&peer).map(|entry| entry.peer_address.clone());
    if peer == node.id || known.is_none_or(|known| known == address) {
        return;
    }
    if state.found_at.insert(peer, address.to_owned()).as_deref() != Some(address) {
        tracing::info!(%peer, %address, "a peer was found at another address");
        drop(state);
        dial(node);
    }
}

pub(super) fn dial(node: &Node) {
    let state = node.state();
    let others: std::collections::BTreeMap<NodeId, String> = state
        .nodes
        .values()
        .filter(|entry| entry.id != node.id && !entry.removed)
        .map(|entry| (entry.id, entry.peer_address.clone()))
        .chain(state.lost.clone())
        .chain(state.found_at.clone())
        .collect();
    // Under the lock: of two lists at once, the older one must not be the last that the network hears of.
    node.network.set_peers(others.into_iter().collect());
    drop(state);
}
