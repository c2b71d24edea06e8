//! Tombstones of deleted documents go when every node has them, nobody may ask for them any more, and nothing late can
//! bring a document back; on real processes with a short life.

use coequal_tests::client::Client;
use coequal_tests::cluster::{Cluster, replication, until};
use reqwest::Method;
use serde_json::Value;
use std::fmt::Write as _;

const LIFE: [&str; 2] = ["--tombstone-life-seconds", "1"];
const BATCH: &str = "/v1/databases/orders/collections/cities/documents:batch";

fn documents() -> usize {
    std::env::var("COEQUAL_TOMBSTONES").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

/// Sends a batch and gives back its answers; every line has to have one of these statuses.
async fn batch(client: &Client, body: String, statuses: &[u64]) -> Vec<Value> {
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client.send(Method::POST, BATCH, &headers, body).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let lines = answer.body.lines().map(|line| serde_json::from_str(line).expect("NDJSON"));
    let mut lines: Vec<Value> = lines.collect();
    lines.sort_by_key(|line| line["key"].to_string());
    for line in &lines {
        assert!(line["status"].as_u64().is_some_and(|status| statuses.contains(&status)), "{line}");
    }
    lines
}

async fn put(client: &Client, count: usize) -> Vec<Value> {
    let mut body = String::new();
    for number in 0..count {
        let _ = writeln!(body, "{{\"_key\":\"C-{number:06}\",\"number\":{number}}}");
    }
    batch(client, body, &[200, 201]).await
}

async fn delete(client: &Client, count: usize) {
    let mut body = String::new();
    for number in 0..count {
        let _ = writeln!(body, "{{\"op\":\"delete\",\"key\":\"C-{number:06}\"}}");
    }
    batch(client, body, &[204]).await;
}

async fn collection_state(cluster: &Cluster, index: usize) -> Option<Value> {
    let replication = replication(&cluster.nodes[index].client(), "orders").await?;
    Some(replication["tombstoneCollection"].clone())
}

async fn until_tombstones(cluster: &Cluster, nodes: &[usize], wanted: u64) {
    for index in nodes {
        until(&format!("{wanted} tombstones on node {index}"), async || {
            let state = collection_state(cluster, *index).await?;
            (state["tombstones"] == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_fall_to_nothing_on_all_nodes_and_documents_begin_anew() {
    let cluster = Cluster::with_database(3, "orders", "{}", &LIFE).await;
    let count = documents();
    let first = put(&cluster.nodes[0].client(), count).await;
    delete(&cluster.nodes[1].client(), count).await;
    until_tombstones(&cluster, &[0, 1, 2], 0).await;
    assert!(cluster.until_equal("cities").await.is_empty());
    let again = put(&cluster.nodes[2].client(), count).await;
    for (before, after) in first.iter().zip(&again) {
        assert_eq!((before["key"].clone(), after["version"].as_u64()), (after["key"].clone(), Some(1)));
        assert_ne!(before["stamp"], after["stamp"], "an old entity tag fits nothing new");
    }
    assert_eq!(cluster.until_equal("cities").await.lines().count(), count);
    let metrics = cluster.nodes[0].client().get("/metrics").await.body;
    let collected = metrics.lines().find(|line| line.starts_with("coequal_collected_tombstones_total{"));
    let collected = collected.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(collected.is_some_and(|collected| collected >= count as u64), "{collected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_holds_the_collection_up_visibly_until_it_is_back() {
    let mut cluster = Cluster::with_database(3, "orders", "{}", &LIFE).await;
    let count = documents();
    put(&cluster.nodes[0].client(), count).await;
    cluster.until_equal("cities").await;
    let away = replication(&cluster.nodes[2].client(), "orders").await.expect("described")["node"].clone();
    cluster.nodes[2].kill();
    delete(&cluster.nodes[0].client(), count).await;
    until("the others say whom they wait for", async || {
        let state = collection_state(&cluster, 0).await?;
        (state["waitsFor"] == serde_json::json!([away])).then_some(())
    })
    .await;
    // Nothing is collected without the node that is away.
    until_tombstones(&cluster, &[0, 1], count as u64).await;
    put(&cluster.nodes[1].client(), count / 2).await;
    cluster.nodes[2].start();
    cluster.until_online("orders").await;
    until_tombstones(&cluster, &[0, 1, 2], 0).await;
    assert_eq!(cluster.until_equal("cities").await.lines().count(), count / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_killed_while_they_collect_go_on_and_agree() {
    let mut cluster = Cluster::with_database(3, "orders", "{}", &LIFE).await;
    let count = documents();
    for round in 0..4 {
        put(&cluster.nodes[round % 3].client(), count).await;
        delete(&cluster.nodes[(round + 1) % 3].client(), count / 2).await;
        until("some are collected", async || {
            let state = collection_state(&cluster, round % 3).await?;
            state["tombstones"].as_u64().filter(|left| *left < (count / 2) as u64)
        })
        .await;
        cluster.nodes[round % 3].kill();
        cluster.nodes[round % 3].start();
        cluster.until_online("orders").await;
    }
    until_tombstones(&cluster, &[0, 1, 2], 0).await;
    assert_eq!(cluster.until_equal("cities").await.lines().count(), count - count / 2);
    // A new node copies what is there, and nothing that is not.
    let index = cluster.add(&LIFE);
    cluster.until_members(4).await;
    cluster.until_online("orders").await;
    until_tombstones(&cluster, &[index], 0).await;
    assert_eq!(cluster.until_equal("cities").await.lines().count(), count - count / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_copied_before_a_document_was_collected_does_not_bring_it_back() {
    let mut cluster = Cluster::with_database(2, "orders", "{\"autoDeploy\":false}", &LIFE).await;
    let count = 100;
    put(&cluster.nodes[0].client(), count).await;
    cluster.until_equal("cities").await;
    let new = cluster.add(&LIFE);
    cluster.until_members(3).await;
    cluster.nodes[new].terminate();
    cluster.nodes[1].terminate();
    let place = |index: usize| cluster.nodes[index].directory.join("databases/orders");
    let copied = std::process::Command::new("cp").args(["-a", "-T"]).arg(place(1)).arg(place(new)).status();
    assert!(copied.expect("cp runs").success());
    cluster.nodes[1].start();
    cluster.until_status(&cluster.nodes[1], "orders", "ONLINE").await;
    delete(&cluster.nodes[0].client(), count / 2).await;
    until_tombstones(&cluster, &[0, 1], 0).await;
    cluster.nodes[new].start();
    cluster.until_members(3).await;
    let deploy = cluster.nodes[0].client().send(Method::POST, "/v1/databases/orders/nodes/n2/deploy", &[], "").await;
    assert!(deploy.status.is_success(), "{deploy:?}");
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("cities").await.lines().count(), count - count / 2);
    assert!(cluster.nodes[new].log().contains("is no head start"), "the copy was set aside");
}
