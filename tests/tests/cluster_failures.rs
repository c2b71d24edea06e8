//! What happens to acknowledged writes, to writers and to the returning node when nodes fail.

use coequal_tests::client::Client;
use coequal_tests::cluster::{Cluster, Node, replication, until};
use coequal_tests::writers::{Remembered, Writer, check_acknowledged, check_gap};
use reqwest::Method;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Documents of an import; the real set has 171,075.
fn documents() -> usize {
    std::env::var("COEQUAL_IMPORT_DOCUMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn lines(from: usize, to: usize) -> String {
    let mut text = String::new();
    for i in from..to {
        let _ = writeln!(
            text,
            "{{\"_key\":\"C-{i:06}\",\"name\":\"Ort {i}\",\"country\":\"XX\",\"lat\":{}.5,\"lng\":-{}.25}}",
            i % 90,
            i % 180
        );
    }
    text
}

/// Imports documents through one node in batches; every line has to be acknowledged.
async fn import(client: Client, from: usize, to: usize) {
    for start in (from..to).step_by(5_000) {
        let body = lines(start, (start + 5_000).min(to));
        let headers = [("content-type", "application/x-ndjson")];
        let answer =
            client.send(Method::POST, "/v1/databases/orders/collections/cities/documents:batch", &headers, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        for line in answer.body.lines() {
            let result: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
            assert!(matches!(result["status"].as_u64(), Some(200 | 201)), "{line}");
        }
    }
}

/// Watches a returning node until it is ONLINE; true if SYNCHRONIZING was seen on the way.
async fn watch_return(node: &Node) -> bool {
    let client = node.client();
    let mut seen = false;
    until(&format!("{} ONLINE again", node.name), async || {
        let replication = replication(&client, "orders").await?;
        seen |= replication["status"] == "SYNCHRONIZING";
        (replication["status"] == "ONLINE").then_some(())
    })
    .await;
    seen
}

async fn check(cluster: &Cluster, seen: &[Remembered], count: usize) {
    let cities = cluster.until_equal("cities").await;
    assert_eq!(cities.lines().count(), count);
    let notes = cluster.until_equal("notes").await;
    seen.iter().for_each(|seen| check_acknowledged(&notes, seen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_node_during_an_import_loses_nothing_and_stops_no_writer() {
    let mut cluster = Cluster::with_orders(3).await;
    let count = documents();
    let survivors = [
        Writer::start(cluster.nodes[0].client(), "notes", "a", 50),
        Writer::start(cluster.nodes[1].client(), "notes", "b", 50),
    ];
    let doomed = Writer::start(cluster.nodes[2].client(), "notes", "c", 50);
    let importing = tokio::spawn(import(cluster.nodes[0].client(), 0, count));
    until("the writers are under way", async || (doomed.writes() > 20).then_some(())).await;
    cluster.nodes[2].kill();
    let killed_at = [survivors[0].writes(), survivors[1].writes()];
    until("the survivors go on", async || (survivors[0].writes() > killed_at[0] + 50).then_some(())).await;
    cluster.nodes[2].start();
    watch_return(&cluster.nodes[2]).await;
    importing.await.expect("imported");
    let mut seen = vec![doomed.stop().await];
    for writer in survivors {
        let remembered = writer.stop().await;
        assert!(remembered.errors.is_empty() && remembered.unknown.is_empty(), "{:?}", remembered.errors);
        check_gap("a survivor", remembered.longest_gap, remembered.machine);
        seen.push(remembered);
    }
    check(&cluster, &seen, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_all_nodes_at_once_loses_nothing() {
    let mut cluster = Cluster::with_orders(3).await;
    let writers: Vec<Writer> =
        (0..3).map(|i| Writer::start(cluster.nodes[i].client(), "notes", &format!("w{i}"), 40)).collect();
    import(cluster.nodes[1].client(), 0, 5_000).await;
    until("the writers are under way", async || writers.iter().all(|writer| writer.writes() > 50).then_some(())).await;
    cluster.nodes.iter_mut().for_each(Node::kill);
    let started = Instant::now();
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.until_online("orders").await;
    println!("all ONLINE {:?} after the restart", started.elapsed());
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.stop().await);
    }
    check(&cluster, &seen, 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_away_for_a_whole_import_shows_its_queue_and_its_progress_and_drains_it() {
    let mut cluster = Cluster::with_orders(3).await;
    let count = documents();
    cluster.nodes[2].kill();
    import(cluster.nodes[0].client(), 0, count).await;
    let client = cluster.nodes[0].client();
    let queue = until("the queue shows what is missed", async || {
        let replication = replication(&client, "orders").await?;
        let nodes = replication["nodes"].as_array()?;
        let away = nodes.iter().find(|node| node["reachable"] == false)?;
        (away["backlogEntries"].as_u64()? >= count as u64).then(|| away.clone())
    })
    .await;
    assert_eq!(queue["status"], "OFFLINE");
    // Updating everything again does not make the queue longer: it is bounded by the number of documents (G5).
    import(cluster.nodes[1].client(), 0, count / 4).await;
    let bounded = replication(&client, "orders").await.expect("answers");
    let away = bounded["nodes"]
        .as_array()
        .and_then(|nodes| nodes.iter().find(|node| node["reachable"] == false))
        .expect("away");
    assert!(away["backlogEntries"].as_u64() <= Some(count as u64 + 10), "{away}");
    let started = Instant::now();
    cluster.nodes[2].start();
    assert!(watch_return(&cluster.nodes[2]).await, "SYNCHRONIZING was not to be seen");
    println!("{count} entries aligned {:?} after the start", started.elapsed());
    let export = cluster.export(2, "cities").await;
    assert_eq!(export.lines().count(), count, "everything is there at the moment of ONLINE (G4)");
    cluster.until_equal("cities").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_aligns_when_it_goes_on() {
    let cluster = Cluster::with_orders(3).await;
    let writer = Writer::start(cluster.nodes[0].client(), "notes", "a", 500);
    until("under way", async || (writer.writes() > 20).then_some(())).await;
    cluster.nodes[2].signal(libc::SIGSTOP);
    let stopped_at = writer.writes();
    let client = cluster.nodes[0].client();
    until("the others notice", async || {
        let replication = replication(&client, "orders").await?;
        replication["nodes"].as_array()?.iter().any(|node| node["reachable"] == false).then_some(())
    })
    .await;
    until("the writer goes on", async || (writer.writes() > stopped_at + 100).then_some(())).await;
    cluster.nodes[2].signal(libc::SIGCONT);
    watch_return(&cluster.nodes[2]).await;
    let seen = writer.stop().await;
    assert!(seen.errors.is_empty() && seen.unknown.is_empty(), "{:?}", seen.errors);
    check_gap("a writer while a node was stopped", seen.longest_gap, seen.machine);
    let notes = cluster.until_equal("notes").await;
    check_acknowledged(&notes, &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_and_a_fifth_node_join_during_an_import() {
    let mut cluster = Cluster::with_orders(3).await;
    let count = documents();
    let writer = Writer::start(cluster.nodes[1].client(), "notes", "a", 100);
    let importing = tokio::spawn(import(cluster.nodes[0].client(), 0, count));
    until("under way", async || (writer.writes() > 20).then_some(())).await;
    let started = Instant::now();
    cluster.add(&[]);
    cluster.add(&[]);
    cluster.until_online("orders").await;
    println!("five nodes ONLINE and voting after {:?}", started.elapsed());
    importing.await.expect("imported");
    let seen = writer.stop().await;
    assert!(seen.errors.is_empty() && seen.unknown.is_empty(), "{:?}", seen.errors);
    println!("gap while nodes joined: {:?}", seen.longest_gap);
    check(&cluster, &[seen], count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_a_node_missed_is_not_undone_by_its_return() {
    let mut cluster = Cluster::with_orders(3).await;
    let path = "/v1/databases/orders/collections/things/documents/a";
    assert_eq!(cluster.nodes[0].client().put(path, "{\"x\":1}").await.status, 201);
    cluster.until_equal("things").await;
    cluster.nodes[2].kill();
    assert_eq!(cluster.nodes[0].client().delete(path).await.status, 204);
    cluster.nodes[2].start();
    cluster.until_online("orders").await;
    for node in &cluster.nodes {
        assert_eq!(node.client().get(path).await.status, 404, "{}", node.name);
        assert_eq!(node.client().get(&format!("{path}?consistency=linearizable")).await.status, 404, "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_a_write_is_refused_as_not_applied_in_time() {
    let mut cluster = Cluster::with_orders(3).await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "700")];
    let started = Instant::now();
    let client = cluster.nodes[0].client();
    let answer = client.send(Method::PUT, "/v1/databases/orders/collections/things/documents/a", &headers, "{}").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["outcome"], "not-applied", "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_come_back_at_other_ports_find_each_other() {
    let mut cluster = Cluster::with_orders(3).await;
    let path = "/v1/databases/orders/collections/things/documents/a";
    assert_eq!(cluster.nodes[0].client().put(path, "{}").await.status, 201);
    for node in &mut cluster.nodes {
        node.kill();
        node.move_ports();
    }
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.peers.clone()).collect();
    for node in &mut cluster.nodes {
        node.set_join(addresses.clone());
        node.start();
    }
    cluster.until_online("orders").await;
    for node in &cluster.nodes {
        assert_eq!(node.client().get(&format!("{path}?consistency=linearizable")).await.status, 200);
    }
}
