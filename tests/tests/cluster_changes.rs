//! The change feed as clients see it: whole, behind a cursor, followed, as server-sent events, and when it is void.

use coequal_tests::client::Client;
use coequal_tests::cluster::{Cluster, PATIENCE, until};
use reqwest::Method;
use serde_json::Value;

const CHANGES: &str = "/v1/databases/orders/changes";
const C: &str = "/v1/databases/orders/collections/things/documents";

fn entries(text: &str) -> Vec<Value> {
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
}

fn keys(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["key"].as_str().expect("key")).collect()
}

/// Reads a stream until it has said `word`.
async fn read_until(response: &mut reqwest::Response, word: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains(word) {
            let chunk = response.chunk().await.expect("the stream goes on").expect("the stream does not end");
            text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{word} did not come"));
    text
}

async fn open(client: &Client, path: &str, accept: &str) -> reqwest::Response {
    let request = coequal_tests::client::builder()
        .build()
        .expect("client")
        .get(format!("{}{path}", client.url))
        .header("accept", accept);
    let response = request.send().await.expect("answers");
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_leads_on_and_only_the_newest_state_of_each_document_stays() {
    let cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    for key in ["a", "b", "c"] {
        assert_eq!(client.put(&format!("{C}/{key}"), "{\"n\":1}").await.status, 201);
    }
    let first = entries(&client.get(&format!("{CHANGES}?limit=2")).await.body);
    assert_eq!(keys(&first), ["a", "b"]);
    let cursor = first[1]["cursor"].as_str().expect("cursor").to_owned();
    assert_eq!(client.put(&format!("{C}/a"), "{\"n\":2.50}").await.status, 200);
    assert_eq!(client.delete(&format!("{C}/b")).await.status, 204);
    let rest = entries(&client.get(&format!("{CHANGES}?since={cursor}")).await.body);
    assert_eq!(keys(&rest), ["c", "a", "b"]);
    assert_eq!((rest[1]["version"].as_u64(), rest[1]["deleted"].as_bool()), (Some(2), Some(false)));
    assert_eq!(rest[1]["document"]["n"].as_f64(), Some(2.5));
    assert!(rest[2]["deleted"] == true && rest[2].get("document").is_none(), "{}", rest[2]);
    let all = entries(&client.get(CHANGES).await.body);
    assert_eq!(keys(&all), ["c", "a", "b"], "the feed is bounded by the number of documents");
    let last = all[2]["cursor"].as_str().expect("cursor");
    assert_eq!(client.get(&format!("{CHANGES}?since={last}")).await.body.trim(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_sees_writes_through_other_nodes() {
    let cluster = Cluster::with_orders(3).await;
    let (writer, reader) = (cluster.nodes[0].client(), cluster.nodes[2].client());
    let mut lines = open(&reader, &format!("{CHANGES}?follow=true"), "application/x-ndjson").await;
    let mut events = open(&reader, CHANGES, "text/event-stream").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    for n in 0..20 {
        assert_eq!(writer.put(&format!("{C}/k{n}"), "{}").await.status, 201);
    }
    let text = read_until(&mut lines, "\"k19\"").await;
    assert_eq!(entries(&text).len(), 20, "{text}");
    let text = read_until(&mut events, "\"k19\"").await;
    let id = text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    assert_eq!(text.matches("data: {").count(), 20, "{text}");
    let headers = [("accept", "text/event-stream"), ("last-event-id", id.as_str())];
    let resumed = reader.send(Method::GET, &format!("{CHANGES}?follow=false"), &headers, "").await;
    assert_eq!(resumed.body.matches("data: {").count(), 19, "a browser resumes behind the last event: {resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_another_node_is_void_and_says_so() {
    let cluster = Cluster::with_orders(3).await;
    let [a, b] = [0, 1].map(|at| cluster.nodes[at].client());
    assert_eq!(a.put(&format!("{C}/a"), "{}").await.status, 201);
    cluster.until_equal("things").await;
    let cursor = until("an entry", async || {
        entries(&a.get(CHANGES).await.body).last().map(|entry| entry["cursor"].as_str().expect("cursor").to_owned())
    })
    .await;
    let void = b.get(&format!("{CHANGES}?since={cursor}")).await;
    assert_eq!(void.status, 410, "{void:?}");
    assert_eq!(void.json()["type"], "urn:coequal:error:cursor-void", "{void:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_outlives_kill_9_of_its_node() {
    let mut cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    assert_eq!(client.put(&format!("{C}/a"), "{}").await.status, 201);
    let cursor = entries(&client.get(CHANGES).await.body)[0]["cursor"].as_str().expect("cursor").to_owned();
    assert_eq!(client.put(&format!("{C}/b"), "{}").await.status, 201);
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.until_online("orders").await;
    let client = cluster.nodes[0].client();
    let rest = client.get(&format!("{CHANGES}?since={cursor}")).await;
    assert_eq!(rest.status, 200, "{rest:?}");
    assert!(keys(&entries(&rest.body)).contains(&"b"), "{rest:?}");
}
