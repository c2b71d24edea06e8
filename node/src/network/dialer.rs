//! Keeps one connection to one peer standing and sends over it. Two of these run for each peer.
//!
//! ```text
//!  no address ──> dialing ──hello──> sending
//!                  ^   │ failed         │ closed, stalled, moved, newer incarnation, other cluster
//!                  │   v                │
//!                  pausing <────────────┘
//! ```

use super::NetworkEvent;
use super::codec::{FRAME_BYTES_MAX, append_frame};
use super::connection::{Connection, FrameReader, FrameWriter, within};
use super::error::ConnectionError;
use super::hello::{ChannelKind, Hello, PROTOCOL_VERSIONS, RefusalKind};
use super::queue::Item;
use super::shared::{Lane, Peer, Shared};
use super::transport::connect;
use super::wire::append_parcel;
use bytes::BytesMut;
use coequal_types::{ClusterId, Incarnation};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// A frame's buffer is kept for the next one up to this size.
const SPARE_BUFFER_BYTES: usize = 1024 * 1024;

pub(super) struct Dialer {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    kind: ChannelKind,
    address: watch::Receiver<Option<String>>,
    heard: watch::Receiver<Incarnation>,
    cluster: watch::Receiver<Option<ClusterId>>,
    failures: u32,
    last_failure: String,
}

impl Dialer {
    pub fn new(shared: Arc<Shared>, peer: Arc<Peer>, kind: ChannelKind) -> Self {
        Self {
            address: peer.address.subscribe(),
            heard: peer.heard.subscribe(),
            cluster: shared.cluster.subscribe(),
            shared,
            peer,
            kind,
            failures: 0,
            last_failure: String::new(),
        }
    }

    /// Runs until the network stops.
    pub async fn run(mut self) {
        let stop = self.shared.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                self.turn().await;
            }
        })
        .await;
    }

    /// One way round the picture above.
    async fn turn(&mut self) {
        let Some(address) = self.address.borrow_and_update().clone() else {
            self.failures = 0;
            if self.address.changed().await.is_err() {
                // The peer's sender lives as long as this task's own reference to it.
                std::future::pending::<()>().await;
            }
            return;
        };
        if self.shared.silenced.is_cancelled() {
            return std::future::pending().await;
        }
        self.heard.mark_unchanged();
        match self.dial(&address).await {
            Ok((connection, hello)) => {
                self.failures = 0;
                self.last_failure.clear();
                self.serve(connection, hello).await;
            }
            Err(error) => self.report(&address, error).await,
        }
        self.pause().await;
    }

    async fn dial(&mut self, address: &str) -> Result<(Connection, Hello), ConnectionError> {
        let limits = &self.shared.limits;
        let cluster = *self.cluster.borrow_and_update();
        let own = self.shared.hello(cluster, self.kind, Some(self.peer.node));
        let stall = limits.stall_timeout;
        let connecting = connect(address, stall, self.shared.tls.as_deref());
        let (stream, remote) = within("connecting", limits.connect_timeout, connecting).await?;
        let mut connection = Connection::new(stream, remote, stall);
        let theirs = within("its hello", limits.hello_timeout, connection.introduce(&own)).await?;
        self.shared.registry.note(&theirs, remote).map_err(ConnectionError::Refused)?;
        Ok((connection, theirs))
    }

    async fn serve(&mut self, connection: Connection, hello: Hello) {
        let (shared, peer, lane) = (Arc::clone(&self.shared), Arc::clone(&self.peer), self.kind);
        let lane = if lane == ChannelKind::Bulk { &peer.bulk } else { &peer.protocol };
        let is_protocol = lane.kind == ChannelKind::Protocol;
        let (node, incarnation, name) = (hello.node, hello.incarnation, hello.name.clone());
        let protocol = hello.common_version(&PROTOCOL_VERSIONS);
        tracing::info!(%node, %name, incarnation, channel = %self.kind, remote = %connection.remote, "connected");
        lane.connects.fetch_add(1, Ordering::Relaxed);
        let open = lane.queue.open();
        if is_protocol {
            shared.emit(NetworkEvent::Connected { node, incarnation, name: name.clone() }).await;
        }
        let reason = tokio::select! {
            error = send_all(&shared, lane, protocol, connection.writer) => error.to_string(),
            error = listen_for_the_end(connection.reader) => error.to_string(),
            _ = self.address.changed() => "it is to be dialed elsewhere or not at all".to_owned(),
            () = newer(&mut self.heard, incarnation) => "it has started anew".to_owned(),
            () = reintroduction(&mut self.cluster, hello.cluster) => "this node has joined a cluster".to_owned(),
            () = shared.silenced.cancelled() => "another process speaks for this node".to_owned(),
        };
        drop(open);
        tracing::info!(%node, %name, incarnation, channel = %self.kind, reason, "disconnected");
        if is_protocol {
            shared.emit(NetworkEvent::Disconnected { node, reason }).await;
        }
    }

    /// The same failure again and again is news only once.
    async fn report(&mut self, address: &str, error: ConnectionError) {
        self.failures = self.failures.saturating_add(1);
        let (node, reason) = (self.peer.node, error.to_string());
        if reason == self.last_failure {
            tracing::debug!(%node, address, channel = %self.kind, reason, "dial failed again");
            return;
        }
        self.last_failure.clone_from(&reason);
        let (refusal, is_turned_away) = match error {
            ConnectionError::TurnedAway(refusal) => (refusal, true),
            ConnectionError::Refused(refusal) => (refusal, false),
            _ => {
                tracing::warn!(%node, address, channel = %self.kind, reason, "dial failed; trying on");
                return;
            }
        };
        let is_second = matches!(refusal.kind, RefusalKind::OldIncarnation | RefusalKind::DuplicateIdentity);
        let falls_silent = is_turned_away && is_second && !self.shared.silenced.is_cancelled();
        if falls_silent {
            // Peers that are started later forget whom they listened to: with both processes among them, one vote of
            // this node would count twice (I7).
            tracing::error!(%node, address, reason, "another process speaks for this node; this one is silent from now on");
            self.shared.silenced.cancel();
            self.shared.emit(NetworkEvent::Silenced { reason: reason.clone() }).await;
        }
        // Each refusal is told once, not for both connections; no other dial tells the one that ends all of them.
        if self.kind != ChannelKind::Protocol && !falls_silent {
            return;
        }
        if refusal.is_duplicate() {
            tracing::error!(%node, address, reason, "identity is used twice; trying on");
            self.shared.emit(NetworkEvent::IdentityConflict { reason: reason.clone() }).await;
        } else {
            tracing::warn!(%node, address, reason, "refused; trying on");
        }
        self.shared.emit(NetworkEvent::Refused { address: address.to_owned(), reason }).await;
    }

    /// Waits before the next dial; less when the peer calls or moves.
    async fn pause(&mut self) {
        let limits = &self.shared.limits;
        let delay = backoff(self.failures, limits.backoff_min, limits.backoff_max, getrandom::u32().unwrap_or(0));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = self.address.changed() => {}
            _ = self.heard.changed() => {}
        }
    }
}

/// Doubles from `min` to `max`, less up to a half by chance, so that nodes do not dial in step.
fn backoff(failures: u32, min: Duration, max: Duration, random: u32) -> Duration {
    let full = min.saturating_mul(1 << failures.min(20)).min(max);
    full.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX)).max(min)
}

/// Sends what waits until the connection breaks.
async fn send_all(shared: &Shared, lane: &Lane, protocol: u32, mut writer: FrameWriter) -> ConnectionError {
    let mut batch = Vec::new();
    let mut out = BytesMut::new();
    loop {
        lane.queue.take(shared.limits.frame_bytes, &mut batch).await;
        let unsendable = encode(&mut batch, protocol, &mut out);
        if unsendable > 0 {
            tracing::error!(unsendable, "message beyond {FRAME_BYTES_MAX} bytes cannot be sent");
            lane.queue.count_dropped(unsendable);
        }
        if lane.kind == ChannelKind::Bulk {
            shared.throttle.pass(out.len()).await;
        }
        if let Err(error) = writer.write(&out).await {
            return error;
        }
        lane.sent_frames.fetch_add(1, Ordering::Relaxed);
        lane.sent_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        out.clear();
        if out.capacity() > SPARE_BUFFER_BYTES {
            out = BytesMut::new();
        }
    }
}

/// Writes the batch as one frame and empties it. Returns how many messages are too long for any frame.
fn encode(batch: &mut Vec<Item>, protocol: u32, out: &mut BytesMut) -> usize {
    let mut unsendable = 0;
    append_frame(out, |out| {
        let start = out.len();
        for Item { database, message, .. } in batch.drain(..) {
            let before = out.len();
            append_parcel(database, &message, protocol, out);
            if out.len() - start > FRAME_BYTES_MAX {
                out.truncate(before);
                unsendable += 1;
            }
        }
    });
    unsendable
}

/// After its hello the other side says nothing; its end of the connection is the news.
async fn listen_for_the_end(mut reader: FrameReader) -> ConnectionError {
    match reader.read().await {
        Ok(_) => ConnectionError::Unexpected("the other side spoke on a connection that is only for sending"),
        Err(error) => error,
    }
}

/// Returns when a newer start of the peer was heard of.
async fn newer(heard: &mut watch::Receiver<Incarnation>, than: Incarnation) {
    if heard.wait_for(|heard| *heard > than).await.is_err() {
        std::future::pending().await
    }
}

/// Returns when this node belongs to a cluster of which the peer has not said that it is its own: the peer must
/// hear of it, and refuses or not.
async fn reintroduction(cluster: &mut watch::Receiver<Option<ClusterId>>, theirs: Option<ClusterId>) {
    while cluster.changed().await.is_ok() {
        if *cluster.borrow_and_update() != theirs {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        let longest: Vec<_> = (0..9).map(|failures| backoff(failures, min, max, u32::MAX).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        for failures in [0, 3, 40, u32::MAX] {
            assert!((min..=max).contains(&backoff(failures, min, max, 0)));
        }
    }
}
