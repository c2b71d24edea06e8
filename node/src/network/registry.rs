//! Which start of each node speaks for it. Only the newest is listened to, from the moment it is heard of: the decision is
//! `protocol::identity`.

use super::hello::{ChannelKind, Hello, Refusal, RefusalKind};
use coequal_protocol::identity::{Admission, admit, invariant_one_process_speaks};
use coequal_types::NodeId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// More nodes than any cluster has; whoever invents identities runs into it.
const NODES_MAX: usize = 4096;

#[derive(Debug)]
struct Seen {
    hello: Hello,
    remote: SocketAddr,
    /// Ends all inbound connections of this start of the node.
    stop: CancellationToken,
    /// The inbound connection of each kind; a new one ends the one before.
    channels: HashMap<ChannelKind, CancellationToken>,
}

/// The newest start of each node.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<NodeId, Seen>>);

impl Registry {
    fn seen(&self) -> MutexGuard<'_, HashMap<NodeId, Seen>> {
        // The map is whole after each statement, whatever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of who answered a dial.
    pub fn note(&self, hello: &Hello, remote: SocketAddr) -> Result<(), Refusal> {
        note(&mut self.seen(), hello, remote).map(|_| ())
    }

    /// Admits an inbound connection. It has to end when the token says so.
    pub fn admit(&self, hello: &Hello, remote: SocketAddr) -> Result<CancellationToken, Refusal> {
        let mut seen = self.seen();
        let entry = note(&mut seen, hello, remote)?;
        let token = entry.stop.child_token();
        if hello.channel != ChannelKind::Ask
            && let Some(former) = entry.channels.insert(hello.channel, token.clone())
        {
            former.cancel();
        }
        Ok(token)
    }

    /// Delivers something if `hello` still speaks for its node. A newer start that is admitted later cannot
    /// have delivered anything before it.
    pub fn deliver(&self, hello: &Hello, delivery: impl FnOnce()) -> bool {
        let seen = self.seen();
        let current = seen.get(&hello.node).is_some_and(|known| known.hello.start() == hello.start());
        if current {
            delivery();
        }
        current
    }
}

fn note<'a>(seen: &'a mut HashMap<NodeId, Seen>, hello: &Hello, remote: SocketAddr) -> Result<&'a mut Seen, Refusal> {
    if let Some(known) = seen.get_mut(&hello.node) {
        let before = known.hello.start();
        let admission = admit(Some(before), hello.start());
        if let Some(refusal) = conflict(admission, known, hello, remote) {
            return Err(refusal);
        }
        if admission == Admission::Replaces {
            let (old, new) = (known.hello.incarnation, hello.incarnation);
            tracing::info!(node = %hello.node, name = %hello.name, old, new, %remote, "node has started anew");
            known.stop.cancel();
            *known = fresh(hello, remote);
        }
        debug_assert!(invariant_one_process_speaks(Some(before), hello.start(), known.hello.start()));
    } else if seen.len() >= NODES_MAX {
        return Err(Refusal::new(RefusalKind::Busy, format!("{NODES_MAX} nodes were seen already")));
    }
    Ok(seen.entry(hello.node).or_insert_with(|| fresh(hello, remote)))
}

fn fresh(hello: &Hello, remote: SocketAddr) -> Seen {
    Seen { hello: hello.clone(), remote, stop: CancellationToken::new(), channels: HashMap::new() }
}

/// A refusal in words.
fn conflict(admission: Admission, known: &Seen, hello: &Hello, remote: SocketAddr) -> Option<Refusal> {
    let way_out = "two live processes seem to use one data directory or copies of it; stop one of them and give it \
                   an empty directory";
    // Without the dialer's port, so that the same refusal reads the same each time.
    let (node, remote) = (hello.node, remote.ip());
    match admission {
        Admission::Admitted | Admission::Replaces => None,
        Admission::OldIncarnation => {
            let detail = format!(
                "node {node}: incarnation {} ({}, {remote}) came after incarnation {} ({}, {}); {way_out}",
                hello.incarnation, hello.name, known.hello.incarnation, known.hello.name, known.remote
            );
            Some(Refusal::new(RefusalKind::OldIncarnation, detail))
        }
        Admission::DuplicateIdentity => {
            let detail = format!(
                "node {node}: both {} at {remote} and {} at {} are its incarnation {}; {way_out}",
                hello.name, known.hello.name, known.remote, hello.incarnation
            );
            Some(Refusal::new(RefusalKind::DuplicateIdentity, detail))
        }
    }
}
