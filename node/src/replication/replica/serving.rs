//! The served side of the change feed: what a peer has not confirmed is its durable queue, and it gets that when it asks.

use super::feed::{BODY_KEYS_MAX, ENTRIES_MAX};
use super::{Peer, Replica};
use coequal_protocol::Key;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{ChosenBody, FeedEntry, Message};
use coequal_protocol::record::{FeedId, LogRecord};
use coequal_types::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// A request that finds nothing is answered after this long all the same, so that both sides know they are there.
const HOLD_MS: u64 = 500;
/// News waits so long after the last batch for company: a batch costs both sides about as much as a write does, and with three
/// nodes each write would bring six.
const COMPANY_MS: u64 = 4;
/// So many entries are company enough.
const COMPANY_ENTRIES: u64 = 64;
const BODY_BYTES_MAX: usize = 4 << 20;
const ORIGINS_MAX: usize = 65_536;
/// How often what a peer that catches up still lacks is counted.
const COUNT_EVERY_MS: u64 = 250;
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
    ahead: Ahead,
    counted: Option<Counted>,
    /// When the last batch went out, in monotonic milliseconds.
    served_ms: u64,
}

impl Serve {
    /// When the request that is held is answered, in monotonic milliseconds.
    fn due_ms(&self, feed: FeedId, head: u64) -> Option<u64> {
        let (request, since_ms) = self.pending.as_ref()?;
        let behind = head.saturating_sub(request.after);
        Some(match behind {
            _ if request.feed != feed => 0,
            0 => since_ms + HOLD_MS,
            // Whoever catches up waits for nothing.
            _ if request.bodies || behind > COMPANY_ENTRIES => 0,
            _ => self.served_ms + COMPANY_MS,
        })
    }

    /// Whether there is something to read ahead for this peer.
    fn is_behind(&self) -> bool {
        self.pending.is_none() && matches!(self.ahead, Ahead::Wanted(_))
    }

    /// What was read ahead takes memory, and nobody comes for it.
    pub fn forget_ahead(&mut self) {
        self.ahead = Ahead::Nothing;
    }
}

/// What a peer that catches up will ask for next: it is read while the peer applies what it has got.
#[derive(Default)]
enum Ahead {
    #[default]
    Nothing,
    Wanted(Wish),
    Read(Wish, Piece),
}

/// What is asked for of this feed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wish {
    after: u64,
    entries_max: usize,
    bytes_max: usize,
    bodies: bool,
    /// The store of the peer that asks.
    reader: FeedId,
}

impl Wish {
    /// Whether what was read for this wish answers `other`.
    fn is_part_of(self, other: Self) -> bool {
        let smaller = self.entries_max <= other.entries_max && self.bytes_max <= other.bytes_max;
        self.after == other.after && self.bodies == other.bodies && self.reader == other.reader && smaller
    }
}

/// A piece of this feed as it was in `epoch`.
struct Piece {
    epoch: u64,
    entries: Vec<FeedEntry>,
    through: u64,
    remaining: u64,
}

/// How many live entries lay behind a place in the feed, and when they were counted.
#[derive(Clone, Copy)]
struct Counted {
    behind: u64,
    remaining: u64,
    /// The feed's head then.
    head: u64,
    at_ms: u64,
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
    pub own_feed: FeedId,
}

/// A node, and its feed: a node that was deployed anew has another one, and lacks what the former one held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub node: NodeId,
    pub feed: FeedId,
}

/// From whose feed the newest entries came: they need not go back there.
#[derive(Default)]
pub(super) struct Origins(VecDeque<(u64, Origin)>);

impl Origins {
    pub fn note(&mut self, sequence: u64, from: Origin) {
        if self.0.len() >= ORIGINS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((sequence, from));
    }

    /// A peer that started anew may have come back from an older disk: it gets everything again.
    pub fn forget(&mut self, node: NodeId) {
        self.0.retain(|(_, from)| from.node != node);
    }

    fn of(&self, sequence: u64) -> Option<Origin> {
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
        let is_due = |peer: &Peer| peer.serve.due_ms(feed, head).is_some_and(|due_ms| due_ms <= now_ms);
        let nodes: Vec<NodeId> = self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(node, _)| *node).collect();
        // What was sent before goes out first: reading ahead begins in a later turn.
        let behind = self.peers.iter().find(|(_, peer)| peer.serve.is_behind()).map(|(node, _)| *node);
        if let Some(node) = behind {
            self.read_ahead(node);
        }
        for node in nodes {
            let Some(serve) = self.peers.get_mut(&node).map(|peer| &mut peer.serve) else { continue };
            let Some((request, _)) = serve.pending.take() else { continue };
            serve.served_ms = now_ms;
            self.serve(node, &request);
        }
    }

    fn read_ahead(&mut self, to: NodeId) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let Ahead::Wanted(wish) = std::mem::take(&mut peer.serve.ahead) else { return };
        let Some(piece) = self.read_piece(to, wish) else { return };
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.serve.ahead = Ahead::Read(wish, piece);
        }
    }

    fn serve(&mut self, to: NodeId, request: &Request) {
        let feed = self.store.feed_id();
        let fits = request.feed == feed || broken(Fault::CursorOfAnotherFeed);
        let wish = Wish {
            after: if fits { request.after } else { 0 },
            entries_max: request.entries_max.min(ENTRIES_MAX) as usize,
            bytes_max: (request.bytes_max as usize).min(BODY_BYTES_MAX),
            bodies: request.bodies,
            reader: request.own_feed,
        };
        let ahead = self.peers.get_mut(&to).map_or(Ahead::Nothing, |peer| std::mem::take(&mut peer.serve.ahead));
        let piece = match ahead {
            Ahead::Read(read, piece) if read.is_part_of(wish) && self.is_as_good_as_new(&piece) => Some(piece),
            _ => self.read_piece(to, wish),
        };
        let Some(Piece { epoch, entries, through, remaining }) = piece else { return };
        if let Some(peer) = self.peers.get_mut(&to).filter(|_| remaining > 0) {
            peer.serve.ahead = Ahead::Wanted(Wish { after: through, ..wish });
        }
        let (request, after) = (request.request, wish.after);
        self.send(to, Message::FeedBatch { request, feed, after, through, remaining, entries, epoch });
    }

    /// Whether what was read before may be sent now. Of another epoch, it may have what was collected since. And if it reached
    /// the end of the feed, which has grown, whoever gets it would take it for the end when it asked.
    fn is_as_good_as_new(&self, piece: &Piece) -> bool {
        let tells_the_end = piece.remaining == 0 && piece.through < self.store.feed_head();
        piece.epoch == self.configuration.epoch && !tells_the_end
    }

    /// `None` when the store failed.
    fn read_piece(&mut self, to: NodeId, wish: Wish) -> Option<Piece> {
        let Wish { after, entries_max, bytes_max, bodies, reader } = wish;
        let head = self.store.feed_head();
        let found = self.stored(self.store.feed_after(after, entries_max))?;
        let complete = found.len() < entries_max;
        let mut through = if complete { head.max(after) } else { after };
        let (mut entries, mut bytes, mut passed) = (Vec::with_capacity(found.len()), 0, 0);
        for (sequence, key) in found {
            if bytes > bytes_max {
                through = entries.last().map_or(after, |entry: &FeedEntry| entry.sequence);
                break;
            }
            if !complete {
                through = sequence;
            }
            passed += 1;
            if self.origins.of(sequence) == Some(Origin { node: to, feed: reader }) {
                continue;
            }
            let Some(held) = self.stored(self.store.chosen(&key))? else { continue };
            bytes += 64 + key.as_bytes().len();
            let revision = bodies.then(|| {
                bytes += held.revision.body.as_ref().map_or(0, bytes::Bytes::len);
                held.revision
            });
            entries.push(FeedEntry { key, ballot: held.ballot, sequence, revision });
        }
        let remaining = if through >= head { 0 } else { self.remaining(to, (after, through), passed, head)? };
        Some(Piece { epoch: self.configuration.epoch, entries, through, remaining })
    }

    /// How many live entries lie behind `through`, which is not the end: counted a few times a second, between that those that
    /// were `passed` since `after` are subtracted, and those added that came at the feed's `head`. `None` when the store failed.
    fn remaining(&mut self, to: NodeId, (after, through): (u64, u64), passed: u64, head: u64) -> Option<u64> {
        let now_ms = self.now.monotonic_ms;
        let lately =
            |counted: &Counted| counted.behind == after && now_ms.saturating_sub(counted.at_ms) < COUNT_EVERY_MS;
        let last = self.peers.get(&to).and_then(|peer| peer.serve.counted).filter(lately);
        let counted = match last {
            Some(Counted { remaining, at_ms, head: before, .. }) => {
                let remaining = (remaining + head.saturating_sub(before)).saturating_sub(passed).max(1);
                Counted { behind: through, remaining, head, at_ms }
            }
            None => {
                let remaining = self.stored(self.store.feed_count_after(through))?;
                Counted { behind: through, remaining, head, at_ms: now_ms }
            }
        };
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.serve.counted = Some(counted);
        }
        Some(counted.remaining)
    }

    pub(super) fn on_body_request(&mut self, from: NodeId, keys: Vec<Key>) {
        if let Some(bodies) = self.chosen_bodies(keys.into_iter().take(BODY_KEYS_MAX), BODY_BYTES_MAX) {
            self.send(from, Message::Bodies { bodies });
        }
    }

    /// What is chosen here of these documents, up to the first that goes beyond so many bytes. `None` when the store failed.
    pub(super) fn chosen_bodies(
        &mut self,
        keys: impl Iterator<Item = Key>,
        bytes_max: usize,
    ) -> Option<Vec<ChosenBody>> {
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let Some(held) = self.stored(self.store.chosen(&key))? else { continue };
            bytes += 64 + held.revision.body.as_ref().map_or(0, bytes::Bytes::len);
            bodies.push(ChosenBody { key, ballot: held.ballot, revision: held.revision });
            if bytes > bytes_max {
                break;
            }
        }
        Some(bodies)
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

    /// When the first of the requests that are held is answered at the latest, or something is read ahead, in monotonic
    /// milliseconds.
    pub(super) fn held_until_ms(&self) -> u64 {
        if self.peers.values().any(|peer| peer.serve.is_behind()) {
            return self.now.monotonic_ms;
        }
        let (feed, head) = (self.store.feed_id(), self.store.feed_head());
        self.peers.values().filter_map(|peer| peer.serve.due_ms(feed, head)).min().unwrap_or(u64::MAX)
    }

    fn noted(&self, node: NodeId) -> Option<(FeedId, u64)> {
        let value = self.store.meta(&format!("{META_CONFIRMED}{node}"))?;
        let (feed, sequence) = value.split_at_checked(8)?;
        Some((u64::from_be_bytes(feed.try_into().ok()?), u64::from_be_bytes(sequence.try_into().ok()?)))
    }
}
