//! What a node's network is told at its start.

use crate::tls::Tls;
use coequal_types::{ClusterId, Incarnation, NodeId, NodeName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its identity.
    pub node: NodeId,
    /// Which start of it this is.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: NodeName,
    /// Its cluster; may be set later with `Network::set_cluster`.
    pub cluster: Option<ClusterId>,
}

/// Settings of a node's network.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Where to listen for other nodes; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// Certificates; without them nodes talk in the clear.
    pub tls: Option<Arc<Tls>>,
    /// Bounds.
    pub limits: NetworkLimits,
}

impl NetworkSettings {
    /// Settings with the default limits.
    pub fn new(listen: SocketAddr, identity: Identity) -> Self {
        Self { listen, identity, tls: None, limits: NetworkLimits::default() }
    }
}

/// Bounds of everything that could grow or take long.
#[derive(Debug, Clone)]
pub struct NetworkLimits {
    /// What may wait for one peer's protocol connection.
    pub protocol_queue: QueueLimits,
    /// What may wait for one peer's bulk connection.
    pub bulk_queue: QueueLimits,
    /// Outgoing bulk bytes per second, all peers together; 0 is unlimited.
    pub bulk_bytes_per_second: u64,
    /// Messages that wait together travel in one frame up to about this size.
    pub frame_bytes: usize,
    /// Inbound connections at a time, strangers included.
    pub inbound_connections_max: usize,
    /// How long resolving and connecting may take.
    pub connect_timeout: Duration,
    /// How long introductions may take.
    pub hello_timeout: Duration,
    /// How long a peer may take nothing while something waits for it, before the connection is given up.
    pub stall_timeout: Duration,
    /// How long the application may take to answer another node's question.
    pub answer_timeout: Duration,
    /// First pause between dials.
    pub backoff_min: Duration,
    /// Longest pause between dials.
    pub backoff_max: Duration,
}

/// Bounds of one outgoing queue. A message beyond them is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes, roughly. A single larger message is taken when the queue is empty.
    pub bytes_max: usize,
    /// Messages.
    pub messages_max: usize,
    /// How long a message may wait.
    pub wait_max: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            // Who waits for an answer asks again after about a second; the first question is of no use then.
            protocol_queue: QueueLimits {
                bytes_max: 64 << 20,
                messages_max: 100_000,
                wait_max: Duration::from_secs(1),
            },
            bulk_queue: QueueLimits { bytes_max: 16 << 20, messages_max: 100_000, wait_max: Duration::from_secs(30) },
            bulk_bytes_per_second: 0,
            frame_bytes: 128 << 10,
            inbound_connections_max: 1024,
            connect_timeout: Duration::from_secs(2),
            hello_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}
