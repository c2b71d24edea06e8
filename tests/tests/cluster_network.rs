//! Cuts in the network, pair by pair and direction by direction.

use coequal_tests::blockade::{Blockade, Cut};
use coequal_tests::cluster::{Cluster, PATIENCE, replication, until};
use coequal_tests::writers::{Remembered, Writer, check_acknowledged, check_gap};
use reqwest::Method;
use std::time::{Duration, Instant};

async fn under_way(writer: &Writer, more: u64) {
    let at = writer.writes();
    until("the writer goes on", async || (writer.writes() >= at + more).then_some(())).await;
}

fn check_undisturbed(seen: &Remembered) {
    assert!(seen.errors.is_empty() && seen.unknown.is_empty(), "{:?}", seen.errors);
    check_gap("a writer with a majority", seen.longest_gap, seen.machine);
}

async fn healed(cluster: &Cluster, blockade: &Blockade, seen: &[Remembered]) {
    blockade.heal();
    cluster.until_online("orders").await;
    let export = cluster.until_equal("notes").await;
    seen.iter().for_each(|seen| check_acknowledged(&export, seen));
}

/// The node does not serve what it cannot know: local reads and writes are refused, and in time.
async fn check_minority(cluster: &Cluster, node: usize) {
    let client = cluster.nodes[node].client();
    until("the minority notices", async || {
        let ready = client.try_send(Method::GET, "/readyz", &[], "").await.ok()?;
        (ready.status == 503).then_some(())
    })
    .await;
    let path = "/v1/databases/orders/collections/notes/documents/minority";
    assert_eq!(client.get(path).await.status, 503, "no local reads without contact");
    let begun = Instant::now();
    let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "1000")];
    let write = client.send(Method::PUT, path, &headers, "{}").await;
    assert_eq!(write.status, 503, "{write:?}");
    assert!(matches!(write.json()["outcome"].as_str(), Some("not-applied" | "unknown")), "{write:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "refused after {:?}", begun.elapsed());
    assert_eq!(client.get("/livez").await.status, 200);
}

async fn isolated_node(cut: Cut) {
    let (cluster, blockade) = Cluster::behind_blockade(3).await;
    let writers = [0, 1].map(|at| Writer::start(cluster.nodes[at].client(), "notes", &format!("w{at}"), 100));
    under_way(&writers[0], 20).await;
    blockade.isolate(2, cut);
    under_way(&writers[0], 50).await;
    check_minority(&cluster, 2).await;
    let client = cluster.nodes[0].client();
    until("the others see it OFFLINE, and its queue", async || {
        let replication = replication(&client, "orders").await?;
        let away = replication["nodes"].as_array()?.iter().find(|node| node["name"] == "n2")?.clone();
        (away["status"] == "OFFLINE" && away["backlogEntries"].as_u64()? > 0).then_some(())
    })
    .await;
    under_way(&writers[1], 50).await;
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.stop().await);
    }
    seen.iter().for_each(check_undisturbed);
    healed(&cluster, &blockade, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_pulled_cable_is_a_minority_and_aligns_when_it_is_back() {
    isolated_node(Cut::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_blocked_port_is_a_minority_and_aligns_when_it_is_open() {
    isolated_node(Cut::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_do_not_reach_each_other_both_write_through_the_third() {
    let (cluster, blockade) = Cluster::behind_blockade(3).await;
    let writers = [0, 2].map(|at| Writer::start(cluster.nodes[at].client(), "notes", &format!("w{at}"), 100));
    under_way(&writers[0], 20).await;
    blockade.cut(0, 2, Cut::Silent);
    for writer in &writers {
        under_way(writer, 100).await;
    }
    // One document that both sides write: every success is one version.
    let path = "/v1/databases/orders/collections/notes/documents/both";
    for round in 0..10 {
        for at in [0, 2] {
            let write = cluster.nodes[at].client().put(path, &format!("{{\"value\":{round}}}")).await;
            assert!(write.status.is_success(), "{write:?}");
        }
    }
    let read = cluster.nodes[1].client().get(&format!("{path}?consistency=linearizable")).await;
    assert_eq!(read.json()["_version"].as_u64(), Some(20), "{read:?}");
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.stop().await);
    }
    seen.iter().for_each(check_undisturbed);
    healed(&cluster, &blockade, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_and_is_not_heard_holds_nobody_up() {
    let (cluster, blockade) = Cluster::behind_blockade(3).await;
    let writer = Writer::start(cluster.nodes[0].client(), "notes", "a", 100);
    under_way(&writer, 20).await;
    for other in [0, 1] {
        blockade.cut_one_way(2, other, Cut::Silent);
    }
    under_way(&writer, 100).await;
    let client = cluster.nodes[2].client();
    let path = "/v1/databases/orders/collections/notes/documents/a-0";
    let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "1000")];
    let write = client.send(Method::PUT, path, &headers, "{\"value\":0}").await;
    assert_eq!(write.status, 503, "nobody hears it: {write:?}");
    let seen = writer.stop().await;
    check_undisturbed(&seen);
    blockade.heal();
    cluster.until_online("orders").await;
    cluster.until_equal("notes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_heard_and_does_not_hear_notices_by_itself_and_aligns_when_it_hears_again() {
    let (cluster, blockade) = Cluster::behind_blockade(3).await;
    let writer = Writer::start(cluster.nodes[0].client(), "notes", "a", 100);
    under_way(&writer, 20).await;
    for other in [0, 1] {
        blockade.cut_one_way(other, 2, Cut::Silent);
    }
    check_minority(&cluster, 2).await;
    under_way(&writer, 100).await;
    let seen = writer.stop().await;
    check_undisturbed(&seen);
    healed(&cluster, &blockade, &[seen]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_apart_nothing_is_written_and_together_again_everything_goes_on() {
    let (cluster, blockade) = Cluster::behind_blockade(3).await;
    let path = "/v1/databases/orders/collections/notes/documents/a";
    assert_eq!(cluster.nodes[0].client().put(path, "{\"value\":1}").await.status, 201);
    for node in 0..3 {
        blockade.isolate(node, Cut::Silent);
    }
    for node in 0..3 {
        check_minority(&cluster, node).await;
    }
    blockade.heal();
    cluster.until_online("orders").await;
    let client = cluster.nodes[1].client();
    let begun = Instant::now();
    until("writes go on", async || client.put(path, "{\"value\":2}").await.status.is_success().then_some(())).await;
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    let read = cluster.nodes[2].client().get(&format!("{path}?consistency=linearizable")).await;
    assert_eq!(read.json()["value"].as_u64(), Some(2), "{read:?}");
}
