//! Retries and sessions: the same write never counts twice, and a client never reads back in time.

use coequal_tests::cluster::{Cluster, until};
use reqwest::Method;
use serde_json::Value;

const C: &str = "/v1/databases/orders/collections/things/documents";
const JSON: (&str, &str) = ("content-type", "application/json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_without_a_key_is_one_document_however_often_it_is_sent() {
    let cluster = Cluster::with_orders(3).await;
    let mut keys = Vec::new();
    for node in &cluster.nodes {
        let headers = [JSON, ("idempotency-key", "basket-17")];
        let answer = node.client().send(Method::POST, C, &headers, "{\"n\":1}").await;
        assert_eq!(answer.status, 201, "{answer:?}");
        keys.push(answer.json()["_key"].as_str().expect("_key").to_owned());
    }
    keys.dedup();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(cluster.until_equal("things").await.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_sent_again_changes_nothing() {
    let cluster = Cluster::with_orders(3).await;
    let lines: String =
        (0..300).map(|n| format!("{{\"op\":\"put\",\"key\":\"k{n:03}\",\"document\":{{\"n\":{n}}}}}\n")).collect();
    let headers = [NDJSON, ("idempotency-key", "load-1")];
    let mut answers = Vec::new();
    for node in &cluster.nodes {
        let answer = node.client().send(Method::POST, &format!("{C}:batch"), &headers, lines.clone()).await;
        answers.push(answer.body);
    }
    assert_eq!(answers[0].lines().count(), 300);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "every retry has the first results");
    let export = cluster.until_equal("things").await;
    assert!(export.lines().all(|line| line.contains("\"_version\":1,")), "nothing was written twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_finds_its_write_after_its_coordinator_died() {
    let mut cluster = Cluster::with_orders(3).await;
    let headers = [JSON, ("idempotency-key", "pay-1")];
    let first = cluster.nodes[0].client().send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":1}").await;
    assert_eq!(first.status, 201, "{first:?}");
    cluster.nodes[0].kill();
    let client = cluster.nodes[1].client();
    for n in 2..8 {
        assert!(client.put(&format!("{C}/a"), &format!("{{\"n\":{n}}}")).await.status.is_success());
    }
    let again = cluster.nodes[2].client().send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":1}").await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(again.json()["_version"].as_u64(), Some(1), "the first result, not a new write: {again:?}");
    assert_eq!(again.etag, first.etag, "{again:?}");
    let other = client.send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":9}").await;
    assert_eq!(other.status, 422, "another body under the same name is no retry: {other:?}");
    let read = client.get(&format!("{C}/a?consistency=linearizable")).await;
    assert_eq!(read.json()["n"].as_u64(), Some(7), "{read:?}");
}

/// The coordinator has sent its accept to nobody who answers, and dies: nobody knows, until somebody asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_found_out_at_another_node_after_the_coordinator_died() {
    for (round, named) in [(0, true), (1, false), (2, true)] {
        let mut cluster = Cluster::with_orders(3).await;
        let path = format!("{C}/u");
        // The second write of a document by one node goes out in one round: an accept at once.
        assert_eq!(cluster.nodes[0].client().put(&path, "{\"n\":1}").await.status, 201);
        [1, 2].iter().for_each(|at| cluster.nodes[*at].signal(libc::SIGSTOP));
        let name = format!("pay-{round}");
        let mut headers = vec![JSON, ("coequal-deadline-ms", "400")];
        if named {
            headers.push(("idempotency-key", name.as_str()));
        }
        let first = cluster.nodes[0].client().send(Method::PUT, &path, &headers, "{\"n\":2}").await;
        assert_eq!((first.status.as_u16(), &first.json()["outcome"]), (503, &Value::from("unknown")), "{first:?}");
        let id = first.json()["requestId"].as_str().expect("an id to ask again with").to_owned();
        cluster.nodes[0].kill();
        [1, 2].iter().for_each(|at| cluster.nodes[*at].signal(libc::SIGCONT));
        let retry = [JSON, ("idempotency-key", id.as_str())];
        let again = until("the retry is answered", async || {
            let client = cluster.nodes[1].client();
            let answer = client.try_send(Method::PUT, &path, &retry, "{\"n\":2}").await.ok()?;
            answer.status.is_success().then_some(answer)
        })
        .await;
        assert_eq!(again.json()["_version"], 2, "done once, then or now: {again:?}");
        let other = cluster.nodes[2].client().put(&path, "{\"n\":3}").await;
        assert_eq!(other.json()["_version"], 3, "{other:?}");
        cluster.nodes[0].start();
        cluster.until_online("orders").await;
        for node in &cluster.nodes {
            let answer = node.client().send(Method::PUT, &path, &retry, "{\"n\":2}").await;
            assert_eq!((answer.json()["_version"].as_u64(), &answer.etag), (Some(2), &again.etag), "{}", node.name);
        }
        let read = cluster.nodes[0].client().get(&format!("{path}?consistency=linearizable")).await;
        assert_eq!((read.json()["n"].as_u64(), read.json()["_version"].as_u64()), (Some(3), Some(3)), "{read:?}");
    }
}

/// The promised life of a name is the last 16 writes of its document; and a conditional write needs no name for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_found_after_sixteen_other_writes_and_a_conditional_one_is_never_done_twice() {
    let cluster = Cluster::with_orders(3).await;
    let headers = [JSON, ("idempotency-key", "pay-1"), ("if-none-match", "*")];
    let first = cluster.nodes[0].client().send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":0}").await;
    assert_eq!(first.status, 201, "{first:?}");
    for n in 1..=16 {
        let client = cluster.nodes[n % 3].client();
        assert!(client.put(&format!("{C}/a"), &format!("{{\"n\":{n}}}")).await.status.is_success());
        let again =
            cluster.nodes[(n + 1) % 3].client().send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":0}").await;
        assert_eq!((again.status.as_u16(), &again.etag), (201, &first.etag), "after {n}: {again:?}");
    }
    for n in 17..=60 {
        let client = cluster.nodes[n % 3].client();
        assert!(client.put(&format!("{C}/a"), &format!("{{\"n\":{n}}}")).await.status.is_success());
    }
    let late = cluster.nodes[1].client().send(Method::PUT, &format!("{C}/a"), &headers, "{\"n\":0}").await;
    assert_eq!(late.status, 412, "forgotten, and refused rather than done again: {late:?}");
    let read = cluster.nodes[0].client().get(&format!("{C}/a?consistency=linearizable")).await;
    assert_eq!((read.json()["n"].as_u64(), read.json()["_version"].as_u64()), (Some(60), Some(61)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_is_retried_is_done_once() {
    let cluster = Cluster::with_orders(3).await;
    let [a, b] = [0, 1].map(|at| cluster.nodes[at].client());
    assert_eq!(a.put(&format!("{C}/a"), "{}").await.status, 201);
    let headers = [("idempotency-key", "drop-1")];
    assert_eq!(a.send(Method::DELETE, &format!("{C}/a"), &headers, "").await.status, 204);
    assert_eq!(b.put(&format!("{C}/a"), "{\"again\":true}").await.status, 201);
    assert_eq!(b.send(Method::DELETE, &format!("{C}/a"), &headers, "").await.status, 204, "the first result");
    assert_eq!(a.get(&format!("{C}/a?consistency=linearizable")).await.status, 200, "the new document is untouched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reads_its_own_writes_on_every_node_and_never_older_ones() {
    let cluster = Cluster::with_orders(3).await;
    let clients: Vec<_> = cluster.nodes.iter().map(|node| node.client()).collect();
    let mut session = String::new();
    for n in 1..=200u64 {
        let at = n as usize % 3;
        let mut headers = vec![JSON];
        if !session.is_empty() {
            headers.push(("coequal-session", session.as_str()));
        }
        let written = clients[at].send(Method::PUT, &format!("{C}/s"), &headers, format!("{{\"n\":{n}}}")).await;
        assert!(written.status.is_success(), "{written:?}");
        session = written.session.expect("a token in every answer of a write");
        let read =
            clients[(at + 1) % 3].send(Method::GET, &format!("{C}/s"), &[("coequal-session", &session)], "").await;
        assert_eq!((read.status.as_u16(), read.json()["n"].as_u64()), (200, Some(n)), "{read:?}");
        session = read.session.expect("a token in every answer of a read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linearizable_reads_see_every_finished_write_at_once_and_local_reads_soon() {
    let cluster = Cluster::with_orders(3).await;
    let clients: Vec<_> = cluster.nodes.iter().map(|node| node.client()).collect();
    for n in 1..=100u64 {
        let at = n as usize % 3;
        assert!(clients[at].put(&format!("{C}/l"), &format!("{{\"n\":{n}}}")).await.status.is_success());
        let read = clients[(at + 2) % 3].get(&format!("{C}/l?consistency=linearizable")).await;
        assert_eq!(read.json()["n"].as_u64(), Some(n), "{read:?}");
    }
    for client in &clients {
        until("a local read has the last value", async || {
            let read = client.get(&format!("{C}/l?consistency=local")).await;
            let value: Value = serde_json::from_str(&read.body).ok()?;
            (value["n"] == 100).then_some(())
        })
        .await;
    }
}
