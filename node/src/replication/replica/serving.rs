//! The served side of the change feed: what a peer has not confirmed is its durable queue, and it gets that when it asks.

use super::Replica;
use super::feed::{BODY_KEYS_MAX, ENTRIES_MAX};
use coequal_protocol::Key;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{ChosenBody, FeedEntry, Message};
use coequal_protocol::record::{FeedId, LogRecord};
use coequal_types::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// A request that finds nothing is answered after this long all the same, so that both sides know they are there.
const HOLD_MS: u64 = 500;
const BODY_BYTES_MAX: usize = 4 << 20;
const ORIGINS_MAX: usize = 65_536;
/// How often the peers' confirmed cursors are noted down, for the queue depth after a restart.
const CONFIRMED_NOTE_MS: u64 = 5_000;
const META_CONFIRMED: &str = "confirmed:";

/// A peer's pull of this node.
#[derive(Default)]
pub(super) struct Serve {
    pending: Option<(Request, u64)>,
    /// Up to where the peer says that it has applied this node's feed.
    pub confirmed: Option<(FeedId, u64)>,
    noted: Option<(FeedId, u64)>,
    note_at_ms: u64,
}

/// A feed request as it came.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub request: u64,
    pub feed: FeedId,
    pub after: u64,
    pub entries_max: u32,
    pub bytes_max: u32,
    pub bodies: bool,
}

/// From whose feed the newest entries came: they need not go back there.
#[derive(Default)]
pub(super) struct Origins(VecDeque<(u64, NodeId)>);

impl Origins {
    pub fn note(&mut self, sequence: u64, from: NodeId) {
        if self.0.len() >= ORIGINS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((sequence, from));
    }

    /// A peer that started anew may have come back from an older disk: it gets everything again.
    pub fn forget(&mut self, node: NodeId) {
        self.0.retain(|(_, from)| *from != node);
    }

    fn of(&self, sequence: u64) -> Option<NodeId> {
        let at = self.0.binary_search_by_key(&sequence, |(known, _)| *known).ok()?;
        self.0.get(at).map(|(_, from)| *from)
    }
}

impl Replica {
    pub(super) fn on_feed_request(&mut self, from: NodeId, request: Request) {
        let now_ms = self.now.monotonic_ms;
        let serve = &mut self.peers.entry(from).or_default().serve;
        serve.pending = Some((request, now_ms));
        serve.confirmed = Some((request.feed, request.after));
        if now_ms >= serve.note_at_ms && serve.noted != serve.confirmed {
            serve.note_at_ms = now_ms + CONFIRMED_NOTE_MS;
            serve.noted = serve.confirmed;
            let mut value = request.feed.to_be_bytes().to_vec();
            value.extend_from_slice(&request.after.to_be_bytes());
            self.append(LogRecord::Meta { name: format!("{META_CONFIRMED}{from}"), value: value.into() });
        }
    }

    /// Answers the requests that have something to get, or have waited long enough.
    pub(super) fn serve_feeds(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let (feed, head) = (self.store.feed_id(), self.store.feed_head());
        let ready = |serve: &Serve| {
            serve.pending.as_ref().is_some_and(|(request, since_ms)| {
                request.feed != feed || head > request.after || now_ms.saturating_sub(*since_ms) >= HOLD_MS
            })
        };
        let nodes: Vec<NodeId> = self.peers.iter().filter(|(_, p)| ready(&p.serve)).map(|(node, _)| *node).collect();
        for node in nodes {
            let Some((request, _)) = self.peers.get_mut(&node).and_then(|peer| peer.serve.pending.take()) else {
                continue;
            };
            self.serve(node, &request);
        }
    }

    fn serve(&mut self, to: NodeId, request: &Request) {
        let (feed, head) = (self.store.feed_id(), self.store.feed_head());
        let fits = request.feed == feed || broken(Fault::CursorOfAnotherFeed);
        let after = if fits { request.after } else { 0 };
        let entries_max = request.entries_max.min(ENTRIES_MAX) as usize;
        let found = match self.store.feed_after(after, entries_max) {
            Ok(found) => found,
            Err(error) => return self.on_storage_error(&error),
        };
        let complete = found.len() < entries_max;
        let mut through = if complete { head.max(after) } else { after };
        let (mut entries, mut bytes) = (Vec::with_capacity(found.len()), 0);
        for (sequence, key) in found {
            if bytes > request.bytes_max as usize {
                through = entries.last().map_or(after, |entry: &FeedEntry| entry.sequence);
                break;
            }
            if !complete {
                through = sequence;
            }
            if self.origins.of(sequence) == Some(to) {
                continue;
            }
            let held = match self.store.chosen(&key) {
                Ok(Some(held)) => held,
                Ok(None) => continue,
                Err(error) => return self.on_storage_error(&error),
            };
            bytes += 64 + key.as_bytes().len();
            let revision = request.bodies.then(|| {
                bytes += held.revision.body.as_ref().map_or(0, bytes::Bytes::len);
                held.revision
            });
            entries.push(FeedEntry { key, ballot: held.ballot, sequence, revision });
        }
        let remaining = if through >= head { Ok(0) } else { self.store.feed_count_after(through) };
        let remaining = match remaining {
            Ok(remaining) => remaining,
            Err(error) => return self.on_storage_error(&error),
        };
        let (request, epoch) = (request.request, self.configuration.epoch);
        self.send(to, Message::FeedBatch { request, feed, after, through, remaining, entries, epoch });
    }

    pub(super) fn on_body_request(&mut self, from: NodeId, keys: Vec<Key>) {
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        for key in keys.into_iter().take(BODY_KEYS_MAX) {
            match self.store.chosen(&key) {
                Ok(Some(held)) => {
                    bytes += 64 + held.revision.body.as_ref().map_or(0, bytes::Bytes::len);
                    bodies.push(ChosenBody { key, ballot: held.ballot, revision: held.revision });
                }
                Ok(None) => {}
                Err(error) => return self.on_storage_error(&error),
            }
            if bytes > BODY_BYTES_MAX {
                break;
            }
        }
        self.send(from, Message::Bodies { bodies });
    }

    /// For each peer, the entries of this node's feed that it has not confirmed: its durable queue.
    pub(super) fn backlog(&self) -> BTreeMap<NodeId, u64> {
        let feed = self.store.feed_id();
        let depth = |node: NodeId| {
            let confirmed = self.peers.get(&node).and_then(|peer| peer.serve.confirmed).or_else(|| self.noted(node));
            let after = confirmed.filter(|(known, _)| *known == feed).map_or(0, |(_, sequence)| sequence);
            if after >= self.store.feed_head() { 0 } else { self.store.feed_count_after(after).unwrap_or(0) }
        };
        self.configuration
            .members()
            .into_iter()
            .filter(|node| *node != self.me)
            .map(|node| (node, depth(node)))
            .collect()
    }

    /// When the first of the requests that are held is answered at the latest, in monotonic milliseconds.
    pub(super) fn held_until_ms(&self) -> u64 {
        let held = self.peers.values().filter_map(|peer| peer.serve.pending.as_ref());
        held.map(|(_, since_ms)| since_ms + HOLD_MS).min().unwrap_or(u64::MAX)
    }

    fn noted(&self, node: NodeId) -> Option<(FeedId, u64)> {
        let value = self.store.meta(&format!("{META_CONFIRMED}{node}"))?;
        let (feed, sequence) = value.split_at_checked(8)?;
        Some((u64::from_be_bytes(feed.try_into().ok()?), u64::from_be_bytes(sequence.try_into().ok()?)))
    }
}
