//! How a node becomes part of a cluster: it initialises one, or asks to be taken in until somebody does.

use super::node::Node;
use super::{databases, node_loop, system};
use bytes::Bytes;
use coequal_protocol::Message;
use coequal_types::{ClusterId, Configuration, DatabaseName, DatabaseStatus, NodeEntry, NodeStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const ASK_TIMEOUT: Duration = Duration::from_secs(3);
const ASK_EVERY_MS: u64 = 250;
const WRITE_DEADLINE_MS: u64 = 2_500;

/// Asks to be taken in until this node knows its cluster's nodes, and keeps its own addresses up to date.
pub(super) async fn run(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if needs_to_join(&node) {
            ask_all(&node).await;
        } else if !is_connected(&node) {
            find_moved_peers(&node).await;
        } else {
            node.state().took_part = true;
            update_own_entry(&node).await;
        }
        let pause = tokio::time::sleep(node.pause(ASK_EVERY_MS));
        tokio::select! { () = pause => {}, _ = stop.wait_for(|stop| *stop) => break }
    }
}

/// Until the system database is open here, the list of nodes is hearsay: it is asked for again, so that an answer
/// that came too early, or from a node that has left since, cannot leave this one alone for good.
fn needs_to_join(node: &Node) -> bool {
    node.state().status != NodeStatus::ShuttingDown && node.system().is_err()
}

fn is_connected(node: &Node) -> bool {
    node.system().is_ok_and(|system| system.view().status == DatabaseStatus::Online)
}

/// Peers that came back under other addresses cannot say so while there is no majority: they are found at the
/// addresses that this node was given, by who answers there.
async fn find_moved_peers(node: &Arc<Node>) {
    for address in node.settings.join.iter().filter(|address| **address != node.settings.peer_address) {
        let Ok(entry) = serde_json::to_vec(&own_entry(node)) else { return };
        let cluster = node.state().cluster;
        let request = Message::JoinRequest { entry: Bytes::from(entry), cluster };
        if let Ok((hello, answer)) = node.network.ask_once(address, request, ASK_TIMEOUT).await {
            node_loop::note_address(node, hello.node, address);
            if let Message::JoinAnswer { cluster: Some(of), refused, .. } = &answer
                && !refused.is_empty()
            {
                renew(node, *of);
            }
        }
    }
}

pub(super) fn own_entry(node: &Node) -> NodeEntry {
    NodeEntry {
        id: node.id,
        name: node.settings.name.clone(),
        peer_address: node.settings.peer_address.clone(),
        api_address: node.settings.api_address.clone(),
        leaving: false,
        removed: false,
    }
}

async fn ask_all(node: &Arc<Node>) {
    let invited_by = node.state().invited_by.clone();
    for address in node.settings.join.iter().chain(&invited_by) {
        let Ok(entry) = serde_json::to_vec(&own_entry(node)) else { return };
        let cluster = node.state().cluster;
        let request = Message::JoinRequest { entry: Bytes::from(entry), cluster };
        match node.network.ask_once(address, request, ASK_TIMEOUT).await {
            Ok((_, Message::JoinAnswer { cluster, configuration, nodes, refused })) => {
                if !refused.is_empty() {
                    let before = node.state().refused.replace(refused.clone());
                    // The same refusal again and again is news only once.
                    if before.as_ref() != Some(&refused) {
                        tracing::warn!(%address, reason = %refused, "refused by the cluster");
                    }
                    cluster.inspect(|of| renew(node, *of));
                } else if let Some(cluster) = cluster {
                    return enter(node, cluster, &configuration, &nodes);
                }
            }
            Ok(_) => tracing::warn!(%address, "answered a join request with something else"),
            Err(error) => tell_unasked(node, address, error.to_string()),
        }
    }
}

/// The same failure again and again is news only once.
fn tell_unasked(node: &Node, address: &str, reason: String) {
    let before = node.state().unasked.insert(address.to_owned(), reason.clone());
    if before.as_ref() != Some(&reason) {
        tracing::info!(%address, %reason, "cannot ask to be taken in here; trying on");
    }
}

/// This node was removed while it was away: the next start is that of a new one, if that is wished. One that takes
/// part until now is on its way out, and is stopped by whoever removed it.
fn renew(node: &Node, cluster: ClusterId) {
    let applies = {
        let state = node.state();
        node.settings.renew_when_removed && state.cluster == Some(cluster) && !state.took_part
    };
    if !applies {
        return;
    }
    match node.directory.note_renewal() {
        Ok(()) => {
            tracing::warn!("removed from the cluster while away; the data goes aside, and a new node begins");
            node.renewal.notify_one();
        }
        Err(error) => tracing::error!(%error, "the renewal could not be written down"),
    }
}

fn enter(node: &Node, cluster: ClusterId, configuration: &Bytes, nodes: &Bytes) {
    let (Ok(configuration), Ok(nodes)) =
        (serde_json::from_slice::<Configuration>(configuration), serde_json::from_slice::<Vec<NodeEntry>>(nodes))
    else {
        return;
    };
    if let Some(own) = node.settings.cluster.filter(|own| *own != cluster) {
        tracing::error!(%cluster, %own, "taken in by another cluster than the one that was given; left alone");
        return;
    }
    if node.state().cluster.is_none() {
        if let Err(error) = node.directory.set_cluster(cluster) {
            tracing::error!(%error, "the cluster could not be written down");
            return;
        }
        node.state().cluster = Some(cluster);
        node.network.set_cluster(cluster);
        tracing::info!(%cluster, "joined");
    }
    // An answer may be older than the one before: it takes nobody away.
    let mut known = node.state().nodes.clone();
    known.extend(nodes.into_iter().map(|entry| (entry.id, entry)));
    node.state().refused = None;
    node_loop::set_nodes(node, known.into_values().collect());
    databases::note_configuration(node, configuration);
}

/// Answers another node that asks to be taken in.
pub(super) async fn answer(node: &Arc<Node>, message: Message) -> Message {
    let refuse = |refused: String| Message::JoinAnswer {
        cluster: None,
        configuration: Bytes::new(),
        nodes: Bytes::new(),
        refused,
    };
    let Message::JoinRequest { entry, cluster } = message else {
        return refuse("only join requests are answered here".to_owned());
    };
    let Ok(entry) = serde_json::from_slice::<NodeEntry>(&entry) else {
        return refuse("the join request's entry is not readable".to_owned());
    };
    let own = node.state().cluster;
    let Some(own) = own else {
        if cluster.is_some() {
            // A member invites this node: it is asked to take us in from now on.
            node.state().invited_by = Some(entry.peer_address);
        }
        return refuse(String::new());
    };
    if entry.id == node.id {
        return refuse(String::new());
    }
    if cluster.is_some_and(|cluster| cluster != own) {
        return refuse(format!(
            "node {} belongs to another cluster than this one ({own}); start it with an empty data directory to join this one",
            entry.name
        ));
    }
    match take_in(node, &entry).await {
        Ok(()) => welcome(node, own).unwrap_or_else(|| refuse(String::new())),
        Err(NotTakenIn::NotNow) => refuse(String::new()),
        Err(NotTakenIn::Leaving(reason)) => refuse(reason),
        // With the cluster's name the refusal is final: this identity never comes back.
        Err(NotTakenIn::Removed(refused)) => {
            Message::JoinAnswer { cluster: Some(own), configuration: Bytes::new(), nodes: Bytes::new(), refused }
        }
    }
}

/// What a newcomer needs: all nodes as the system database has them, with its own entry that was just written. The
/// list that this node works with follows that a moment later, and would leave the newcomer without anybody to talk to.
fn welcome(node: &Node, own: ClusterId) -> Option<Message> {
    let handle = node.system().ok()?;
    let nodes: Vec<NodeEntry> = system::list(&handle, system::NODES).into_iter().map(|stored| stored.value).collect();
    let configuration = super::caretaker::newest(&node.state(), &DatabaseName::system())?;
    Some(Message::JoinAnswer {
        cluster: Some(own),
        configuration: serde_json::to_vec(&configuration).ok()?.into(),
        nodes: serde_json::to_vec(&nodes).ok()?.into(),
        refused: String::new(),
    })
}

/// Why a node is not taken in.
pub(super) enum NotTakenIn {
    /// Not now; ask again.
    NotNow,
    /// It is on its way out.
    Leaving(String),
    /// It was removed.
    Removed(String),
}

/// Writes a node's entry.
pub(super) async fn take_in(node: &Arc<Node>, entry: &NodeEntry) -> Result<(), NotTakenIn> {
    let handle = node.system().map_err(|_| NotTakenIn::NotNow)?;
    let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
    let known = system::node(&handle, entry.id);
    if let Some(known) = &known {
        if known.value.removed || known.value.leaving {
            let reason = format!(
                "node {} ({}) was removed from this cluster; start it with an empty data directory to come back as a new node",
                entry.name, entry.id
            );
            let is_out = known.value.removed;
            return Err(if is_out { NotTakenIn::Removed(reason) } else { NotTakenIn::Leaving(reason) });
        }
        let same = known.value.peer_address == entry.peer_address && known.value.api_address == entry.api_address;
        if same && known.value.name == entry.name {
            return Ok(());
        }
    }
    let stamp = known.map(|known| known.stamp);
    system::write(&handle, system::node_key(entry.id), entry, stamp, deadline_ms).await.map_err(|error| {
        tracing::debug!(%error, node = %entry.id, "entry not written");
        NotTakenIn::NotNow
    })?;
    tracing::info!(node = %entry.id, name = %entry.name, address = %entry.peer_address, "node taken in");
    node.wake.notify_one();
    Ok(())
}

/// A node that came back under other addresses says so.
async fn update_own_entry(node: &Arc<Node>) {
    let own = own_entry(node);
    let known = node.state().nodes.get(&node.id).cloned();
    if known.is_some_and(|known| {
        (&known.peer_address, &known.api_address, &known.name) != (&own.peer_address, &own.api_address, &own.name)
            && !known.leaving
    }) {
        let _ = take_in(node, &own).await;
    }
}
