//! Real nodes behind the pods: growing, shrinking, and wishes that cannot be carried out.

use coequal_tests::apiserver::{Machine, Namespace, Operator};
use coequal_tests::kubernetes::{at, until};
use serde_json::{Value, json};
use std::time::Instant;

const DOCUMENT: &str = "/v1/databases/o/collections/things/documents/a";

async fn begin(test: &str, replicas: u32) -> Option<(Namespace, Machine, Operator)> {
    let namespace = Namespace::new(test).await?;
    let machine = Machine::start(&namespace);
    let mut operator = namespace.operator().await;
    operator.start();
    let begun = Instant::now();
    namespace.create("o", &json!({ "replicas": replicas })).await;
    namespace.until_ready("o").await;
    println!("{replicas} nodes ONLINE after {:.1} s", begun.elapsed().as_secs_f64());
    Some((namespace, machine, operator))
}

/// Names of the nodes that a node counts as members.
async fn members(machine: &Machine, ordinal: u32) -> Vec<String> {
    let cluster = machine.client(ordinal).get("/v1/cluster").await.json();
    let nodes = cluster["nodes"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = nodes.iter().map(|node| at(node, "/name")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_restarted_put_to_sleep_and_woken_without_a_word_too_many() {
    let test = "nodes_are_restarted_put_to_sleep_and_woken_without_a_word_too_many";
    let Some((namespace, machine, _operator)) = begin(test, 2).await else { return };
    assert_eq!(machine.client(0).put(DOCUMENT, "{\"n\":1}").await.status, 201);
    let quiet = namespace.events("NodeNotOnline").await;
    let restart = json!({ "metadata": { "annotations": { "coequal.dev/restart": "now" } } });
    let pods = |pods: Vec<Value>| pods.iter().map(|pod| at(pod, "/metadata/uid")).collect::<Vec<_>>();
    let before = pods(namespace.list("v1 pods").await);
    namespace.api.patch(&namespace.databases("o"), &restart).await;
    until("both pods are others", async || {
        let now = pods(namespace.list("v1 pods").await);
        let is_done = now.len() == 2 && now.iter().all(|uid| !before.contains(uid));
        if is_done { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    })
    .await;
    namespace.until_ready("o").await;
    namespace.change("o", json!({ "replicas": 0 })).await;
    namespace.until_condition("o", "Ready", "True", "Hibernated").await;
    let begun = Instant::now();
    namespace.change("o", json!({ "replicas": 2 })).await;
    namespace.until_condition("o", "Ready", "True", "AllNodesOnline").await;
    println!("awake after {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(machine.client(1).get(&format!("{DOCUMENT}?consistency=linearizable")).await.status, 200);
    let told: Vec<String> = namespace.events("NodeNotOnline").await;
    let stops: Vec<&String> =
        told.iter().filter(|note| note.contains("SHUTTINGDOWN") || note.contains("removed")).collect();
    assert!(stops.is_empty(), "a restart and a sleep that were asked for are no news: {quiet:?} {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_wish_waits_while_a_node_that_stays_is_away_and_says_what_to_do() {
    let test = "a_smaller_wish_waits_while_a_node_that_stays_is_away_and_says_what_to_do";
    let Some((namespace, machine, _operator)) = begin(test, 3).await else { return };
    machine.make_ill(1, true);
    namespace.until_condition("o", "Ready", "False", "NodesOffline").await;
    namespace.change("o", json!({ "replicas": 2 })).await;
    let said = namespace.until_condition("o", "Stalled", "True", "UnsafeScaleIn").await;
    assert!(said.starts_with("replicas 2 is not carried out while o-1 is not ONLINE"), "{said}");
    assert!(said.contains("kubectl describe pod o-1") && said.contains("set replicas back to 3"), "{said}");
    assert_eq!(namespace.events("UnsafeScaleIn").await, [said]);
    assert_eq!(members(&machine, 0).await, ["o-0", "o-1", "o-2"], "nobody was taken out");
    assert_eq!(machine.client(2).put(DOCUMENT, "{\"n\":1}").await.status, 201, "and writes go on");
    machine.make_ill(1, false);
    namespace.until_ready("o").await;
    namespace.until_condition("o", "Stalled", "False", "NothingBlocks").await;
    assert_eq!(members(&machine, 0).await, ["o-0", "o-1"]);
    assert_eq!(machine.client(1).get(&format!("{DOCUMENT}?consistency=linearizable")).await.status, 200);
}

/// The nodes took it out while no operator was there; the next one finds it wished again. Its identity is gone for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_called_off_too_late_gives_a_new_node() {
    let test = "a_removal_that_is_called_off_too_late_gives_a_new_node";
    let Some((namespace, machine, mut operator)) = begin(test, 3).await else { return };
    assert_eq!(machine.client(2).put(DOCUMENT, "{\"n\":1}").await.status, 201);
    let former = machine.client(2).get("/v1/node").await.json();
    // The Event that the removal has begun is the next change: whoever sends it dies.
    operator.gate.kill_after(1);
    namespace.change("o", json!({ "replicas": 2 })).await;
    operator.until_killed().await;
    for _ in 0..3 {
        if namespace.events("RemovingNode").await.is_empty() {
            operator.start();
            operator.gate.kill_after(1);
            operator.until_killed().await;
        }
    }
    until("o-2 is out", async || match members(&machine, 0).await {
        names if names.len() == 2 => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
    namespace.change("o", json!({ "replicas": 3 })).await;
    operator.start();
    namespace.until_ready("o").await;
    assert_eq!(namespace.events("NodeBeginsAnew").await.len(), 1);
    assert_eq!(members(&machine, 0).await, ["o-0", "o-1", "o-2"]);
    assert_ne!(machine.client(2).get("/v1/node").await.json()["id"], former["id"]);
    assert_eq!(machine.client(2).get(DOCUMENT).await.status, 200, "it has got its copy");
}
