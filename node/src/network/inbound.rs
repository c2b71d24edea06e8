//! Connections that others dialed: who is it, may it come in, and what does it say.

use super::NetworkEvent;
use super::codec::{FRAME_BYTES_MAX, append_frame};
use super::connection::{Connection, within};
use super::error::ConnectionError;
use super::hello::{ChannelKind, Greeting, Hello, PROTOCOL_VERSIONS, Refusal, RefusalKind};
use super::shared::Shared;
use super::transport::{accept, receive as receive_stream};
use super::wire::{Decoded, append_parcel, decode_parcels};
use bytes::{Bytes, BytesMut};
use coequal_protocol::Message;
use coequal_types::{ClusterId, DatabaseId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A question of a node that need not be a peer yet, and the answer to it, are not longer than this.
pub(super) const ASK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// After a failed accept (too many open files, say) the listener takes a breath.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Parts of a frame are a sign of life this often.
const PARTS_TOLD_EVERY: Duration = Duration::from_millis(250);

/// Takes connections until the network stops.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(shared.limits.inbound_connections_max));
    loop {
        let next = shared.stop.run_until_cancelled(accept(&listener, shared.limits.stall_timeout)).await;
        let (stream, remote) = match next {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection of another node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            let max = shared.limits.inbound_connections_max;
            tracing::warn!(%remote, max, "connection closed: there are as many as are permitted");
            continue;
        };
        let shared = Arc::clone(&shared);
        shared.tasks.clone().spawn(async move {
            let stop = shared.stop.clone();
            if let Some(Err(reason)) = stop.run_until_cancelled(welcome(&shared, stream, remote)).await
                && shared.complaints.is_news(remote.ip(), &format!("closed: {reason}"), Instant::now())
            {
                tracing::info!(%remote, %reason, "inbound connection closed");
            }
            drop(place);
        });
    }
}

/// A handshake that fails is told like a refusal: a stranger, or a certificate that somebody has to renew.
async fn welcome(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr) -> Result<(), ConnectionError> {
    let limits = &shared.limits;
    let received = within("the TLS handshake", limits.hello_timeout, receive_stream(stream, shared.tls.as_deref()));
    let stream = match received.await {
        Ok(stream) => stream,
        Err(error) => {
            tell_refused(shared, remote, error.to_string());
            return Err(error);
        }
    };
    serve(shared, Connection::new(stream, remote, limits.stall_timeout)).await
}

async fn serve(shared: &Arc<Shared>, mut connection: Connection) -> Result<(), ConnectionError> {
    if shared.silenced.is_cancelled() {
        return Err(ConnectionError::Unexpected("another process speaks for this node"));
    }
    let hello = within("its hello", shared.limits.hello_timeout, connection.hear()).await?;
    let mut cluster = shared.cluster.subscribe();
    let own = shared.hello(*cluster.borrow_and_update(), hello.channel, None);
    let admitted = hello
        .check(&own)
        .and_then(|()| hello.check_wanted(&own))
        .and_then(|()| shared.registry.admit(&hello, connection.remote));
    let ended = match admitted {
        Ok(ended) => ended,
        Err(refusal) => return refuse(shared, connection, refusal).await,
    };
    connection.writer.write(&Greeting::Hello(own).frame()).await?;
    if hello.channel == ChannelKind::Ask {
        return answer(shared, connection, hello).await;
    }
    tracing::debug!(node = %hello.node, name = %hello.name, channel = %hello.channel, "inbound connection");
    if let Some(peer) = shared.peer(hello.node) {
        peer.heard.send_replace(hello.incarnation);
    }
    connection.reader.permit(FRAME_BYTES_MAX);
    tokio::select! {
        biased;
        () = shared.silenced.cancelled() => Err(ConnectionError::Unexpected("another process speaks for this node")),
        () = ended.cancelled() => Err(ConnectionError::Unexpected("a newer connection of the same node replaces it")),
        cluster = moved(&mut cluster, hello.cluster) => {
            let detail = format!("{} does not belong to cluster {cluster}", hello.name);
            Err(ConnectionError::Refused(Refusal::new(RefusalKind::OtherCluster, detail)))
        }
        result = receive(shared, connection, &hello, &ended) => result,
    }
}

/// Tells people and the node, each complaint once a minute.
fn tell_refused(shared: &Shared, remote: SocketAddr, reason: String) {
    if shared.complaints.is_news(remote.ip(), &reason, Instant::now()) {
        let address = remote.to_string();
        tracing::warn!(address, reason, "refused a connection");
        // Strangers must not fill the inbox: this news may get lost.
        let _full = shared.inbox.try_send(NetworkEvent::Refused { address, reason });
    }
}

/// Says why, here and there.
async fn refuse(shared: &Shared, mut connection: Connection, refusal: Refusal) -> Result<(), ConnectionError> {
    let news = || shared.complaints.is_news(connection.remote.ip(), &format!("twice: {refusal}"), Instant::now());
    if refusal.is_duplicate() && news() {
        tracing::error!(address = %connection.remote, %refusal, "an identity is used twice");
        let _full = shared.inbox.try_send(NetworkEvent::IdentityConflict { reason: refusal.to_string() });
    }
    if refusal.kind == RefusalKind::SameNode && !refusal.is_duplicate() {
        // Every pod is told the same list of addresses to join, its own among them.
        tracing::debug!(address = %connection.remote, %refusal, "a connection of this very node");
    } else {
        tell_refused(shared, connection.remote, refusal.to_string());
    }
    connection.writer.write(&Greeting::Refusal(refusal).frame()).await
}

/// Delivers what comes. While the application has no room nothing more is read, from this peer only.
async fn receive(
    shared: &Shared,
    mut connection: Connection,
    hello: &Hello,
    ended: &CancellationToken,
) -> Result<(), ConnectionError> {
    let mut unreadable_total = 0_usize;
    loop {
        let payload = next_frame(shared, &mut connection, hello).await?;
        let Decoded { envelopes, unreadable } = decode_parcels(payload)?;
        for envelope in envelopes {
            let Ok(place) = shared.inbox.reserve().await else {
                return Ok(());
            };
            let (from, incarnation) = (hello.node, hello.incarnation);
            let current = shared.registry.deliver(hello, || {
                place.send(NetworkEvent::Received { from, incarnation, envelope });
            });
            if !current || ended.is_cancelled() {
                return Err(ConnectionError::Unexpected("the node has started anew"));
            }
        }
        if let Some((count, why)) = unreadable {
            let before = unreadable_total;
            unreadable_total += count;
            // Said again each time that the number has doubled.
            if before == 0 || before.ilog2() < unreadable_total.ilog2() {
                let (from, remote) = (&hello.name, connection.remote);
                tracing::warn!(%from, %remote, unreadable_total, %why, "unreadable messages were left out");
            }
        }
    }
}

/// Waits for a frame; while only parts of it come, these are told as signs of life.
async fn next_frame(shared: &Shared, connection: &mut Connection, hello: &Hello) -> Result<Bytes, ConnectionError> {
    let mut told = connection.reader.bytes();
    loop {
        // Reading may be let go at any moment: what came stays in the reader's buffer.
        match tokio::time::timeout(PARTS_TOLD_EVERY, connection.reader.read()).await {
            Ok(payload) => return payload,
            Err(_) if connection.reader.bytes() == told => {}
            Err(_) => {
                told = connection.reader.bytes();
                shared.emit(NetworkEvent::Heard { from: hello.node, incarnation: hello.incarnation }).await;
            }
        }
    }
}

/// Puts one question to the application and sends back its answer.
async fn answer(shared: &Shared, mut connection: Connection, hello: Hello) -> Result<(), ConnectionError> {
    let limits = &shared.limits;
    connection.reader.permit(ASK_BYTES_MAX);
    let payload = within("its question", limits.hello_timeout, connection.reader.read()).await?;
    let message = only_message(decode_parcels(payload)?)?;
    let (sender, receiver) = oneshot::channel();
    let question = async {
        shared.emit(NetworkEvent::Asked { from: Box::new(hello), message, answer: sender }).await;
        receiver.await.map_err(|_| ConnectionError::Unexpected("the question was not answered here"))
    };
    let message = within("answering it", limits.answer_timeout, question).await?;
    connection.writer.write(&single(&message)).await
}

/// A frame of one message about nodes; these are the same in all versions.
pub(super) fn single(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    append_frame(&mut out, |out| append_parcel(DatabaseId::nil(), message, *PROTOCOL_VERSIONS.start(), out));
    out
}

/// The message of a frame that may hold only one, about nodes.
pub(super) fn only_message(decoded: Decoded) -> Result<Message, ConnectionError> {
    if let Some((_, why)) = decoded.unreadable {
        return Err(why.into());
    }
    let mut envelopes = decoded.envelopes.into_iter();
    match (envelopes.next(), envelopes.next()) {
        (Some(mut envelope), None) if envelope.database.is_nil() && envelope.messages.len() == 1 => {
            envelope.messages.pop().ok_or(ConnectionError::Unexpected("no message came"))
        }
        _ => Err(ConnectionError::Unexpected("a question or answer is not one message about nodes")),
    }
}

/// Returns when this node belongs to another cluster than the peer's.
async fn moved(cluster: &mut watch::Receiver<Option<ClusterId>>, theirs: Option<ClusterId>) -> ClusterId {
    while cluster.changed().await.is_ok() {
        match (*cluster.borrow_and_update(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => return ours,
            _ => {}
        }
    }
    std::future::pending().await
}
