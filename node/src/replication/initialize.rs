//! The very beginning of a cluster, and inviting a node into it.

use super::error::ServiceError;
use super::node::Node;
use super::{databases, join, system};
use coequal_protocol::Message;
use coequal_types::{ClusterId, Configuration, DatabaseName, DatabaseSettings, LowBound, NodeEntry, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const WRITE_DEADLINE_MS: u64 = 5_000;

/// Makes a cluster of this one node, or finishes what an interrupted call began. True when it is new. Goes on to its end
/// when whoever asked is gone (a client that closes its connection ends only its own waiting), and only once at a time.
pub(super) async fn run(node: &Arc<Node>) -> Result<bool, ServiceError> {
    let node = Arc::clone(node);
    let work = tokio::spawn(async move {
        let _one_at_a_time = node.initializing.lock().await;
        begin(&node).await
    });
    work.await.unwrap_or(Err(ServiceError::ShuttingDown))
}

async fn begin(node: &Arc<Node>) -> Result<bool, ServiceError> {
    let known = node.state().cluster;
    if known.is_some() && node.directory.database_path(&DatabaseName::system()).exists() {
        finish(node).await?;
        return Ok(false);
    }
    if let Some(cluster) = known {
        return Err(ServiceError::Conflict(format!(
            "this node has joined cluster {cluster} and is not ready yet; wait for it"
        )));
    }
    let configuration = match left_behind(node) {
        Some(configuration) => configuration,
        None => make_system(node).await?,
    };
    let cluster = configuration.uuid;
    if let Some(wanted) = node.settings.cluster.filter(|wanted| *wanted != cluster) {
        return Err(ServiceError::Conflict(format!(
            "this node is to make cluster {wanted}, and its data directory holds the beginning of cluster {cluster}; start it \
             with --cluster {cluster} or with an empty data directory"
        )));
    }
    node.directory.set_cluster(cluster).map_err(|e| ServiceError::Conflict(e.to_string()))?;
    node.state().cluster = Some(cluster);
    node.network.set_cluster(cluster);
    databases::note_configuration(node, configuration);
    tracing::info!(%cluster, "cluster initialised");
    finish(node).await?;
    Ok(true)
}

/// The system database that a process of before made here; it ended before the node's identity named the cluster.
fn left_behind(node: &Node) -> Option<Configuration> {
    let found = node.state().databases.get(&DatabaseName::system()).map(|known| known.configuration.clone());
    found.filter(|configuration| configuration.voters == [node.id])
}

async fn make_system(node: &Arc<Node>) -> Result<Configuration, ServiceError> {
    // The system database's UUID is the cluster's: one identity, one place where it is written first.
    let configuration = Configuration {
        name: DatabaseName::system(),
        uuid: node.settings.cluster.unwrap_or_else(ClusterId::new_v4),
        epoch: 1,
        voters: vec![node.id],
        joint_with: None,
        learners: Vec::new(),
        excluded: Vec::new(),
        joined: BTreeMap::from([(node.id, 1)]),
        dropped_uuids: Vec::new(),
        settings: DatabaseSettings::default(),
        dropped: false,
        low_bound: LowBound::default(),
    };
    databases::create(node, &configuration).await.map_err(|e| ServiceError::Conflict(e.to_string()))?;
    Ok(configuration)
}

/// The first documents of the system database; written again harmlessly.
async fn finish(node: &Arc<Node>) -> Result<(), ServiceError> {
    let handle = loop_until_open(node).await?;
    let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
    let configuration = handle.view().configuration.clone();
    if configuration.voters != [node.id] || configuration.epoch > 1 {
        return Ok(());
    }
    let entry: NodeEntry = join::own_entry(node);
    let writes = [
        system::write(&handle, system::node_key(node.id), &entry, None, deadline_ms).await,
        system::write(&handle, system::configuration_key(&configuration.name), &configuration, None, deadline_ms).await,
    ];
    for write in writes {
        match write {
            Ok(_) | Err(ServiceError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    node.wake.notify_one();
    Ok(())
}

async fn loop_until_open(node: &Arc<Node>) -> Result<super::database_loop::ReplicaHandle, ServiceError> {
    let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
    loop {
        match node.system() {
            Ok(handle) => return Ok(handle),
            Err(error) if node.now_ms() >= deadline_ms => return Err(error),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// Finishes an interrupted initialisation when a node starts.
pub(super) async fn resume(node: &Arc<Node>) {
    if node.state().cluster.is_some() && node.system().is_ok() {
        let _ = finish(node).await;
    }
}

/// Takes a running node, known only by its address, into this cluster: a node that is being removed stays, a new
/// one is told whom to ask. Waits until the node is listed, or the deadline.
pub(super) async fn invite(node: &Arc<Node>, address: &str, deadline: Instant) -> Result<(), ServiceError> {
    node.system()?;
    let cluster = node.state().cluster;
    let entry = serde_json::to_vec(&join::own_entry(node)).unwrap_or_default();
    let timeout = deadline.saturating_duration_since(Instant::now());
    let request = Message::JoinRequest { entry: entry.into(), cluster };
    let (hello, _) = node.network.ask_once(address, request, timeout).await.map_err(|error| {
        ServiceError::NotAcceptable(format!(
            "no node answers at {address}: {error}; give the address at which it listens for other nodes"
        ))
    })?;
    if hello.cluster.is_some_and(|theirs| Some(theirs) != cluster) {
        let text = format!("the node at {address} belongs to another cluster; nothing was changed");
        return Err(ServiceError::Conflict(text));
    }
    stay(node, hello.node, deadline).await?;
    while !node.state().nodes.contains_key(&hello.node) {
        if Instant::now() >= deadline {
            let text =
                format!("node {} at {address} was invited and has not joined yet; look at GET /v1/cluster", hello.name);
            return Err(ServiceError::Conflict(text));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Ends a removal that has not come to its end.
async fn stay(node: &Arc<Node>, id: NodeId, deadline: Instant) -> Result<(), ServiceError> {
    let handle = node.system()?;
    let deadline_ms = node.clock.deadline_ms(deadline);
    loop {
        let known: Option<system::Stored<NodeEntry>> = system::read(&handle, system::node_key(id), deadline_ms).await?;
        let Some(known) = known else { return Ok(()) };
        if known.value.removed {
            let text = format!(
                "node {} ({id}) was removed from this cluster; start it with an empty data directory to come back as a new node",
                known.value.name
            );
            return Err(ServiceError::Conflict(text));
        }
        if !known.value.leaving {
            return Ok(());
        }
        let staying = NodeEntry { leaving: false, ..known.value };
        match system::write(&handle, system::node_key(id), &staying, Some(known.stamp), deadline_ms).await {
            Ok(_) => return Ok(()),
            Err(ServiceError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
}
