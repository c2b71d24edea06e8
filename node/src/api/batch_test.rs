//! Batches with a stand-in for the engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use coequal_protocol::{Ballot, Effect};
use coequal_types::{DatabaseId, NodeId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Remembers the windows; fails when two that share a key are under way at once.
#[derive(Clone, Default)]
struct Engine {
    windows: Arc<Mutex<Vec<Vec<String>>>>,
    under_way: Arc<Mutex<Vec<String>>>,
    most: Arc<Mutex<usize>>,
}

impl Engine {
    async fn write(self, writes: Writes) -> Results {
        let keys: Vec<String> = writes.iter().map(|(key, _)| key.document_key().to_owned()).collect();
        {
            let mut under_way = self.under_way.lock().unwrap();
            assert!(keys.iter().all(|key| !under_way.contains(key)), "a key is in two windows at once");
            under_way.extend(keys.iter().cloned());
            let mut most = self.most.lock().unwrap();
            *most = (*most).max(under_way.len());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.under_way.lock().unwrap().retain(|key| !keys.contains(key));
        let count = keys.len();
        self.windows.lock().unwrap().push(keys);
        let stamp = Ballot::ordinary(1, NodeId(1), 1);
        (0..count).map(|_| Ok(Written { version: 1, stamp, effect: Effect::Created })).collect()
    }
}

fn context() -> BatchContext {
    BatchContext {
        database: DatabaseId::from_u128(1),
        collection: "c".parse().unwrap(),
        name: WriteName { text: "b".into(), chosen: true },
        limit: Limit::document(100),
    }
}

async fn run_batch(engine: &Engine, chunks: Vec<Bytes>) -> Vec<serde_json::Value> {
    let body = Body::from_stream(futures::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>)));
    let lines = Lines::new(body.into_data_stream(), 200);
    let (results, mut waiting) = mpsc::channel(RESULTS_WAITING);
    let engine = engine.clone();
    let running = tokio::spawn(run(lines, context(), move |writes| engine.clone().write(writes), results));
    let mut out = Vec::new();
    while let Some(chunk) = waiting.recv().await {
        out.extend_from_slice(&chunk.unwrap());
    }
    running.await.unwrap();
    std::str::from_utf8(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn put(key: impl std::fmt::Display) -> String {
    format!("{{\"_key\":\"{key}\",\"n\":1}}\n")
}

#[tokio::test]
async fn results_come_in_the_order_of_the_lines_wherever_chunks_break() {
    let text: String = (0..1000).map(put).collect();
    for size in [1, 7, 4096, 1 << 20] {
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let engine = Engine::default();
        let results = run_batch(&engine, chunks).await;
        let keys: Vec<&str> = results.iter().map(|line| line["key"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..1000).map(|n: i32| n.to_string()).collect();
        assert_eq!(keys, expected, "chunks of {size}");
        assert!(engine.windows.lock().unwrap().iter().all(|window| window.len() <= WINDOW_LINES));
    }
}

/// Windows that are under way when a client takes no results any more end all the same: others wait for their turn.
#[tokio::test]
async fn a_window_ends_though_the_client_takes_no_results() {
    let text: String = (0..(RESULTS_WAITING + 10) * WINDOW_LINES).map(put).collect();
    let body = Body::from(text);
    let (results, waiting) = mpsc::channel(RESULTS_WAITING + 1);
    let engine = Engine::default();
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&engine.windows));
    let count = Arc::clone(&begun);
    let write = move |writes| {
        count.fetch_add(1, Ordering::SeqCst);
        engine.clone().write(writes)
    };
    let running = tokio::spawn(run(Lines::new(body.into_data_stream(), 200), context(), write, results));
    let all_that_began_ended = async {
        // What waits for the client, what is just being given to it, and what is under way behind that.
        while ended.lock().unwrap().len() < RESULTS_WAITING + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_that_began_ended).await.expect("all windows that began ended");
    assert_eq!(begun.load(Ordering::SeqCst), RESULTS_WAITING + 2, "and no more began");
    drop(waiting);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_client_that_takes_no_results_for_a_minute_is_broken_off() {
    let text: String = (0..(RESULTS_WAITING + 10) * WINDOW_LINES).map(put).collect();
    let (results, mut waiting) = mpsc::channel(RESULTS_WAITING + 1);
    let lines = Lines::new(Body::from(text).into_data_stream(), 200);
    let engine = Engine::default();
    run(lines, context(), move |writes| engine.clone().write(writes), results).await;
    let mut windows = Vec::new();
    while let Some(window) = waiting.recv().await {
        windows.push(window.is_ok());
    }
    assert_eq!(windows.pop(), Some(false), "the end says that it is not whole");
    assert_eq!(windows, vec![true; RESULTS_WAITING]);
}

#[tokio::test]
async fn two_windows_are_written_at_once_and_never_two_with_one_key() {
    let text: String = (0..2000).map(put).collect();
    let engine = Engine::default();
    run_batch(&engine, vec![Bytes::from(text)]).await;
    assert_eq!(*engine.most.lock().unwrap(), WINDOWS_IN_FLIGHT * WINDOW_LINES);
    let text: String = (0..2000).map(|n| put(n % 300)).collect();
    assert_eq!(run_batch(&Engine::default(), vec![Bytes::from(text)]).await.len(), 2000);
}

#[tokio::test]
async fn bad_lines_have_results_and_do_not_stop_the_rest() {
    let long = format!("{{\"_key\":\"long\",\"a\":\"{}\"}}\n", "x".repeat(5000));
    let text = format!("{}\n  \r\n[]\n{long}{}{{\"op\":\"delete\",\"key\":\"z\"}}", put("a"), put("b"));
    for size in [1, 50, 1 << 20] {
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let results = run_batch(&Engine::default(), chunks).await;
        let found: Vec<(u64, Option<u64>)> =
            results.iter().map(|line| (line["status"].as_u64().unwrap(), line["line"].as_u64())).collect();
        assert_eq!(found, [(201, None), (422, Some(4)), (413, Some(5)), (201, None), (204, None)], "chunks of {size}");
    }
}

#[tokio::test]
async fn an_empty_body_has_an_empty_answer() {
    assert!(run_batch(&Engine::default(), Vec::new()).await.is_empty());
    assert!(run_batch(&Engine::default(), vec![Bytes::from_static(b"\n\n")]).await.is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_after_the_results_before_it() {
    let chunks = vec![Ok(Bytes::from(put("a"))), Err(std::io::Error::other("gone"))];
    let lines = Lines::new(Body::from_stream(futures::stream::iter(chunks)).into_data_stream(), 200);
    let (results, mut waiting) = mpsc::channel(8);
    let engine = Engine::default();
    tokio::spawn(run(lines, context(), move |writes| engine.clone().write(writes), results));
    let mut out = Vec::new();
    while let Some(chunk) = waiting.recv().await {
        out.extend_from_slice(&chunk.unwrap());
    }
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().count() == 2 && text.contains("body-broken"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_gets_results_without_filling_a_window() {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let lines = Lines::new(Body::from_stream(ReceiverStream::new(receiver)).into_data_stream(), 200);
    let (results, mut waiting) = mpsc::channel(8);
    let engine = Engine::default();
    tokio::spawn(run(lines, context(), move |writes| engine.clone().write(writes), results));
    for key in ["a", "b"] {
        sender.send(Ok(Bytes::from(put(key)))).await.unwrap();
        let result = tokio::time::timeout(Duration::from_secs(1), waiting.recv()).await.unwrap().unwrap().unwrap();
        assert!(result.starts_with(format!("{{\"key\":\"{key}\"").as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_for_a_minute_is_told_and_let_go() {
    let (_sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let lines = Lines::new(Body::from_stream(ReceiverStream::new(receiver)).into_data_stream(), 200);
    let (results, mut waiting) = mpsc::channel(8);
    let engine = Engine::default();
    tokio::spawn(run(lines, context(), move |writes| engine.clone().write(writes), results));
    let result = waiting.recv().await.unwrap().unwrap();
    assert!(std::str::from_utf8(&result).unwrap().contains("body-timeout"));
    assert!(waiting.recv().await.is_none());
}

/// The answer begins before the body has ended; both directions go on at once.
#[tokio::test]
async fn a_batch_over_http_1_is_answered_while_it_is_sent() {
    use super::super::serve::{ConnectionSettings, serve};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let engine = Engine::default();
    let handler = move |body: Body| async move {
        let (results, waiting) = mpsc::channel(RESULTS_WAITING);
        let lines = Lines::new(body.into_data_stream(), 200);
        tokio::spawn(run(lines, context(), move |writes| engine.clone().write(writes), results));
        Body::from_stream(ReceiverStream::new(waiting))
    };
    let router = axum::Router::new().route("/", axum::routing::post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, ConnectionSettings::default(), std::future::pending::<()>()));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1 << 20];
    let mut length = 0;
    for at in 0..20 {
        let lines: String = (0..500).map(|n| put(at * 500 + n)).collect();
        writing.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).await.unwrap();
        let last = format!("\"key\":\"{}\"", at * 500 + 499);
        while !String::from_utf8_lossy(&answer[..length]).contains(&last) {
            let more = reading.read(&mut answer[length..]).await.unwrap();
            assert!(more > 0, "the answer ended after {at} chunks");
            length += more;
            answer.resize(answer.len().max(length + (1 << 16)), 0);
        }
    }
    writing.write_all(b"0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    reading.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n") || answer[..length].ends_with(b"0\r\n\r\n"));
}
