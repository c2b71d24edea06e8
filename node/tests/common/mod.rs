//! Nodes in one process, over real sockets and real disks.
#![allow(dead_code)]

use bytes::Bytes;
use coequal_node::network::{Identity, Network, NetworkSettings};
use coequal_node::replication::service::RunningNode;
use coequal_node::replication::{self, NodeSettings};
use coequal_node::storage::{DataDirectory, StoreSettings};
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_types::{DatabaseName, DatabaseStatus, NodeStatus};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub struct TestNode {
    pub running: RunningNode,
    pub peer_address: String,
}

pub async fn start(path: &Path, name: &str, listen: &str, join: Vec<String>) -> TestNode {
    let directory = DataDirectory::open(path).expect("data directory");
    let (sender, events) = tokio::sync::mpsc::channel(256);
    let identity = Identity {
        node: directory.node(),
        incarnation: directory.incarnation(),
        name: name.parse().unwrap(),
        cluster: directory.cluster(),
    };
    let network =
        Network::start(NetworkSettings::new(listen.parse().unwrap(), identity), sender).await.expect("network");
    let peer_address = network.local_address().to_string();
    let settings = NodeSettings {
        name: name.parse().unwrap(),
        peer_address: peer_address.clone(),
        api_address: "127.0.0.1:1".to_owned(),
        initialize: join.is_empty(),
        cluster: None,
        join,
        store: StoreSettings { cache_bytes: 16 << 20, overlay_bytes: 4 << 20 },
        unreachable_after_ms: 1500,
        databases_share_threads: false,
        renew_when_removed: false,
        compare_every_seconds: 0,
        tombstone_life_ms: 86_400_000,
    };
    let running = replication::start(settings, directory, network, events).await.expect("node");
    TestNode { running, peer_address }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn put(text: &str) -> Operation {
    Operation {
        kind: OperationKind::Put(Bytes::copy_from_slice(text.as_bytes())),
        condition: Condition::Any,
        request: None,
    }
}

pub fn is_online(node: &TestNode, database: &DatabaseName) -> bool {
    node.running.service.database(database).is_ok_and(|database| database.status() == DatabaseStatus::Online)
}

pub async fn three(directory: &Path) -> (Vec<TestNode>, Vec<PathBuf>) {
    let paths: Vec<PathBuf> = (0..3).map(|i| directory.join(format!("n{i}"))).collect();
    let first = start(&paths[0], "n0", "127.0.0.1:0", vec![]).await;
    let join = vec![first.peer_address.clone()];
    let mut nodes = vec![first];
    for (i, path) in paths.iter().enumerate().skip(1) {
        nodes.push(start(path, &format!("n{i}"), "127.0.0.1:0", join.clone()).await);
    }
    until("three nodes ONLINE and voting", || {
        nodes.iter().all(|node| {
            let service = &node.running.service;
            service.describe_node().status == NodeStatus::Online && service.system_voters() == 3
        })
    })
    .await;
    (nodes, paths)
}

pub async fn restart(path: &Path, name: &str, listen: &str, join: Vec<String>) -> TestNode {
    start(path, name, listen, join).await
}
