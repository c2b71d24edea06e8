//! Connections: accepted up to a bound, HTTP/1.1 and HTTP/2 on one port, closed in order.

use super::authorization::OfThisCluster;
use crate::tls::{self, Tls};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait after a failed accept (no file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are bounded by.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, and may be silent between requests.
    pub header_read_timeout: Duration,
    /// How long requests may go on after the node was told to stop.
    pub drain_timeout: Duration,
    /// Certificates; without them HTTP is in the clear.
    pub tls: Option<Arc<Tls>>,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_read_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Serves until `shutdown` completes; then lets requests end, and cuts what is left after `drain_timeout`.
pub async fn serve<F: Future + Send>(
    listener: TcpListener,
    router: Router,
    settings: ConnectionSettings,
    shutdown: F,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(settings.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let stopping = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            _ = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, place) = accept(&listener, &places) => {
                let settings = settings.clone();
                let stopping = stopping.clone();
                connections.spawn(connection(stream, place, router.clone(), settings, (graceful.watcher(), stopping)));
            }
        }
    }
    drop(listener);
    stopping.cancel();
    let drained = tokio::time::timeout(settings.drain_timeout, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not end in time and are cut off");
    }
    connections.shutdown().await;
    Ok(())
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so a place always comes.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    router: Router,
    settings: ConnectionSettings,
    (watcher, stopping): (Watcher, CancellationToken),
) {
    let _place = place;
    let _ = stream.set_nodelay(true);
    let patience = settings.header_read_timeout;
    // Whoever has not said anything yet holds up no stop: clients open connections in store.
    let Some(tls) = &settings.tls else {
        let speaks = stopping.run_until_cancelled(tokio::time::timeout(patience, speaks_http2(&stream))).await;
        let Some(Ok(Ok(http2))) = speaks else { return };
        return answer(stream, http2, router, &settings, watcher).await;
    };
    match stopping.run_until_cancelled(tokio::time::timeout(patience, tls.accept_client(stream))).await {
        Some(Ok(Ok((stream, is_ours)))) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let router = if is_ours { router.layer(Extension(OfThisCluster)) } else { router };
            answer(stream, http2, router, &settings, watcher).await;
        }
        Some(Ok(Err(error))) => {
            let reason = tls::words(&error).unwrap_or_else(|| error.to_string());
            tracing::debug!(reason, "a client's TLS handshake failed");
        }
        Some(Err(_)) | None => {}
    }
}

async fn answer<S>(stream: S, http2: bool, router: Router, settings: &ConnectionSettings, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_buf_size(64 << 10)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(256)
        .max_header_list_size(64 << 10);
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::trace!(error = %error, "a connection ended early");
    }
}

/// Tells the two protocols apart without taking anything from the stream, so that a silent client is
/// bounded by a time-out in either case.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0u8; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut buffer).await?;
        let seen = buffer.get(..length).unwrap_or_default();
        if length == 0 || !HTTP2_PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if length == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
#[path = "serve_test.rs"]
mod tests;
