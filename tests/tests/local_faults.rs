//! Local mode when something goes wrong: a replica that is killed, a second instance, edits that are refused.

use coequal_tests::cluster::until;
use coequal_tests::local::{Local, listening};

/// Instances look for free ports when they start; only the test that is about that starts several at once.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const DOCUMENT: &str = "/v1/databases/orders/collections/things/documents/a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_waits_comes_back_and_has_what_it_missed() {
    let _alone = ALONE.lock().await;
    let mut local = Local::new("orders", "{}");
    local.start();
    local.said(1, &["all 3 nodes are ONLINE", "Write on one node, read on another"]).await;
    let (first, second) = (local.client(0), local.client(1));
    assert_eq!(first.put(DOCUMENT, "{\"n\":1}").await.status, 201);
    for ordinal in 0..3 {
        let places = listening(local.pid(ordinal));
        assert_eq!(places.len(), 2, "the API and the port for other nodes: {places:?}");
        assert!(places.iter().all(|place| place.starts_with("0100007F:")), "only on loopback: {places:?}");
    }
    let killed = local.pid(1);
    // SAFETY: kill only takes numbers; the process is a replica of this test's own supervisor.
    unsafe { libc::kill(killed, libc::SIGKILL) };
    local.said(1, &["orders-1 ended by itself (signal 9); next start in 1 s"]).await;
    assert_eq!(first.put(DOCUMENT, "{\"n\":2}").await.status, 200, "the others go on");
    local.said(2, &["orders-1 starts at", "all 3 nodes are ONLINE"]).await;
    assert_ne!(local.pid(1), killed);
    let read = second.get(DOCUMENT).await;
    assert_eq!((read.status.as_u16(), read.json()["n"].as_u64()), (200, Some(2)), "ONLINE means aligned: {read:?}");
    assert_eq!(local.interrupt(), Some(0));
    assert!(local.text().contains("stopped; the data is kept"), "{}", local.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_stand_beside_each_other_and_one_directory_has_one_supervisor() {
    let _alone = ALONE.lock().await;
    let mut one = Local::new("orders", "{replicas: 1}");
    let mut two = Local::new("orders", "{replicas: 1}");
    one.start();
    one.said(1, &["all 1 nodes are ONLINE"]).await;
    two.start();
    two.said(1, &["all 1 nodes are ONLINE"]).await;
    assert_ne!(one.client(0).url, two.client(0).url);
    assert_eq!(one.client(0).put(DOCUMENT, "{\"of\":\"one\"}").await.status, 201);
    assert_eq!(two.client(0).get(DOCUMENT).await.status, 404, "clusters of the same name do not know each other");
    let refused = one.output();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by process"), "{said}");
    assert_eq!((one.interrupt(), two.interrupt()), (Some(0), Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_with_faults_change_nothing_and_good_ones_take_effect_at_once() {
    let _alone = ALONE.lock().await;
    let mut local = Local::new("orders", "{replicas: 1}");
    local.start();
    local.said(1, &["all 1 nodes are ONLINE"]).await;
    let client = local.client(0);
    assert_eq!(client.put(DOCUMENT, "{}").await.status, 201);
    for (spec, fault) in [
        ("{replicas: many}", "spec.replicas"),
        ("{replicas: 1, databases: [{name: orders, writeQuorum: 2}]}", "spec.databases[0].writeQuorum"),
        ("{replica: 1}", "did you mean replicas?"),
        ("{replicas: 1", "not valid YAML"),
    ] {
        local.save(spec);
        local.said(1, &[fault]).await;
        assert_eq!(client.get(DOCUMENT).await.status, 200, "{spec}");
    }
    assert!(local.text().matches("everything stays as it is").count() >= 4, "{}", local.text());
    local.save("{replicas: 1, databases: [{name: orders, readQuorum: majority}, {name: more}]}");
    until("settings and a new database are there", async || {
        let orders = client.get("/v1/databases/orders").await.json();
        let more = client.get("/v1/databases/more").await;
        (orders["configuration"]["readQuorum"] == "majority" && more.status == 200).then_some(())
    })
    .await;
    local.save("{replicas: 0}");
    local.said(1, &["orders-0 stopped (exit code 0)"]).await;
    local.save("{replicas: 1}");
    local.said(2, &["orders-0 starts at"]).await;
    let client = local.client(0);
    until("the document is there again", async || {
        let read = client.try_send(reqwest::Method::GET, DOCUMENT, &[], "").await.ok()?;
        (read.status == 200).then_some(())
    })
    .await;
    assert_eq!(local.interrupt(), Some(0));
}

/// Both look for free ports at the same moment and may find the same ones. Whoever loses must notice that the node
/// that answers at its port is not its own, and must never act on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_at_the_same_moment_never_act_on_each_others_nodes() {
    let _alone = ALONE.lock().await;
    let mut all: Vec<Local> = (0..3)
        .map(|at| Local::new("orders", &format!("{{replicas: 1, databases: [{{name: orders}}, {{name: of{at}}}]}}")))
        .collect();
    all.iter_mut().for_each(Local::start);
    for local in &mut all {
        local.said(1, &["all 1 nodes are ONLINE"]).await;
    }
    let mut clusters = std::collections::BTreeSet::new();
    for (at, local) in all.iter().enumerate() {
        let client = local.client(0);
        clusters.insert(client.get("/v1/cluster").await.json()["id"].to_string());
        let databases = client.get("/v1/databases").await.body;
        for other in 0..3 {
            let has = databases.contains(&format!("\"of{other}\""));
            assert_eq!(has, other == at, "instance {at} and the database of instance {other}: {databases}");
        }
    }
    assert_eq!(clusters.len(), 3, "{clusters:?}");
}
