//! What all tasks of one node's network share.

use super::complaints::Complaints;
use super::hello::{ChannelKind, Hello, PROTOCOL_VERSIONS};
use super::queue::Queue;
use super::registry::Registry;
use super::settings::{Identity, NetworkLimits};
use super::throttle::Throttle;
use super::{NetworkEvent, PeerStats};
use crate::tls::Tls;
use coequal_types::{ClusterId, Incarnation, NodeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) struct Shared {
    pub identity: Identity,
    /// Drawn at random at the start.
    pub process: u64,
    pub cluster: watch::Sender<Option<ClusterId>>,
    pub limits: NetworkLimits,
    pub tls: Option<Arc<Tls>>,
    pub registry: Registry,
    pub complaints: Complaints,
    pub throttle: Throttle,
    pub inbox: mpsc::Sender<NetworkEvent>,
    pub stop: CancellationToken,
    /// A peer listens to another process as this node: this one does not take part any more.
    pub silenced: CancellationToken,
    pub tasks: TaskTracker,
    /// Every node that was ever to be dialed in this process; those not wanted any more have no address.
    peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
}

impl Shared {
    pub fn new(
        identity: Identity,
        process: u64,
        limits: NetworkLimits,
        tls: Option<Arc<Tls>>,
        inbox: mpsc::Sender<NetworkEvent>,
    ) -> Self {
        Self {
            cluster: watch::Sender::new(identity.cluster),
            identity,
            process,
            registry: Registry::default(),
            complaints: Complaints::default(),
            throttle: Throttle::new(limits.bulk_bytes_per_second),
            limits,
            tls,
            inbox,
            stop: CancellationToken::new(),
            silenced: CancellationToken::new(),
            tasks: TaskTracker::new(),
            peers: RwLock::default(),
        }
    }

    /// What this node says of itself.
    pub fn hello(&self, cluster: Option<ClusterId>, channel: ChannelKind, wanted: Option<NodeId>) -> Hello {
        Hello {
            versions: PROTOCOL_VERSIONS,
            node: self.identity.node,
            incarnation: self.identity.incarnation,
            process: self.process,
            name: self.identity.name.clone(),
            cluster,
            channel,
            wanted,
        }
    }

    /// Tells the application, as soon as it has room. An application that is gone needs no news.
    pub async fn emit(&self, event: NetworkEvent) {
        let _gone = self.inbox.send(event).await;
    }

    pub fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The peer, and whether it is new.
    pub fn peer_or_new(&self, node: NodeId) -> (Arc<Peer>, bool) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        let peer = peers.entry(node).or_insert_with(|| {
            is_new = true;
            Arc::new(Peer::new(node, &self.limits))
        });
        (Arc::clone(peer), is_new)
    }
}

/// A node to send to.
pub(super) struct Peer {
    pub node: NodeId,
    /// Where to dial it; `None` when it is not to be dialed.
    pub address: watch::Sender<Option<String>>,
    /// Changes each time the peer introduces itself here: a good moment to dial it.
    pub heard: watch::Sender<Incarnation>,
    pub protocol: Lane,
    pub bulk: Lane,
}

/// One of the two connections to a peer.
pub(super) struct Lane {
    pub kind: ChannelKind,
    pub queue: Queue,
    pub sent_frames: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub connects: AtomicU64,
}

impl Lane {
    fn new(kind: ChannelKind, queue: Queue) -> Self {
        let zero = || AtomicU64::new(0);
        Self { kind, queue, sent_frames: zero(), sent_bytes: zero(), connects: zero() }
    }
}

impl Peer {
    fn new(node: NodeId, limits: &NetworkLimits) -> Self {
        Self {
            node,
            address: watch::Sender::new(None),
            heard: watch::Sender::new(0),
            protocol: Lane::new(ChannelKind::Protocol, Queue::new(limits.protocol_queue)),
            bulk: Lane::new(ChannelKind::Bulk, Queue::new(limits.bulk_queue)),
        }
    }

    /// Sets or takes away the address.
    pub fn dial_at(&self, address: Option<String>) {
        self.address.send_if_modified(|current| {
            let changed = *current != address;
            *current = address;
            changed
        });
    }

    pub fn is_wanted(&self) -> bool {
        self.address.borrow().is_some()
    }

    pub fn stats(&self) -> PeerStats {
        let both = |count: fn(&Lane) -> u64| count(&self.protocol) + count(&self.bulk);
        PeerStats {
            node: self.node,
            connected: self.protocol.queue.is_open(),
            bulk_connected: self.bulk.queue.is_open(),
            queued_bytes: self.protocol.queue.bytes() + self.bulk.queue.bytes(),
            sent_frames: both(|lane| lane.sent_frames.load(Ordering::Relaxed)),
            sent_bytes: both(|lane| lane.sent_bytes.load(Ordering::Relaxed)),
            dropped_messages: both(|lane| lane.queue.dropped()),
            reconnects: self.protocol.connects.load(Ordering::Relaxed).saturating_sub(1),
        }
    }
}
