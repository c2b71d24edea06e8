//! Three nodes in one process, over real sockets and real disks: the whole way from a write to its copy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use coequal_node::network::{Identity, Network, NetworkSettings};
use coequal_node::replication::service::{Consistency, RunningNode};
use coequal_node::replication::{self, NodeSettings, ServiceError};
use coequal_node::storage::{DataDirectory, StoreSettings};
use coequal_protocol::Key;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_types::{DatabaseName, DatabaseSettings, DatabaseStatus, NodeStatus};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct TestNode {
    running: RunningNode,
    peer_address: String,
}

async fn start(path: &Path, name: &str, listen: &str, join: Vec<String>) -> TestNode {
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
        join,
        store: StoreSettings { cache_bytes: 16 << 20, overlay_bytes: 4 << 20 },
        unreachable_after_ms: 1500,
    };
    let running = replication::start(settings, directory, network, events).await.expect("node");
    TestNode { running, peer_address }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn put(text: &str) -> Operation {
    Operation {
        kind: OperationKind::Put(Bytes::copy_from_slice(text.as_bytes())),
        condition: Condition::Any,
        request: None,
    }
}

fn is_online(node: &TestNode, database: &DatabaseName) -> bool {
    node.running.service.database(database).is_ok_and(|database| database.status() == DatabaseStatus::Online)
}

async fn three(directory: &Path) -> (Vec<TestNode>, Vec<PathBuf>) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_one_node_is_read_from_every_other_and_survives_the_restart_of_all() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("COEQUAL_LOG"))
        .with_test_writer()
        .try_init();
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (nodes, paths) = three(directory.path()).await;
    println!("three nodes after {:?}", started.elapsed());
    let name: DatabaseName = "orders".parse().unwrap();
    let (_, created) =
        nodes[0].running.service.create_database(&name, DatabaseSettings::default(), soon()).await.unwrap();
    assert!(created);
    until("orders ONLINE everywhere", || nodes.iter().all(|node| is_online(node, &name))).await;
    println!("orders ONLINE after {:?}", started.elapsed());
    let started = Instant::now();
    for i in 0..100u32 {
        let database = nodes[i as usize % 3].running.service.database(&name).unwrap();
        let written =
            database.write(Key::of("things", &format!("k{i:03}")), put("{\"a\":1}"), false, soon()).await.unwrap();
        assert_eq!(written.version, 1);
    }
    println!("100 writes in {:?}", started.elapsed());
    for (i, node) in nodes.iter().enumerate() {
        let database = node.running.service.database(&name).unwrap();
        let read = database.read(&Key::of("things", "k042"), Consistency::Linearizable, None, soon()).await.unwrap();
        assert_eq!(read.expect("there").revision.body.as_deref(), Some(&b"{\"a\":1}"[..]), "node {i}");
        until("all documents here", || database.describe().documents == 100).await;
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.peer_address.clone()).collect();
    for node in nodes {
        node.running.stop().await;
    }
    let mut again = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        again.push(start(path, &format!("n{i}"), &addresses[i], addresses.clone()).await);
    }
    until("orders ONLINE again", || again.iter().all(|node| is_online(node, &name))).await;
    for node in &again {
        assert_eq!(node.running.service.database(&name).unwrap().describe().documents, 100);
    }
    for node in again {
        node.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_one_document_lose_no_increment() {
    let directory = tempfile::tempdir().unwrap();
    let (nodes, _) = three(directory.path()).await;
    let name: DatabaseName = "orders".parse().unwrap();
    nodes[1].running.service.create_database(&name, DatabaseSettings::default(), soon()).await.unwrap();
    until("orders ONLINE everywhere", || nodes.iter().all(|node| is_online(node, &name))).await;
    let key = Key::of("counters", "hot");
    let mut writers = Vec::new();
    for node in &nodes {
        for _ in 0..3 {
            let database = node.running.service.database(&name).unwrap();
            let key = key.clone();
            writers.push(tokio::spawn(async move {
                let mut done = 0u64;
                for _ in 0..20 {
                    match database.write(key.clone(), put("{}"), false, soon()).await {
                        Ok(_) => done += 1,
                        Err(ServiceError::OutcomeUnknown) => panic!("nobody died"),
                        Err(error) => panic!("{error}"),
                    }
                }
                done
            }));
        }
    }
    let mut done = 0;
    for writer in writers {
        done += writer.await.unwrap();
    }
    let database = nodes[0].running.service.database(&name).unwrap();
    let read = database.read(&key, Consistency::Linearizable, None, soon()).await.unwrap().unwrap();
    assert_eq!(read.revision.version, done);
    for node in nodes {
        node.running.stop().await;
    }
}
