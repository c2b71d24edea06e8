//! The mission in one go: an import through one node, reads from another, updates through a third, and a node that dies.
//!
//! `COEQUAL_CITIES=…/cities.ndjson.zst` takes the whole real list.

use coequal_tests::checker::Ledger;
use coequal_tests::cities::{City, body, cities, import_size};
use coequal_tests::client::Client;
use coequal_tests::cluster::{Cluster, Node, replication, until};
use coequal_tests::witness::Witness;
use coequal_tests::writers::check_gap;
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const C: &str = "/v1/databases/orders/collections/cities";
const JSON: (&str, &str) = ("content-type", "application/json");

/// What reads and writes on survivors may have met.
#[derive(Debug, Default)]
struct Met {
    answers: usize,
    faults: Vec<String>,
    longest: Duration,
}

async fn import(client: Client, all: Arc<Vec<City>>, done: Arc<AtomicUsize>) -> Ledger {
    let mut ledger = Ledger::default();
    for part in all.chunks(2_000) {
        part.iter().for_each(|city| ledger.sends(&city.key));
        let headers = [("content-type", "application/x-ndjson")];
        let answer = client.send(Method::POST, &format!("{C}/documents:batch"), &headers, body(part)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(ledger.take_batch(&answer.body), part.len(), "a result for each line");
        done.fetch_add(part.len(), Ordering::Relaxed);
    }
    ledger
}

async fn read(client: Client, all: Arc<Vec<City>>, done: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Met {
    let mut met = Met::default();
    while !stop.load(Ordering::Relaxed) {
        let city = &all[(met.answers * 7919) % done.load(Ordering::Relaxed).clamp(1, all.len())];
        let begun = Instant::now();
        let answer = client.try_send(Method::GET, &format!("{C}/documents/{}", city.key), &[], "").await;
        met.longest = met.longest.max(begun.elapsed());
        met.answers += 1;
        match answer {
            Ok(answer) if matches!(answer.status.as_u16(), 200 | 404) => {}
            other => met.faults.push(format!("{other:?}")),
        }
    }
    met
}

/// Updates and deletes documents of its own in the same collection, so that versions and tombstones move too.
async fn update(client: Client, stop: Arc<AtomicBool>) -> (Ledger, Met) {
    let (mut ledger, mut met) = (Ledger::default(), Met::default());
    for round in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("own-{:03}", round % 150);
        let deletes = round % 11 == 10 && ledger.acknowledged.contains_key(&key);
        let method = if deletes { Method::DELETE } else { Method::PUT };
        ledger.sends(&key);
        let begun = Instant::now();
        let path = format!("{C}/documents/{key}");
        let answer = client.try_send(method, &path, &[JSON], if deletes { "" } else { "{\"n\":1}" }).await;
        met.longest = met.longest.max(begun.elapsed());
        met.answers += 1;
        match answer {
            Ok(answer) if deletes && answer.status == 204 => ledger.delete(&key),
            Ok(answer) if answer.status.is_success() => {
                ledger.acknowledge(&key, answer.json()["_version"].as_u64().expect("_version"));
            }
            other => met.faults.push(format!("{other:?}")),
        }
    }
    (ledger, met)
}

async fn until_online_again(node: &Node) -> bool {
    let client = node.client();
    let mut seen = false;
    until("ONLINE again", async || {
        let replication = replication(&client, "orders").await?;
        seen |= replication["status"] == "SYNCHRONIZING";
        (replication["status"] == "ONLINE").then_some(())
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_with_readers_updates_and_a_killed_node_ends_equal_everywhere() {
    let mut cluster = Cluster::with_orders(3).await;
    let all = Arc::new(cities(import_size(12_000)));
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let [a, b] = [0, 1].map(|at| cluster.nodes[at].client());
    let witness = Witness::start();
    let importing = tokio::spawn(import(a, Arc::clone(&all), Arc::clone(&done)));
    let reading = tokio::spawn(read(b.clone(), Arc::clone(&all), Arc::clone(&done), Arc::clone(&stop)));
    let updating = tokio::spawn(update(b, Arc::clone(&stop)));
    until("a third is there", async || (done.load(Ordering::Relaxed) > all.len() / 3).then_some(())).await;
    cluster.nodes[2].kill();
    until("two thirds are there", async || (done.load(Ordering::Relaxed) > all.len() * 2 / 3).then_some(())).await;
    cluster.nodes[2].start();
    let was_seen = until_online_again(&cluster.nodes[2]).await;
    let mut ledger = importing.await.expect("imported");
    stop.store(true, Ordering::Relaxed);
    let (own, updates) = updating.await.expect("updated");
    let reads = reading.await.expect("read");
    let machine = witness.end();
    for (what, met) in [("reads", &reads), ("updates", &updates)] {
        println!("{what}: {} answers", met.answers);
        assert!(met.faults.is_empty(), "{what}: {} faults: {:?}", met.faults.len(), met.faults.first());
        check_gap(what, met.longest, machine);
    }
    println!("SYNCHRONIZING was {}seen", if was_seen { "" } else { "not " });
    ledger.sent.extend(own.sent);
    ledger.deleted.extend(own.deleted);
    ledger.acknowledged.extend(own.acknowledged);
    cluster.until_online("orders").await;
    ledger.check(&cluster.until_equal("cities").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_every_node_in_the_middle_of_an_import_loses_no_acknowledged_document() {
    let mut cluster = Cluster::with_orders(3).await;
    let all = cities(6_000);
    let mut ledger = Ledger::default();
    let client = cluster.nodes[0].client();
    let headers = [("content-type", "application/x-ndjson")];
    for part in all[..4_000].chunks(1_000) {
        let answer = client.send(Method::POST, &format!("{C}/documents:batch"), &headers, body(part)).await;
        ledger.take_batch(&answer.body);
    }
    all[4_000..].iter().for_each(|city| ledger.sends(&city.key));
    let last = body(&all[4_000..]);
    let cut =
        tokio::spawn(
            async move { client.try_send(Method::POST, &format!("{C}/documents:batch"), &headers, last).await },
        );
    let watched = cluster.nodes[1].client();
    let path = format!("{C}/documents/{}?consistency=linearizable", all[4_100].key);
    until("the last part is under way", async || (watched.get(&path).await.status == 200).then_some(())).await;
    cluster.nodes.iter_mut().for_each(Node::kill);
    if let Ok(Ok(answer)) = cut.await {
        ledger.take_batch(&answer.body);
    }
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.until_online("orders").await;
    let export = cluster.until_equal("cities").await;
    println!("{} of {} documents are there", export.lines().count(), all.len());
    ledger.check(&export);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_a_node_does_not_grow_with_its_documents() {
    let small = ["--cache-mib", "4", "--overlay-mib", "2"];
    let cluster = Cluster::with_database(1, "orders", "{}", &small).await;
    let (node, client) = (&cluster.nodes[0], cluster.nodes[0].client());
    let padding = "x".repeat(1_000);
    let mut sizes = Vec::new();
    for part in 0..8 {
        let lines: String = (0..5_000)
            .map(|n| {
                format!("{{\"_key\":\"k{:06}\",\"padding\":\"{padding}\"}}\n", (part * 5_000 + n) * 7919 % 999_983)
            })
            .collect();
        let headers = [("content-type", "application/x-ndjson"), ("coequal-deadline-ms", "60000")];
        let answer = client.send(Method::POST, &format!("{C}/documents:batch"), &headers, lines).await;
        assert_eq!(answer.body.matches("\"status\":201").count(), 5_000, "{}", &answer.body[..200]);
        sizes.push(node.resident_bytes() >> 20);
    }
    println!("resident MiB after each 5 MB: {sizes:?}");
    let (early, late) = (sizes[1], sizes[7]);
    assert!(late < early + 30, "30 MB more of documents took {} MiB more of memory: {sizes:?}", late - early);
}
