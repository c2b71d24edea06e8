//! Documents over HTTP on three nodes: the life of one, a hot one, pages, readiness.

use coequal_tests::cluster::{Cluster, until};
use reqwest::Method;

const DOCUMENTS: &str = "/v1/databases/orders/collections/things/documents";
const JSON: (&str, &str) = ("content-type", "application/json");

/// At rest a node hears of its peers twice a second; cut off from all of them, the age of what it reads grows until
/// reads are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_read_says_how_old_it_may_be() {
    let cluster = Cluster::with_orders(3).await;
    let path = format!("{DOCUMENTS}/k");
    let [a, c] = [0, 2].map(|at| cluster.nodes[at].client());
    let written = a.put(&path, "{\"n\":1}").await;
    let session = written.session.expect("session");
    let confirmed = c.send(Method::GET, &path, &[("coequal-session", &session)], "").await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let linearizable = a.get(&format!("{path}?consistency=linearizable")).await;
    assert_eq!(linearizable.age, None, "confirmed by a majority, it has no age");
    coequal_tests::cluster::until("a young answer", async || c.get(&path).await.age.filter(|age| *age < 1.0)).await;
    cluster.nodes[0].signal(libc::SIGSTOP);
    cluster.nodes[1].signal(libc::SIGSTOP);
    let mut oldest = 0.0_f64;
    loop {
        let answer = c.get(&path).await;
        let Some(age) = answer.age else { break assert_eq!(answer.status, 503, "{answer:?}") };
        oldest = oldest.max(age);
    }
    cluster.nodes[0].signal(libc::SIGCONT);
    cluster.nodes[1].signal(libc::SIGCONT);
    assert!(oldest > 0.8, "the age grew until reads were refused: {oldest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_document_through_three_nodes() {
    let cluster = Cluster::with_orders(3).await;
    let [a, b, c] = [0, 1, 2].map(|i| cluster.nodes[i].client());
    let path = format!("{DOCUMENTS}/Z%C3%BCrich%2FWest");
    let created = a.put(&path, "{\"n\":12345678901234567890.10}").await;
    assert_eq!(created.status, 201, "{created:?}");
    let etag = created.etag.clone().expect("etag");
    let session = created.session.clone().expect("session");
    let read = b.send(Method::GET, &path, &[("coequal-session", &session)], "").await;
    assert_eq!(read.status, 200, "a session reads its own writes on any node: {read:?}");
    assert!(
        read.body.contains("\"n\":12345678901234567890.10") && read.body.contains("\"_key\":\"Zürich/West\""),
        "{read:?}"
    );
    assert_eq!(c.put(&path, "{\"n\":2}").await.status, 200);
    let stale = a.send(Method::PUT, &path, &[JSON, ("if-match", &etag)], "{\"n\":3}").await;
    assert_eq!(stale.status, 412, "{stale:?}");
    let current = stale.etag.expect("412 names the current etag");
    assert_eq!(a.send(Method::PATCH, &path, &[JSON, ("if-match", &current)], "{\"m\":[1]}").await.status, 200);
    let patched = b.get(&format!("{path}?consistency=linearizable")).await;
    assert!(patched.body.ends_with("\"n\":2,\"m\":[1]}"), "{patched:?}");
    assert_eq!(patched.json()["_version"], 3);
    assert_eq!(b.send(Method::PUT, &path, &[JSON, ("if-none-match", "*")], "{}").await.status, 412);
    assert_eq!(c.delete(&path).await.status, 204);
    assert_eq!(a.get(&format!("{path}?consistency=linearizable")).await.status, 404);
    assert_eq!(a.delete(&path).await.status, 404);
    let again = b.put(&path, "{}").await;
    assert_eq!(
        (again.status.as_u16(), again.json()["_version"].as_u64()),
        (201, Some(5)),
        "versions count on across deletes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hot_document_under_conditional_writes_from_all_nodes_counts_every_success_once() {
    let cluster = Cluster::with_orders(3).await;
    let path = format!("{DOCUMENTS}/hot");
    cluster.nodes[0].client().put(&path, "{\"n\":0}").await;
    let mut tasks = Vec::new();
    for i in 0..6 {
        let (client, path) = (cluster.nodes[i % 3].client(), path.clone());
        tasks.push(tokio::spawn(async move {
            let mut successes = 0u64;
            while successes < 15 {
                let read = client.get(&format!("{path}?consistency=linearizable")).await;
                let (etag, n) = (read.etag.clone().expect("etag"), read.json()["n"].as_u64().expect("n"));
                let write =
                    client.send(Method::PUT, &path, &[JSON, ("if-match", &etag)], format!("{{\"n\":{}}}", n + 1)).await;
                match write.status.as_u16() {
                    200 => successes += 1,
                    412 => {}
                    _ => panic!("{write:?}"),
                }
            }
            successes
        }));
    }
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("no panic");
    }
    let read = cluster.nodes[1].client().get(&format!("{path}?consistency=linearizable")).await;
    assert_eq!(read.json()["n"].as_u64(), Some(total), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_exports_batches_and_changes_tell_the_same_documents() {
    let cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    let batch: String = (0..250).map(|i| format!("{{\"_key\":\"k{i:03}\",\"n\":{i}}}\n")).collect();
    let extra = "{\"op\":\"delete\",\"key\":\"k000\"}\n{\"op\":\"create\",\"key\":\"k001\",\"document\":{}}\nnot json\n{\"op\":\"patch\",\"key\":\"k002\",\"document\":{\"m\":1.50}}\n";
    let answer = client
        .send(Method::POST, &format!("{DOCUMENTS}:batch"), &[("content-type", "application/x-ndjson")], batch + extra)
        .await;
    let statuses: Vec<u64> = answer
        .body
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("NDJSON")["status"].as_u64().expect("status")
        })
        .collect();
    assert_eq!(statuses.len(), 254);
    assert!(statuses[..250].iter().all(|status| *status == 201));
    assert_eq!(statuses[250..], [204, 409, 400, 200]);
    let mut keys = Vec::new();
    let mut path = format!("{DOCUMENTS}?limit=100");
    loop {
        let page = client.get(&path).await.json();
        keys.extend(
            page["documents"]
                .as_array()
                .expect("documents")
                .iter()
                .map(|d| d["_key"].as_str().expect("key").to_owned()),
        );
        let Some(next) = page["nextCursor"].as_str() else { break };
        path = format!("{DOCUMENTS}?limit=100&cursor={next}");
    }
    assert_eq!(keys.len(), 249);
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    let export = cluster.export(0, "things").await;
    assert_eq!(export.lines().count(), 249);
    assert!(export.contains("\"n\":2,\"m\":1.50}"), "numbers stay as they were sent");
    let changes = client.get("/v1/databases/orders/changes?limit=1000").await;
    assert_eq!(
        changes.body.lines().filter(|line| !line.is_empty()).count(),
        250,
        "one entry a document, the deleted one too"
    );
    assert!(client.get("/metrics").await.body.contains("coequal_documents{database=\"orders\"} 249"));
    let openapi = client.get("/openapi.json").await.json();
    assert!(openapi["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", openapi["openapi"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_databases_and_liveness_does_not() {
    let mut cluster = Cluster::with_orders(3).await;
    let client = cluster.nodes[0].client();
    assert_eq!(client.get("/readyz").await.status, 200);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    until("not ready without a majority", async || (client.get("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(client.get("/livez").await.status, 200);
    let read = client.get(&format!("{DOCUMENTS}/a")).await;
    assert_eq!(read.status, 503, "a node without contact does not pretend to be near: {read:?}");
}

/// Writes that wait for one another are carried out together. Each made a version of its own, and only the last one's
/// entity tag is that of the document now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tag_of_a_write_that_was_carried_out_with_others_does_not_stand_for_theirs() {
    let cluster = Cluster::with_orders(3).await;
    let client = cluster.nodes[0].client();
    let path = format!("{DOCUMENTS}/hot");
    assert_eq!(client.put(&path, "{}").await.status, 201);
    let stamp = |tag: &str| tag.trim_matches('"').split_once('-').map(|(_, stamp)| stamp.to_owned());
    let (older, current) = until("two writes of one stamp at the end", async || {
        let patch = [("content-type", "application/merge-patch+json")];
        let writes = (0..48).map(|n| {
            let (client, path) = (client.clone(), path.clone());
            async move { client.send(Method::PATCH, &path, &patch, format!("{{\"n{}\":{n}}}", n % 4)).await.etag }
        });
        let tags: Vec<String> = futures::future::join_all(writes).await.into_iter().flatten().collect();
        let current = client.get(&format!("{path}?consistency=linearizable")).await.etag?;
        let together = |tag: &&String| **tag != current && stamp(tag) == stamp(&current);
        tags.iter().find(together).map(|older| (older.clone(), current.clone()))
    })
    .await;
    for node in &cluster.nodes {
        let refused = node.client().send(Method::PUT, &path, &[JSON, ("if-match", &older)], "{}").await;
        assert_eq!((refused.status.as_u16(), refused.etag.as_ref()), (412, Some(&current)), "{refused:?}");
    }
    assert_eq!(client.send(Method::PUT, &path, &[JSON, ("if-match", &current)], "{}").await.status, 200);
}

/// A counter of a database in what a node exports.
fn counted(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{database=\"orders\"} "));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_the_log_and_the_time_they_take_are_counted() {
    let cluster = Cluster::with_orders(2).await;
    let begun = std::time::Instant::now();
    let client = cluster.nodes[0].client();
    let both =
        |text: &str| ["coequal_log_commits_total", "coequal_log_commit_seconds_total"].map(|name| counted(text, name));
    let before = both(&client.get("/metrics").await.body);
    for number in 0..20 {
        let path = format!("{DOCUMENTS}/n{number}");
        assert_eq!(client.put(&path, "{}").await.status, 201);
    }
    let after = both(&client.get("/metrics").await.body);
    let [commits, seconds] = [after[0] - before[0], after[1] - before[1]];
    assert!(commits >= 20.0, "each write was waited for: {commits}");
    assert!(seconds > 0.0 && seconds <= begun.elapsed().as_secs_f64() + 1.0, "{seconds} s in {commits} commits");
}
