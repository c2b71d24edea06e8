//! A whole import through one node, while another is stopped and comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use coequal_node::replication::DatabaseService;
use coequal_protocol::Key;
use coequal_types::{DatabaseName, DatabaseSettings};
use common::{TestNode, is_online, put, restart, soon, three, until};
use std::time::Instant;

/// Documents of the import; more by environment, for measurements.
fn documents() -> u32 {
    std::env::var("COEQUAL_IMPORT_DOCUMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

async fn import(database: &DatabaseService, from: u32, to: u32) {
    let mut at = from;
    while at < to {
        let end = (at + 512).min(to);
        let writes = (at..end)
            .map(|i| {
                let body = format!(
                    "{{\"name\":\"place {i}\",\"country\":\"AD\",\"admin1\":\"03\",\"lat\":42.5{i},\"lng\":1.5{i}}}"
                );
                (Key::of("cities", &format!("c-{:07}", i.wrapping_mul(7919) % 10_000_000)), put(&body))
            })
            .collect();
        for result in database.write_in_turn(writes, std::time::Duration::from_secs(10)).await {
            result.expect("written");
        }
        at = end;
    }
}

fn documents_on(node: &TestNode, name: &DatabaseName) -> u64 {
    node.running.service.database(name).map_or(0, |database| database.describe().documents)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_half_an_import_drains_what_it_missed() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("COEQUAL_LOG"))
        .with_test_writer()
        .try_init();
    let directory = tempfile::tempdir().unwrap();
    let (mut nodes, paths) = three(directory.path()).await;
    let name: DatabaseName = "orders".parse().unwrap();
    nodes[0].running.service.create_database(&name, DatabaseSettings::default(), soon()).await.unwrap();
    until("orders ONLINE everywhere", || nodes.iter().all(|node| is_online(node, &name))).await;
    let (count, started) = (documents(), Instant::now());
    let database = nodes[0].running.service.database(&name).unwrap();
    import(&database, 0, count / 2).await;
    println!("first half after {:?}", started.elapsed());
    let away = nodes.pop().unwrap();
    let address = away.peer_address.clone();
    away.running.stop().await;
    import(&database, count / 2, count).await;
    println!("imported {count} after {:?}", started.elapsed());
    let backlog: u64 = database.replication().nodes.iter().map(|node| node.backlog_entries).max().unwrap_or(0);
    println!("backlog {backlog}");
    assert!(backlog >= u64::from(count / 4), "the durable queue shows what the node misses: {backlog}");
    let (started, join) = (Instant::now(), vec![nodes[0].peer_address.clone()]);
    nodes.push(restart(&paths[2], "n2", &address, join).await);
    until("the third node ONLINE again", || is_online(&nodes[2], &name)).await;
    println!("aligned after {:?}", started.elapsed());
    for node in &nodes {
        until("all documents", || documents_on(node, &name) == u64::from(count)).await;
    }
    for node in nodes {
        node.running.stop().await;
    }
}
