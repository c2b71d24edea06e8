//! Every endpoint and every kind of refusal, as one table: request, status, type of the problem.

use coequal_tests::client::Client;
use coequal_tests::cluster::Cluster;
use reqwest::Method;
use serde_json::Value;

const DB: &str = "/v1/databases/orders";
const C: &str = "/v1/databases/orders/collections/things";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Method, path, headers, body; expected status; name of the problem ("" for a success).
type Row<'a> = (&'a str, String, Vec<(&'a str, &'a str)>, String, u16, &'a str);

fn row<'a>(method: &'a str, path: &str, body: &str, status: u16, problem: &'a str) -> Row<'a> {
    let headers = if body.is_empty() { vec![] } else { vec![JSON] };
    (method, path.to_owned(), headers, body.to_owned(), status, problem)
}

fn with<'a>(mut row: Row<'a>, header: (&'a str, &'a str)) -> Row<'a> {
    row.2.retain(|(name, _)| *name != header.0);
    row.2.push(header);
    row
}

async fn run(client: &Client, rows: Vec<Row<'_>>) {
    let mut faults = Vec::new();
    for (method, path, headers, body, status, problem) in rows {
        let shown = format!("{method} {} {headers:?} {}", cut(&path), cut(&body));
        let answer = client.send(method.parse::<Method>().expect("method"), &path, &headers, body).await;
        let kind = serde_json::from_str::<Value>(&answer.body).unwrap_or_default()["type"].clone();
        let expected = if problem.is_empty() { Value::Null } else { format!("urn:coequal:error:{problem}").into() };
        if answer.status.as_u16() != status || kind != expected {
            faults.push(format!(
                "{shown}\n    expected {status} {problem}\n    got {} {}",
                answer.status,
                cut(&answer.body)
            ));
        } else if !problem.is_empty() {
            let json = answer.json();
            let complete = json["status"] == status
                && json["title"].as_str().is_some_and(|title| !title.is_empty())
                && json["detail"].as_str().is_some_and(|detail| detail.len() > 10);
            if !complete {
                faults.push(format!("{shown}\n    incomplete problem {json}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} rows differ:\n{}", faults.len(), faults.join("\n"));
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_answers_as_documented() {
    let cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    let document = format!("{C}/documents/a");
    let rows = vec![
        row("GET", "/", "", 200, ""),
        row("GET", "/livez", "", 200, ""),
        row("GET", "/readyz?verbose", "", 200, ""),
        row("GET", "/metrics", "", 200, ""),
        row("GET", "/openapi.json", "", 200, ""),
        row("GET", "/v1/node", "", 200, ""),
        row("GET", "/v1/cluster", "", 200, ""),
        row("POST", "/v1/cluster/initialize", "", 200, ""),
        row("GET", "/v1/databases", "", 200, ""),
        row("PUT", "/v1/databases/second", "{\"hotAlignment\":false}", 201, ""),
        row("PUT", "/v1/databases/second", "{\"hotAlignment\":false}", 200, ""),
        row("PUT", "/v1/databases/second", "{}", 409, "conflict"),
        row("GET", DB, "", 200, ""),
        row("GET", &format!("{DB}/replication"), "", 200, ""),
        row("PATCH", &format!("{DB}/configuration"), "{\"readQuorum\":\"majority\"}", 200, ""),
        row("PATCH", &format!("{DB}/configuration"), "{\"readQuorum\":1}", 200, ""),
        row("GET", &format!("{DB}/collections"), "", 200, ""),
        row("PUT", &format!("{DB}/collections/made"), "", 201, ""),
        row("PUT", &format!("{DB}/collections/made"), "", 200, ""),
        row("GET", &format!("{DB}/collections/made/documents"), "", 200, ""),
        row("GET", &format!("{DB}/collections/made/export"), "", 200, ""),
        row("DELETE", &format!("{DB}/collections/made"), "", 204, ""),
        row("DELETE", &format!("{DB}/collections/made"), "", 404, "not-found"),
        row("PUT", &document, "{\"n\":1}", 201, ""),
        row("PUT", &document, "{\"n\":2}", 200, ""),
        row("GET", &document, "", 200, ""),
        row("GET", &format!("{document}?consistency=local"), "", 200, ""),
        row("GET", &format!("{document}?consistency=linearizable"), "", 200, ""),
        row("HEAD", &document, "", 200, ""),
        row("PATCH", &document, "{\"m\":null,\"o\":{}}", 200, ""),
        row("POST", &format!("{C}/documents"), "{\"n\":3}", 201, ""),
        row("POST", &format!("{C}/documents"), "{\"_key\":\"b\"}", 201, ""),
        row("POST", &format!("{C}/documents"), "{\"_key\":\"b\"}", 409, "document-exists"),
        row("POST", &format!("{C}/documents:batch"), "{\"_key\":\"c\"}\n{\"op\":\"delete\",\"key\":\"c\"}\n", 200, ""),
        row("GET", &format!("{C}/documents?prefix=a&limit=1"), "", 200, ""),
        row("GET", &format!("{C}/documents?start=b"), "", 200, ""),
        row("GET", &format!("{C}/export"), "", 200, ""),
        row("GET", &format!("{DB}/changes?limit=2"), "", 200, ""),
        row("DELETE", &document, "", 204, ""),
        row("DELETE", &document, "", 404, "document-not-found"),
        row("PATCH", &document, "{}", 404, "document-not-found"),
        row("DELETE", &format!("{DB}/collections/things"), "", 409, "conflict"),
        row("DELETE", &format!("{DB}/collections/things?documents=true"), "", 204, ""),
        row("GET", &format!("{C}/documents"), "", 404, "collection-not-found"),
        row("POST", &format!("{DB}/nodes/n0/deploy"), "", 202, ""),
        row("POST", &format!("{DB}/nodes/nobody/deploy"), "", 404, "not-found"),
        row("DELETE", &format!("{DB}/nodes/n0"), "", 409, "conflict"),
        row("DELETE", "/v1/cluster/nodes/nobody", "", 404, "not-found"),
        row("POST", "/v1/cluster/nodes", "{\"peerAddress\":\"nowhere\"}", 422, "body-not-acceptable"),
        row("DELETE", "/v1/databases/second", "", 400, "uuid-required"),
        row("DELETE", "/v1/databases/second?uuid=x", "", 400, "malformed-query"),
        row("DELETE", "/v1/databases/second?uuid=00000000-0000-4000-8000-000000000000", "", 409, "wrong-uuid"),
        row("OPTIONS", &document, "", 204, ""),
    ];
    run(&client, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_input_is_refused_by_name_and_odd_documents_survive() {
    let cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    let document = format!("{C}/documents/a");
    let (put, get) =
        (row("PUT", &document, "{}", 400, "malformed-header"), row("GET", &document, "", 400, "malformed-header"));
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let rows = vec![
        row("PUT", &document, "{\"a\":1e400,\"b\":-0.10,\"c\":123456789012345678901234567890}", 201, ""),
        row("PUT", &document, &nested(128), 200, ""),
        row("PUT", &document, &nested(129), 422, "document-not-acceptable"),
        row("PUT", &document, "{\"a\":{\"b\":1,\"b\":2}}", 422, "document-not-acceptable"),
        row("PUT", &document, "{\"a\":1,\"\\u0061\":2}", 422, "document-not-acceptable"),
        row("PUT", &document, "{\"_version\":9,\"_stamp\":\"x\",\"_key\":\"a\"}", 200, ""),
        row("PUT", &document, "{\"_secret\":1}", 422, "document-not-acceptable"),
        row("PUT", &document, "{\"_key\":\"b\"}", 422, "document-not-acceptable"),
        row("PUT", &document, "null", 422, "document-not-acceptable"),
        row("PUT", &document, "{\"a\":\"\\ud800\"}", 400, "malformed-body"),
        row("PUT", &document, "{\"a\":NaN}", 400, "malformed-body"),
        row("PUT", &document, "{}{}", 400, "malformed-body"),
        row("PUT", &document, "\u{feff}{}", 400, "malformed-body"),
        row("PUT", &document, "", 400, "malformed-body"),
        row("PUT", &format!("{C}/documents/{}", "k".repeat(512)), "{}", 201, ""),
        row("PUT", &format!("{C}/documents/{}", "k".repeat(513)), "{}", 400, "malformed-name"),
        row("PUT", &format!("{C}/documents/%F0%9F%A6%80%20%2F..%3F"), "{}", 201, ""),
        row("GET", &format!("{C}/documents/%F0%9F%A6%80%20%2F..%3F"), "", 200, ""),
        row("PUT", &format!("{C}/documents/%0A"), "{}", 400, "malformed-name"),
        row("PUT", &format!("{C}/documents/%FF"), "{}", 400, "malformed-path"),
        row("PUT", &format!("{C}/documents/%zz"), "{}", 400, "malformed-path"),
        row("PUT", &format!("{DB}/collections/Things/documents/a"), "{}", 400, "malformed-name"),
        row("PUT", &format!("{DB}/collections/_databases/documents/a"), "{}", 400, "malformed-name"),
        row("GET", "/v1/databases/_system", "", 400, "malformed-name"),
        row("GET", "/v1/databases/absent", "", 404, "database-not-found"),
        row("GET", "/v1/databases/absent/collections/c/documents/a", "", 404, "database-not-found"),
        row("GET", &format!("{DB}/collections/absent/documents/a"), "", 404, "collection-not-found"),
        row("GET", &format!("{C}/documents/absent"), "", 404, "document-not-found"),
        row("GET", &format!("{document}?consistency=eventual"), "", 400, "malformed-query"),
        row("GET", &format!("{document}?consistancy=local"), "", 400, "malformed-query"),
        row("GET", &format!("{C}/documents?limit=0"), "", 400, "malformed-query"),
        row("GET", &format!("{C}/documents?limit=1&limit=2"), "", 400, "malformed-query"),
        row("GET", &format!("{C}/documents?cursor=xyz"), "", 400, "malformed-query"),
        row("GET", &format!("{DB}/changes?since=abc"), "", 400, "malformed-query"),
        row("GET", "/v2", "", 404, "path-not-found"),
        row("PUT", "/livez", "{}", 405, "method-not-allowed"),
        row("POST", &document, "{}", 405, "method-not-allowed"),
        with(put.clone(), ("if-match", "nonsense")),
        with(put.clone(), ("idempotency-key", "")),
        with(put.clone(), ("idempotency-key", "with space")),
        with(put.clone(), ("coequal-deadline-ms", "0")),
        with(put.clone(), ("coequal-session", "nonsense")),
        with(get, ("coequal-session", "nonsense")),
        with(row("PUT", &document, "{}", 415, "unsupported-media-type"), ("content-type", "text/plain")),
        with(row("PUT", &document, "{}", 415, "unsupported-media-type"), ("content-encoding", "gzip")),
        with(row("PUT", &document, "{}", 412, "precondition-failed"), ("if-none-match", "*")),
        with(row("PUT", &format!("{C}/documents/new"), "{}", 412, "precondition-failed"), ("if-match", "*")),
        row("PUT", "/v1/databases/other", "{\"writeQuorum\":2}", 422, "not-acceptable"),
        row("PUT", "/v1/databases/other", "{\"writeQuorum\":\"most\"}", 422, "body-not-acceptable"),
        row("PUT", "/v1/databases/other", "{\"autoDeploi\":true}", 422, "body-not-acceptable"),
        row("PUT", "/v1/databases/other", "[", 400, "malformed-body"),
    ];
    run(&client, rows).await;
    let numbers = format!("{C}/documents/numbers");
    let text = "{\"a\":1e400,\"b\":-0.10,\"c\":123456789012345678901234567890,\"d\":\"\\u00e9 \u{1F980}\"}";
    assert_eq!(client.put(&numbers, text).await.status, 201);
    let read = client.get(&numbers).await.body;
    for part in ["\"a\":1e400", "\"b\":-0.10", "\"c\":123456789012345678901234567890", "\u{1F980}"] {
        assert!(read.contains(part), "{part} in {read}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_limited_and_the_limit_is_named() {
    let cluster = Cluster::with_database(1, "orders", "{}", &["--document-bytes-max", "4096"]).await;
    let client = cluster.nodes[0].client();
    let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let line = |bytes: usize| format!("{{\"_key\":\"big\",\"a\":\"{}\"}}\n{{\"_key\":\"small\"}}\n", "x".repeat(bytes));
    run(
        &client,
        vec![
            row("PUT", &format!("{C}/documents/a"), &sized(4096), 201, ""),
            row("PUT", &format!("{C}/documents/a"), &sized(4097), 413, "too-large"),
            row("PUT", &format!("{C}/documents/a"), &sized(5 << 20), 413, "too-large"),
        ],
    )
    .await;
    let headers = [("content-type", "application/x-ndjson")];
    for bytes in [5_000, 100_000, 3 << 20] {
        let answer = client.send(Method::POST, &format!("{C}/documents:batch"), &headers, line(bytes)).await;
        let statuses: Vec<u64> = answer.body.lines().map(status_of).collect();
        assert!(statuses[0] == 413 && matches!(statuses[1], 200 | 201), "{bytes}: {answer:?}");
    }
}

/// A patch is small and what it makes may not be: without a check of the result, a document grows past every limit,
/// and past what a frame between nodes holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_cannot_grow_a_document_over_the_limit() {
    let cluster = Cluster::with_database(1, "orders", "{}", &["--document-bytes-max", "4096"]).await;
    let client = cluster.nodes[0].client();
    let path = format!("{C}/documents/a");
    let mut last = client.put(&path, "{}").await.status.as_u16();
    for member in 0..8 {
        let patch = format!("{{\"m{member}\":\"{}\"}}", "x".repeat(1000));
        last = client.send(Method::PATCH, &path, &[JSON], patch).await.status.as_u16();
    }
    assert!(matches!(last, 413 | 422), "eight members of 1000 bytes in a document of at most 4096: {last}");
    assert!(client.get(&path).await.body.len() < 4096 + 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_are_refused_a_mebibyte_is_the_default_limit_and_the_node_lives_on() {
    let cluster = Cluster::with_orders(1).await;
    let client = cluster.nodes[0].client();
    let document = format!("{C}/documents/a");
    let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let rows = vec![
        row("PUT", &format!("{C}/documents/a%00b"), "{}", 400, "malformed-name"),
        row("GET", "/v1/databases/Nope", "", 400, "malformed-name"),
        row("PUT", "/v1/databases/_system/collections/nodes/documents/a", "{}", 400, "malformed-name"),
        row("PUT", &document, "[]", 422, "document-not-acceptable"),
        row("PUT", &document, "{", 400, "malformed-body"),
        row("PUT", &document, "{\"a\":1,\"a\":2}", 422, "document-not-acceptable"),
        row("PUT", &document, &sized((1 << 20) + 1), 413, "too-large"),
        row("PUT", &document, &sized(1 << 20), 201, ""),
        row("PUT", "/v1/databases/other", "{\"writeQuorum\":7}", 422, "not-acceptable"),
        row("GET", "/livez", "", 200, ""),
    ];
    run(&client, rows).await;
}

fn status_of(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).expect("NDJSON")["status"].as_u64().expect("status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preconditions_follow_the_standard() {
    let cluster = Cluster::with_orders(3).await;
    let [a, b] = [0, 1].map(|at| cluster.nodes[at].client());
    let path = format!("{C}/documents/p");
    let created = a.send(Method::PUT, &path, &[JSON, ("if-none-match", "*")], "{\"n\":1}").await;
    assert_eq!(created.status, 201, "{created:?}");
    let etag = created.etag.clone().expect("etag");
    let unchanged = a.send(Method::GET, &path, &[("if-none-match", &etag)], "").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.as_str()), (304, ""), "{unchanged:?}");
    let changed = b.send(Method::PUT, &path, &[JSON, ("if-match", &etag)], "{\"n\":2}").await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let stale = a.send(Method::DELETE, &path, &[("if-match", &etag)], "").await;
    assert_eq!((stale.status.as_u16(), stale.json()["version"].as_u64()), (412, Some(2)), "{stale:?}");
    assert_eq!(stale.etag, changed.etag, "412 carries the present tag");
    let current = changed.etag.expect("etag");
    assert_eq!(b.send(Method::DELETE, &path, &[("if-match", &current)], "").await.status, 204);
    let gone = a.send(Method::PUT, &path, &[JSON, ("if-match", &current)], "{}").await;
    assert_eq!(gone.status, 412, "{gone:?}");
}
