//! Connections over real sockets, with handlers that need no engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

async fn start(settings: ConnectionSettings) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "here" })).route(
        "/slow",
        get(|| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            "late"
        }),
    );
    let (stop, stopped) = oneshot::channel();
    (address, stop, tokio::spawn(serve(listener, router, settings, stopped)))
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_1_requests_are_answered() {
    let (address, _stop, _server) = start(ConnectionSettings::default()).await;
    let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("here"), "{answer}");
}

#[tokio::test]
async fn an_http_2_preface_is_answered_with_settings_even_in_pieces() {
    let (address, _stop, _server) = start(ConnectionSettings::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&HTTP2_PREFACE[..7]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(&HTTP2_PREFACE[7..]).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut head = [0u8; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
}

#[tokio::test]
async fn a_silent_or_slow_client_is_cut_off() {
    let settings = ConnectionSettings { header_read_timeout: Duration::from_millis(100), ..Default::default() };
    let (address, _stop, _server) = start(settings).await;
    for start in [&b""[..], b"PRI * HTTP", b"GET / HTTP/1.1\r\nHost:"] {
        let began = Instant::now();
        exchange(address, start).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{start:?}");
    }
}

#[tokio::test]
async fn requests_under_way_end_before_the_server_does() {
    let (address, stop, server) = start(ConnectionSettings::default()).await;
    let request = tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(request.await.unwrap().ends_with("late"));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let settings = ConnectionSettings { drain_timeout: Duration::from_millis(20), ..Default::default() };
    let (address, stop, server) = start(settings).await;
    let request = tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(!request.await.unwrap().contains("late"));
}

#[tokio::test]
async fn connections_above_the_bound_wait() {
    let settings = ConnectionSettings { connections_max: 1, ..Default::default() };
    let (address, _stop, _server) = start(settings).await;
    let held = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let close = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let second = tokio::spawn(async move { exchange(address, close).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    drop(held);
    assert!(second.await.unwrap().ends_with("here"));
}

/// A client that, like many, sends its whole body before it reads the answer.
async fn send_then_read(address: SocketAddr, head: &str, body_bytes: usize) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    let block = vec![b'x'; 64 << 10];
    for _ in 0..body_bytes / block.len() {
        stream.write_all(&block).await?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Simple clients sent a large body, met a closed connection in the middle of it, and never saw why they
/// were refused: the answer was there, but unread bytes made the kernel reset the connection.
#[tokio::test]
async fn a_client_that_sends_a_body_that_is_too_large_still_reads_the_refusal() {
    use super::super::{ApiSettings, body, problem::Refusal, router::with_shell, shell::Shell};
    let settings = ApiSettings::default();
    let shell = Arc::new(Shell::new(&"a".parse().unwrap(), coequal_types::NodeId(1), &settings));
    let handler = |headers: http::HeaderMap, body: axum::body::Body| async move {
        let deadline = Instant::now() + Duration::from_secs(5);
        body::read(&headers, body, body::Limit::document(1 << 20), 0, deadline).await.map_err(Refusal::from)
    };
    let router = with_shell(Router::new().route(super::super::paths::NODE, axum::routing::put(handler)), shell);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, ConnectionSettings::default(), std::future::pending::<()>()));
    let bytes = 12 << 20;
    for path in ["/v1/node", "/v1/nothing"] {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
        let answer = send_then_read(address, &head, bytes).await.expect(path);
        assert!(answer.contains("application/problem+json"), "{path}: {answer}");
    }
}

/// Clients open connections in store; one of them once held up the end of a process until it was killed.
#[tokio::test]
async fn a_connection_on_which_nothing_was_said_holds_up_no_stop() {
    let (address, stop, server) = start(ConnectionSettings::default()).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    // Answered, so the one before it has been accepted too.
    let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("here"), "{answer}");
    let begun = Instant::now();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(begun.elapsed() < ConnectionSettings::default().drain_timeout / 2, "{:?}", begun.elapsed());
}

/// A node of the cluster speaks HTTP over TLS to this one, and needs no token; in the clear nobody is answered.
#[tokio::test]
async fn over_tls_a_certificate_of_the_cluster_is_known() {
    let (_files, tls) = crate::tls::tests::some_node();
    let tls = Arc::new(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let is_known =
        |known: Option<Extension<OfThisCluster>>| async move { if known.is_some() { "ours" } else { "any" } };
    let router = Router::new().route("/", get(is_known));
    let settings = ConnectionSettings { tls: Some(Arc::clone(&tls)), ..ConnectionSettings::default() };
    tokio::spawn(serve(listener, router, settings, std::future::pending::<()>()));
    let mut stream = tls.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ours"), "{answer}");
    let in_the_clear = exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!in_the_clear.contains("HTTP/1.1 200"), "{in_the_clear}");
}
