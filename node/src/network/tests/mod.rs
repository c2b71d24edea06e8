//! Networks of one process over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ask;
mod exchange;
mod hostile;
mod identity;
mod samples;
mod wire;

use super::*;
use tokio::time::timeout;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A network and its inbox.
struct Node {
    network: Network,
    inbox: mpsc::Receiver<NetworkEvent>,
    id: NodeId,
}

fn settings(id: u64, incarnation: Incarnation) -> NetworkSettings {
    let name = format!("node-{id}").parse().unwrap();
    let identity = Identity { node: NodeId(id), incarnation, name, cluster: None };
    NetworkSettings::new("127.0.0.1:0".parse().unwrap(), identity)
}

async fn start(settings: NetworkSettings) -> Node {
    let (sender, inbox) = mpsc::channel(64);
    let id = settings.identity.node;
    Node { network: Network::start(settings, sender).await.unwrap(), inbox, id }
}

async fn node(id: u64, incarnation: Incarnation) -> Node {
    start(settings(id, incarnation)).await
}

impl Node {
    fn address(&self) -> String {
        self.network.local_address().to_string()
    }

    fn dials(&self, others: &[&Node]) {
        self.network.set_peers(others.iter().map(|other| (other.id, other.address())).collect());
    }

    /// The next event for which `pick` has something; the others are passed over.
    async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.inbox.recv().await.expect("the network lives");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, search).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    async fn connected(&mut self) -> (NodeId, Incarnation) {
        self.until("a connection", |event| match event {
            NetworkEvent::Connected { node, incarnation, .. } => Some((node, incarnation)),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> String {
        self.until("a disconnection", |event| match event {
            NetworkEvent::Disconnected { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn refused(&mut self) -> String {
        self.until("a refusal", |event| match event {
            NetworkEvent::Refused { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn received(&mut self) -> (NodeId, Incarnation, Envelope) {
        self.until("a message", |event| match event {
            NetworkEvent::Received { from, incarnation, envelope } => Some((from, incarnation, envelope)),
            _ => None,
        })
        .await
    }

    fn stats(&self) -> PeerStats {
        self.network.stats().pop().expect("one peer")
    }

    /// The bulk connection has no event of its own.
    async fn bulk_connected(&self) {
        let search = async {
            while !self.network.stats().iter().all(|peer| peer.bulk_connected) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, search).await.expect("bulk connections");
    }
}

fn ping(time: u64) -> Message {
    Message::Ping { time, report: bytes::Bytes::new() }
}

fn database(number: u128) -> DatabaseId {
    Uuid::from_u128(number)
}
