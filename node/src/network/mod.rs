//! Bytes between nodes. Modules stand in reading order, from the outside in.
//!
//! Each node dials every peer twice, for the protocol and for bulk copies, and only sends over what it dialed;
//! what it accepted is for receiving, in the newest version of the protocol that both ends understand. Nothing here
//! waits for a slow peer: a message that does not fit its queue is dropped, which the protocol endures.

mod bind;
mod settings;

mod dialer;
mod inbound;
mod shared;

mod complaints;
mod connection;
mod hello;
mod queue;
mod registry;
mod throttle;
mod transport;

mod codec;
mod error;
mod wire;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod fuzz_test;
#[cfg(test)]
mod tests;

pub use bind::bind;
pub use error::{ConnectionError, FrameError, NetworkError};
pub use hello::{ChannelKind, Hello, PROTOCOL_VERSIONS, Refusal, RefusalKind};
pub use settings::{Identity, NetworkLimits, NetworkSettings, QueueLimits};
pub use wire::WireError;

use coequal_protocol::Message;
use coequal_protocol::message::Envelope;
use coequal_types::{ClusterId, DatabaseId, Incarnation, NodeId, NodeName};
use connection::{Connection, within};
use dialer::Dialer;
use inbound::{ASK_BYTES_MAX, only_message, single};
use queue::Turn;
use shared::Shared;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

/// How long a shutdown waits for its tasks.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the network tells the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// The outgoing protocol connection to a peer stands.
    Connected {
        /// The peer.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
        /// Its name.
        name: NodeName,
    },
    /// It stands no more; what waited for it is dropped.
    Disconnected {
        /// The peer.
        node: NodeId,
        /// Why, in words.
        reason: String,
    },
    /// Bytes of a peer come, of a frame that is not here as a whole yet: over a slow way that takes its time.
    Heard {
        /// Who sends them.
        from: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// Messages of one node about one database.
    Received {
        /// Who sent them.
        from: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
        /// The messages.
        envelope: Envelope,
    },
    /// A node, perhaps not a peer yet, asks something and waits for the answer.
    Asked {
        /// Who asks.
        from: Box<Hello>,
        /// The question.
        message: Message,
        /// Where the answer goes; dropping it closes the asker's connection.
        answer: oneshot::Sender<Message>,
    },
    /// A connection was refused, here or there.
    Refused {
        /// Of the other side.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// A peer listens to another process as this node: nothing is sent or taken any more until this process is started
    /// again. Told beside `IdentityConflict`.
    Silenced {
        /// The peer's words.
        reason: String,
    },
    /// Two live processes use one node identity, this node's or a peer's: one of them runs on a copy of the other's
    /// data directory. Told beside `Refused`.
    IdentityConflict {
        /// Both sides of it, and what to do, in words.
        reason: String,
    },
}

/// Numbers about one peer since this process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub node: NodeId,
    /// Whether the protocol connection stands.
    pub connected: bool,
    /// Whether the bulk connection stands.
    pub bulk_connected: bool,
    /// Bytes that wait, roughly.
    pub queued_bytes: usize,
    /// Frames handed to the system.
    pub sent_frames: u64,
    /// Bytes handed to the system.
    pub sent_bytes: u64,
    /// Messages that were not sent: no connection, no room, or lost with a connection.
    pub dropped_messages: u64,
    /// How often the protocol connection was made again.
    pub reconnects: u64,
}

/// A node's network. Clones are the same network; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    local_address: SocketAddr,
    _stop_with_the_last: Arc<DropGuard>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("local_address", &self.local_address).finish_non_exhaustive()
    }
}

impl Network {
    /// Listens and gets ready to dial. What happens goes to `inbox`; while it is full, peers wait.
    pub async fn start(settings: NetworkSettings, inbox: mpsc::Sender<NetworkEvent>) -> Result<Self, NetworkError> {
        let NetworkSettings { listen: address, identity, tls, limits } = settings;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => NetworkError::PortTaken { address },
            _ => NetworkError::Listen { address, source },
        };
        let listener = bind(address).await.map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        let process = getrandom::u64().map_err(NetworkError::Randomness)?;
        let shared = Arc::new(Shared::new(identity, process, limits, tls, inbox));
        shared.tasks.spawn(inbound::listen(Arc::clone(&shared), listener));
        let guard = Arc::new(shared.stop.clone().drop_guard());
        Ok(Self { shared, local_address, _stop_with_the_last: guard })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Sets the cluster: from now on nodes of others are refused, and those connected are parted from.
    pub fn set_cluster(&self, id: ClusterId) {
        self.shared.cluster.send_if_modified(|current| current.replace(id) != Some(id));
    }

    /// Dials these nodes, each at its `host:port`, and no others. Names are resolved at each dial.
    pub fn set_peers(&self, peers: Vec<(NodeId, String)>) {
        let mut wanted: HashMap<NodeId, String> = peers.into_iter().collect();
        wanted.remove(&self.shared.identity.node);
        for peer in self.shared.peers() {
            if !wanted.contains_key(&peer.node) {
                peer.dial_at(None);
            }
        }
        for (node, address) in wanted {
            let (peer, is_new) = self.shared.peer_or_new(node);
            peer.dial_at(Some(address));
            if is_new {
                for kind in [ChannelKind::Protocol, ChannelKind::Bulk] {
                    let dialer = Dialer::new(Arc::clone(&self.shared), Arc::clone(&peer), kind);
                    self.shared.tasks.spawn(dialer.run());
                }
            }
        }
    }

    /// Queues a message; false if it is dropped, because there is no connection or no room. Never waits.
    pub fn send(&self, to: NodeId, database: DatabaseId, message: Message) -> bool {
        self.send_all(to, database, vec![message]) == 1
    }

    /// The same for several messages to one node, in their order; answers how many were queued. Together they wake the
    /// sender once, and most of them go in one frame.
    pub fn send_all(&self, to: NodeId, database: DatabaseId, messages: Vec<Message>) -> usize {
        let Some(peer) = self.shared.peer(to) else {
            return 0;
        };
        // The system database's UUID is the cluster's.
        let is_own_affair = database.is_nil() || *self.shared.cluster.borrow() == Some(database);
        let turn = if is_own_affair { Turn::First } else { Turn::InOrder };
        let (bulk, protocol): (Vec<_>, Vec<_>) = messages.into_iter().partition(Message::is_bulk);
        let lanes = [(&peer.bulk, bulk), (&peer.protocol, protocol)];
        lanes.into_iter().map(|(lane, messages)| lane.queue.push_all(turn, database, messages)).sum()
    }

    /// Asks whoever lives at an address one question about nodes, on a connection of its own.
    pub async fn ask_once(
        &self,
        address: &str,
        message: Message,
        timeout: Duration,
    ) -> Result<(Hello, Message), NetworkError> {
        let stopped = || NetworkError::about(address, ConnectionError::Unexpected("this node is shutting down"));
        let asking = tokio::time::timeout(timeout, self.ask(address, &message));
        match self.shared.stop.run_until_cancelled(asking).await.ok_or_else(stopped)? {
            Ok(result) => result.map_err(|error| NetworkError::about(address, error)),
            Err(_) => Err(NetworkError::Timeout { address: address.to_owned(), after: timeout }),
        }
    }

    async fn ask(&self, address: &str, message: &Message) -> Result<(Hello, Message), ConnectionError> {
        let limits = &self.shared.limits;
        let cluster = *self.shared.cluster.borrow();
        let own = self.shared.hello(cluster, ChannelKind::Ask, None);
        let dial = transport::connect(address, limits.stall_timeout, self.shared.tls.as_deref());
        let (stream, remote) = within("connecting", limits.connect_timeout, dial).await?;
        let mut connection = Connection::new(stream, remote, limits.stall_timeout);
        let theirs = within("its hello", limits.hello_timeout, connection.introduce(&own)).await?;
        self.shared.registry.note(&theirs, remote).map_err(ConnectionError::Refused)?;
        connection.reader.permit(ASK_BYTES_MAX);
        connection.writer.write(&single(message)).await?;
        let answer = only_message(wire::decode_parcels(connection.reader.read().await?)?)?;
        Ok((theirs, answer))
    }

    /// Closes every connection and stops. Nothing is sent any more; what waits is dropped.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.shared.tasks.len(), "network tasks did not end in time");
        }
    }

    /// Numbers about each peer that is to be dialed.
    pub fn stats(&self) -> Vec<PeerStats> {
        let peers = self.shared.peers();
        peers.iter().filter(|peer| peer.is_wanted()).map(|peer| peer.stats()).collect()
    }
}
