//! Two processes with one identity: a data directory that was copied to a second place.

use coequal_tests::client::Client;
use coequal_tests::cluster::{Cluster, until};
use coequal_tests::disks::copy;
use coequal_tests::writers::{Writer, check_acknowledged};
use reqwest::Method;
use std::time::{Duration, Instant};

const DOCUMENTS: &str = "/v1/databases/orders/collections/notes/documents";
/// Longer than peers wait before they note again how far a log was (five seconds).
const NOTED_AFTER: Duration = Duration::from_secs(7);
/// What a process says that a peer has refused.
const SILENT: &str = "takes part in nothing any more";

async fn conflicts(client: &Client) -> Option<f64> {
    let text = client.try_send(Method::GET, "/metrics", &[], "").await.ok()?.body;
    text.lines().find_map(|line| line.strip_prefix("coequal_identity_conflicts_total "))?.trim().parse().ok()
}

async fn until_it_says_so(client: &Client) {
    until("the conflict stands in status and metrics", async || {
        let node = client.try_send(Method::GET, "/v1/node", &[], "").await.ok()?.json();
        let says = node["message"].as_str()?.contains("data directory");
        (says && conflicts(client).await? > 0.0).then_some(())
    })
    .await;
}

/// A copy of the directory of node 2 as it was before its present start; the copy runs beside it when started.
async fn with_copy() -> (Cluster, usize) {
    let mut cluster = Cluster::with_orders(3).await;
    cluster.nodes[2].kill();
    let place = cluster.nodes[2].directory.with_extension("copy");
    copy(&cluster.nodes[2].directory, &place);
    cluster.nodes[2].start();
    cluster.until_online("orders").await;
    let double = cluster.add_stopped(&[]);
    cluster.nodes[double].directory = place;
    cluster.nodes[double].name = "n2".to_owned();
    (cluster, double)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_directory_that_runs_elsewhere_is_refused_and_said_on_both_sides() {
    let (mut cluster, double) = with_copy().await;
    let writer = Writer::start(cluster.nodes[0].client(), "notes", "a", 100);
    until("under way", async || (writer.writes() > 20).then_some(())).await;
    cluster.nodes[double].start();
    let client = cluster.nodes[double].client();
    until_it_says_so(&client).await;
    until("a peer says it too", async || {
        let node = cluster.nodes[0].client().get("/v1/node").await.json();
        node["message"].as_str().is_some_and(|text| text.contains("data directory")).then_some(())
    })
    .await;
    assert!(conflicts(&cluster.nodes[0].client()).await > Some(0.0));
    let ready = client.get("/readyz?verbose").await;
    assert!(ready.status == 503 && ready.body.contains("data directory"), "{ready:?}");
    assert_eq!(client.get(&format!("{DOCUMENTS}/a-1")).await.status, 503, "it answers no local read");
    let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "500")];
    let write = client.send(Method::PUT, &format!("{DOCUMENTS}/double"), &headers, "{}").await;
    assert_eq!(write.status, 503, "{write:?}");
    let from = writer.writes();
    until("the writer goes on", async || (writer.writes() > from + 100).then_some(())).await;
    cluster.until_status(&cluster.nodes[2], "orders", "ONLINE").await;
    let seen = writer.stop().await;
    assert!(seen.errors.is_empty() && seen.unknown.is_empty(), "{:?}", seen.errors);
    cluster.nodes.truncate(double);
    check_acknowledged(&cluster.until_equal("notes").await, &seen);
}

/// The peers that knew which process was the first are restarted while the first one stands still: now the copy is let
/// in, and only what the peers have noted of the log tells that it lacks what was promised in its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_peers_let_in_after_their_restart_does_not_vote() {
    let (mut cluster, double) = with_copy().await;
    let writer = Writer::start(cluster.nodes[2].client(), "notes", "a", 100);
    let began = Instant::now();
    until("the peers have noted how far the log is", async || (began.elapsed() > NOTED_AFTER).then_some(())).await;
    let seen = writer.stop().await;
    assert!(seen.writes > 100 && seen.errors.is_empty(), "{:?}", seen.errors);
    cluster.nodes[2].signal(libc::SIGSTOP);
    for at in [0, 1] {
        cluster.nodes[at].kill();
    }
    cluster.nodes[double].start();
    for at in [0, 1] {
        cluster.nodes[at].start();
    }
    until("the copy is found", async || {
        cluster.nodes[double].log().contains("another process uses the identity of this node").then_some(())
    })
    .await;
    cluster.until_status(&cluster.nodes[0], "orders", "ONLINE").await;
    cluster.nodes[double].kill();
    cluster.nodes[2].signal(libc::SIGCONT);
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    cluster.nodes.truncate(double);
    cluster.until_online("orders").await;
    check_acknowledged(&cluster.until_equal("notes").await, &seen);
}

/// Who starts anew has forgotten which of the two it listened to; the one that was refused does not try it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_copy_is_not_let_in_by_peers_that_are_restarted() {
    let (mut cluster, double) = with_copy().await;
    cluster.nodes[double].start();
    let client = cluster.nodes[double].client();
    // It may say that it met the original before a peer has refused it.
    until("the copy is refused", async || {
        let node = client.try_send(Method::GET, "/v1/node", &[], "").await.ok()?.json();
        node["message"].as_str()?.contains(SILENT).then_some(())
    })
    .await;
    for at in [0, 1] {
        cluster.nodes[at].kill();
        cluster.nodes[at].start();
        cluster.until_status(&cluster.nodes[at], "orders", "ONLINE").await;
    }
    cluster.until_status(&cluster.nodes[2], "orders", "ONLINE").await;
    assert!(!cluster.nodes[2].log().contains("this one is silent"), "nobody refuses the original");
    let node = client.get("/v1/node").await.json();
    assert!(node["message"].as_str().is_some_and(|text| text.contains(SILENT)), "{node}");
}
