//! Three nodes in one process, over real sockets and real disks: the whole way from a write to its copy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use coequal_node::replication::ServiceError;
use coequal_node::replication::service::Consistency;
use coequal_protocol::Key;
use coequal_types::{DatabaseName, DatabaseSettings};
use common::{is_online, put, soon, start, three, until};
use std::time::Instant;

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
