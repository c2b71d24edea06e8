//! Drives the protocol: one loop for each database turns events into steps and commands into effects, in order;
//! one loop for the node knows the peers and gives each database its place.
//!
//! Modules stand in reading order: what clients can ask, the node, one database.

pub mod error;
pub mod service;
mod database_service;
mod node;
mod node_loop;
mod report;
mod join;
mod initialize;
mod caretaker;
mod recovery;
mod system;
mod tombstones;
mod databases;
#[cfg(test)]
mod databases_test;
mod copy_writer;
mod deploy;
mod priority;
mod comparisons;
mod metrics;
mod database_loop;
mod window_turns;
pub mod replica;
mod clock;

/// The steps of a deploy, for a simulation that drives them without a runtime.
pub mod copying {
    pub use crate::replication::copy_writer::append_chosen;
    pub use crate::replication::databases::{META_OWNER, sign};
    pub use crate::replication::deploy::{range_checksum, read_range};
}

pub use error::ServiceError;
pub use node::NodeSettings;
pub use service::{DatabaseService, NodeService, RunningNode};

use crate::network::{Network, NetworkEvent};
use crate::storage::DataDirectory;
use coequal_protocol::failure_detection::FailureDetector;
use coequal_types::NodeStatus;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::{Notify, mpsc};

/// Starts a node on an open data directory and a running network.
pub async fn start(
    settings: NodeSettings,
    directory: DataDirectory,
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
) -> Result<RunningNode, ServiceError> {
    let cluster = directory.cluster();
    if let Some(cluster) = cluster {
        network.set_cluster(cluster);
    }
    let state = node::State {
        cluster,
        status: NodeStatus::Starting,
        nodes: BTreeMap::new(),
        databases: BTreeMap::new(),
        reports: BTreeMap::new(),
        detector: FailureDetector::new(settings.unreachable_after_ms),
        connected: BTreeSet::new(),
        refused: None,
        unasked: BTreeMap::new(),
        took_part: false,
        invited_by: None,
        found_at: BTreeMap::new(),
        learners_since: BTreeMap::new(),
        lost: BTreeMap::new(),
        given_up: None,
        silenced: None,
        identity_conflict: None,
        identity_conflicts: 0,
    };
    let node = Arc::new(node::Node {
        id: directory.node(),
        incarnation: directory.incarnation(),
        settings,
        directory,
        network,
        clock: clock::NodeClock::default(),
        state: Mutex::new(state),
        routes: RwLock::new(HashMap::new()),
        wake: Notify::new(),
        news: database_loop::News::new(0),
        reported: Notify::new(),
        initializing: tokio::sync::Mutex::new(()),
        renewal: Notify::new(),
    });
    let running = RunningNode::start(Arc::clone(&node), events).await;
    if node.settings.initialize && cluster.is_none() {
        initialize::run(&node).await?;
    } else {
        initialize::resume(&node).await;
    }
    Ok(running)
}

/// A node of no cluster on a directory that is gone when the process ends, for tests of the rooms above.
#[cfg(test)]
pub(crate) async fn idle_service() -> NodeService {
    let path = tempfile::tempdir().expect("directory").keep();
    let running = start_in(&path, false).await;
    let _ = std::fs::remove_dir_all(path);
    running.service.clone()
}

/// A node in this directory, by itself.
#[cfg(test)]
async fn start_in(path: &std::path::Path, initialize: bool) -> RunningNode {
    let directory = DataDirectory::open(path).expect("data directory");
    let (sender, events) = mpsc::channel(8);
    let identity = crate::network::Identity {
        node: directory.node(),
        incarnation: directory.incarnation(),
        name: "idle".parse().expect("name"),
        cluster: directory.cluster(),
    };
    let listen = "127.0.0.1:0".parse().expect("address");
    let network =
        Network::start(crate::network::NetworkSettings::new(listen, identity), sender).await.expect("network");
    let settings = NodeSettings {
        name: "idle".parse().expect("name"),
        peer_address: network.local_address().to_string(),
        api_address: "127.0.0.1:1".to_owned(),
        initialize,
        cluster: None,
        join: Vec::new(),
        store: crate::storage::StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 },
        unreachable_after_ms: 1500,
        databases_share_threads: false,
        renew_when_removed: false,
        compare_every_seconds: 0,
        tombstone_life_ms: 86_400_000,
    };
    start(settings, directory, network, events).await.expect("node")
}
