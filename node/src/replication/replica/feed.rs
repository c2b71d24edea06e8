//! The change feed between nodes: live replication and hot alignment are the same stream, only the distance
//! differs. Each node pulls what it lacks from every voter; its pull is its credit, so a slow node slows nobody.

use super::serving::Origin;
use super::{Peer, Replica};
use coequal_protocol::background_pace::{ALIGNMENT, Pace, Step};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{ChosenBody, FeedEntry, Message};
use coequal_protocol::pull_size::PullSize;
use coequal_protocol::quorum::sources_needed;
use coequal_protocol::record::{FeedId, LogRecord};
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::{DatabaseStatus, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries of a batch at most.
pub(super) const ENTRIES_MAX: u32 = 4096;
/// The same where they bring their bodies: a source reads them, and a puller applies them, in one go, in a few milliseconds in
/// which its writers wait.
const ENTRIES_WITH_BODIES_MAX: u32 = 512;
/// The same beside writers.
const ENTRIES_BESIDE_WRITERS_MAX: u32 = 128;
/// While an alignment waits for others, a source that it does not need is pulled from once in this time.
const ASIDE_MS: u64 = 500;
/// A pull without an answer is made again after this long; the wait doubles from the first to the last.
const PULL_RETRY_FIRST_MS: u64 = 125;
const PULL_RETRY_MS: u64 = 2_000;
/// Above this distance bodies are asked for along with the entries.
const BODIES_ABOVE_ENTRIES: u64 = 256;
pub(super) const BODY_KEYS_MAX: usize = 512;

/// This node's pull of one source.
#[derive(Default)]
pub(super) struct Pull {
    request: Option<(u64, u64)>,
    /// How long to wait for the answer; as long as can be once the source has answered.
    patience_ms: u64,
    /// When it was made last, in monotonic milliseconds.
    made_ms: u64,
    size: PullSize,
    pace: Pace,
    /// Accepts that had come to this node when the last batch was taken in.
    accepts: u64,
    /// Entries that the source got while it answered the last batch. A learner is sent no accepts, and these tell.
    came: u64,
    /// A batch was taken in just now: when that began, in monotonic milliseconds.
    taken_in_ms: Option<u64>,
    /// Not pulled from again before, in monotonic milliseconds: writers go first.
    rests_until_ms: u64,
    /// Most bodies of the last batch were here already (accepted, or from another source), so the next one comes without.
    has_bodies: bool,
    waits_for: Option<WaitingBatch>,
    /// The newest batch that reached the end of the source's feed and is applied.
    pub end: Option<(FeedId, u64)>,
    /// When the pull was made whose answer is being applied, in monotonic milliseconds.
    asked_ms: u64,
    /// When the newest pull was made whose answer reached the end of the feed and is applied: what was in the feed
    /// then is here.
    fresh_ms: Option<u64>,
    /// Entries that the source still has for us, as it said last.
    pub remaining: Option<u64>,
    /// When the source last answered, in monotonic milliseconds.
    pub answered_ms: u64,
}

/// A batch whose bodies are on their way; the cursor moves when they are here.
struct WaitingBatch {
    feed: FeedId,
    through: u64,
    remaining: u64,
    /// The ballots that were announced: a body that comes late, from before, is none of these.
    missing: BTreeMap<Key, Ballot>,
    asked_ms: u64,
}

/// A feed batch without its entries.
pub(super) struct Batch {
    pub request: u64,
    pub feed: FeedId,
    pub after: u64,
    pub through: u64,
    pub remaining: u64,
    pub epoch: u64,
}

/// What an entry of a feed meant here.
enum Taken {
    /// Its body was here, whether or not it was known to be chosen.
    Known,
    /// It brought a body that was not here.
    WithBody,
    /// Its body is not here, and has to be asked for.
    Missing(Key, Ballot),
}

impl Replica {
    fn cursor(&self, source: NodeId) -> (FeedId, u64) {
        self.store.cursor(source).unwrap_or((0, 0))
    }

    /// Keeps one request standing at every voter.
    pub(super) fn pull_feeds(&mut self) {
        for source in self.configuration.all_voters() {
            if source != self.me {
                self.pull_from(source);
            }
        }
    }

    fn pull_from(&mut self, source: NodeId) {
        let now_ms = self.now.monotonic_ms;
        let aligned = self.status == DatabaseStatus::Online;
        let stands_aside = !aligned && self.stands_aside(source);
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| peer.reachable) else { return };
        if let Some(waiting) = &peer.pull.waits_for {
            if now_ms.saturating_sub(waiting.asked_ms) < PULL_RETRY_MS {
                return;
            }
            peer.pull.waits_for = None;
            peer.pull.size.unanswered();
        }
        if peer.pull.request.is_some_and(|(_, sent_ms)| now_ms.saturating_sub(sent_ms) < peer.pull.patience_ms) {
            return;
        }
        if stands_aside && now_ms.saturating_sub(peer.pull.made_ms) < ASIDE_MS {
            return;
        }
        if now_ms < peer.pull.rests_until_ms {
            self.next_tick_ms = self.next_tick_ms.min(peer.pull.rests_until_ms);
            return;
        }
        if peer.pull.request.is_some() {
            peer.pull.size.unanswered();
        }
        peer.pull.patience_ms = (peer.pull.patience_ms * 2).clamp(PULL_RETRY_FIRST_MS, PULL_RETRY_MS);
        let is_far = !aligned || peer.pull.remaining.unwrap_or(u64::MAX) > BODIES_ABOVE_ENTRIES;
        let bodies = is_far && !peer.pull.has_bodies;
        let entries_max = match (bodies, peer.pull.pace.short_steps()) {
            (false, _) => ENTRIES_MAX,
            (true, false) => ENTRIES_WITH_BODIES_MAX,
            (true, true) => ENTRIES_BESIDE_WRITERS_MAX,
        };
        let bytes_max = peer.pull.size.bytes();
        let request = self.id();
        if let Some(peer) = self.peers.get_mut(&source) {
            peer.pull.request = Some((request, now_ms));
            peer.pull.made_ms = now_ms;
        }
        let (feed, after) = self.cursor(source);
        let own_feed = self.store.feed_id();
        // An older disk must not say how far it has got since, before it was found out.
        let durable = if self.own_disk.may_vote() { self.store.durable() } else { 0 };
        self.send(
            source,
            Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies, own_feed, durable },
        );
    }

    pub(super) fn on_feed_batch(&mut self, from: NodeId, batch: &Batch, entries: Vec<FeedEntry>) {
        let (feed, sequence) = self.cursor(from);
        let voter = self.configuration.is_voter(from);
        let Some(peer) = self.peers.get_mut(&from).filter(|_| voter) else { return };
        if self.disk_full || peer.pull.request.is_none_or(|(request, _)| request != batch.request) {
            return;
        }
        let asked_ms = peer.pull.request.take().map_or(0, |(_, sent_ms)| sent_ms);
        peer.pull.answered_ms = self.now.monotonic_ms;
        if batch.epoch > self.configuration.epoch {
            // The source may have collected tombstones that are here; it tells the configuration, and is asked again.
            let (epoch, configuration) = (self.configuration.epoch, self.configuration_json());
            return self.send(from, Message::StaleEpoch { epoch, configuration });
        }
        peer.pull.asked_ms = asked_ms;
        let expected = if feed == batch.feed || broken(Fault::CursorOfAnotherFeed) { sequence } else { 0 };
        if batch.after != expected {
            return self.pull_from(from);
        }
        let left = batch.remaining.saturating_add(entries.len() as u64);
        peer.pull.came = peer.pull.remaining.replace(batch.remaining).map_or(0, |before| left.saturating_sub(before));
        peer.pull.size.answered(self.now.monotonic_ms.saturating_sub(asked_ms), batch.remaining > 0);
        peer.pull.patience_ms = PULL_RETRY_MS;
        let (count, mut lacked, mut missing) = (entries.len(), 0, Vec::new());
        for entry in entries {
            match self.take_entry(Origin { node: from, feed: batch.feed }, entry) {
                Taken::Known => {}
                Taken::WithBody => lacked += 1,
                Taken::Missing(key, ballot) => missing.push((key, ballot)),
            }
        }
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| count > 0) {
            peer.pull.has_bodies = lacked + missing.len() < count.div_ceil(2);
        }
        if !self.takes_writes() {
            return;
        }
        if missing.is_empty() || broken(Fault::CursorBeforeEntries) {
            return self.finish_batch(from, batch.feed, batch.through, batch.remaining);
        }
        let waiting = WaitingBatch {
            feed: batch.feed,
            through: batch.through,
            remaining: batch.remaining,
            missing: missing.into_iter().collect(),
            asked_ms: self.now.monotonic_ms,
        };
        self.ask_bodies(from, waiting);
    }

    /// Learns an entry.
    fn take_entry(&mut self, from: Origin, entry: FeedEntry) -> Taken {
        let FeedEntry { key, ballot, sequence: _, revision } = entry;
        if let Some(revision) = revision {
            return self.take_revision(from, key, ballot, &revision);
        }
        let Some((register, _)) = self.load(&key) else { return Taken::Known };
        self.observe(ballot);
        if ballot <= register.chosen_ballot() || self.guard().is_stale(&register, ballot) {
            return Taken::Known;
        }
        if register.needs_body(ballot) {
            return Taken::Missing(key, ballot);
        }
        self.learn_from_feed(from, &key, ballot, None);
        Taken::Known
    }

    /// Learns an entry that brings its revision, as they come to a node that was away: there are many, and each is wanted once.
    fn take_revision(&mut self, from: Origin, key: Key, ballot: Ballot, revision: &Arc<Revision>) -> Taken {
        let Some(register) = self.read(&key) else { return Taken::Known };
        self.observe(ballot);
        if ballot <= register.chosen_ballot() || self.guard().is_stale(&register, ballot) {
            return Taken::Known;
        }
        self.slots.forget_recent_below(&key, ballot);
        let taken = if register.needs_body(ballot) { Taken::WithBody } else { Taken::Known };
        let sequence = self.store.next_feed_sequence();
        if let Some(change) = register.learn(ballot, Some(revision), sequence)
            && self.append_read(register, key, change).is_some()
        {
            self.note_learned(sequence, Some(from));
        }
        taken
    }

    fn learn_from_feed(&mut self, from: Origin, key: &Key, ballot: Ballot, revision: Option<&Arc<Revision>>) {
        self.slots.forget_recent_below(key, ballot);
        self.learn(key, ballot, revision, Some(from));
    }

    fn ask_bodies(&mut self, from: NodeId, waiting: WaitingBatch) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let keys = waiting.missing.keys().take(peer.pull.size.keys().min(BODY_KEYS_MAX)).cloned().collect();
        peer.pull.waits_for = Some(waiting);
        self.send(from, Message::BodyRequest { keys });
    }

    pub(super) fn on_bodies(&mut self, from: NodeId, bodies: Vec<ChosenBody>) {
        // What a node sends that is out by now (a forced recovery may have given it up) is never mixed in.
        if !self.configuration.is_voter(from) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(mut waiting) = peer.pull.waits_for.take() else { return };
        peer.pull.answered_ms = self.now.monotonic_ms;
        let before = waiting.missing.len();
        for body in bodies {
            if waiting.missing.get(&body.key).is_none_or(|announced| body.ballot < *announced) {
                continue;
            }
            waiting.missing.remove(&body.key);
            if !self.is_stale_copy(&body.key, body.ballot) {
                self.learn_from_feed(
                    Origin { node: from, feed: waiting.feed },
                    &body.key,
                    body.ballot,
                    Some(&body.revision),
                );
            }
        }
        if !self.takes_writes() {
            return;
        }
        if waiting.missing.is_empty() {
            return self.finish_batch(from, waiting.feed, waiting.through, waiting.remaining);
        }
        if waiting.missing.len() < before {
            waiting.asked_ms = self.now.monotonic_ms;
            return self.ask_bodies(from, waiting);
        }
        // The source had none of them: the cursor stays, and the entries come again.
        self.pull_from(from);
    }

    /// Whether what was just to be recorded could be. If not, the cursor stays, and the batch comes again: it is pulled again
    /// when there is space.
    pub(super) fn takes_writes(&self) -> bool {
        !self.disk_full && self.is_running()
    }

    /// The cursor moves in the same log as the entries before it.
    fn finish_batch(&mut self, from: NodeId, feed: FeedId, through: u64, remaining: u64) {
        if self.cursor(from) != (feed, through) {
            self.append(LogRecord::Cursor { source: from, feed, sequence: through });
        }
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| remaining == 0) {
            peer.pull.end = Some((feed, through));
            peer.pull.fresh_ms = Some(peer.pull.asked_ms);
        }
        self.note_batch(from, feed, through, remaining);
        let began_ms = self.now.monotonic_ms;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.pull.taken_in_ms = Some(began_ms);
        }
    }

    /// Goes on behind the batches that were taken in since this was called last. How long that took can be told only now: while an
    /// event is handled no time passes.
    pub(super) fn go_on_pulling(&mut self) {
        let taken_in = |(node, peer): (&NodeId, &mut Peer)| Some((*node, peer.pull.taken_in_ms.take()?));
        let sources: Vec<(NodeId, u64)> = self.peers.iter_mut().filter_map(taken_in).collect();
        for (source, began_ms) in sources {
            self.rest(source, began_ms);
            self.pull_from(source);
        }
    }

    /// A node that catches up stands back behind a batch while others write.
    fn rest(&mut self, source: NodeId, began_ms: u64) {
        let (now_ms, accepts, aligned) = (self.now.monotonic_ms, self.accepts, self.status == DatabaseStatus::Online);
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let accepted = accepts - std::mem::replace(&mut peer.pull.accepts, accepts);
        if aligned {
            peer.pull.pace = Pace::default();
            return;
        }
        let remaining = peer.pull.remaining.unwrap_or(0);
        let step =
            Step { now_ms, took_ms: now_ms.saturating_sub(began_ms), writes: accepted.max(peer.pull.came), remaining };
        peer.pull.rests_until_ms = now_ms + peer.pull.pace.pause_ms(ALIGNMENT, step);
    }

    /// Since when local reads may be old: before it, enough voters were drained that any acknowledged write they knew
    /// of is here. `None` before that was so for the first time.
    pub(super) fn fresh_ms(&self) -> Option<u64> {
        let voters = self.configuration.all_voters();
        let needed = sources_needed(voters.len(), !voters.contains(&self.me));
        let others = voters.iter().filter(|voter| **voter != self.me);
        let mut drained: Vec<u64> = others.filter_map(|voter| self.peers.get(voter)?.pull.fresh_ms).collect();
        drained.sort_unstable_by(|a, b| b.cmp(a));
        match needed {
            0 => Some(self.now.monotonic_ms),
            needed => drained.get(needed - 1).copied(),
        }
    }
}
