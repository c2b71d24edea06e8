//! Hot alignment and the way to ONLINE (G4): asks for samples, watches the cursors, settles pending keys.

use super::{META_ALIGNED, META_DEPLOYED, Now, Replica};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::hot_alignment::{Alignment, AlignmentPhase, SourceSample};
use coequal_protocol::message::Message;
use coequal_protocol::quorum::{NodeSet, is_read_quorum};
use coequal_protocol::record::{FeedId, LogRecord};
use coequal_protocol::{Ballot, Key};
use coequal_types::rest::{AlignmentPoint, SampledHead};
use coequal_types::{DatabaseStatus, NodeId, Progress, SynchronizationPhase};
use std::collections::{BTreeMap, HashMap, HashSet};

const ASK_AGAIN_MS: u64 = 200;
/// A source of whose feed no more than this is left is asked for a sample before others, for so long.
const NEAR_ENTRIES: u64 = 1_024;
const PREFER_NEAR_MS: u64 = 400;
const SETTLE_AT_ONCE: usize = 64;
/// How often an alignment that settles looks which of its own keys have been decided meanwhile.
const OWN_PENDING_EVERY_MS: u64 = 100;
const PENDING_MAX: usize = 100_000;
/// The alignment point lies at most this long before the change to ONLINE (G4); older samples are taken anew.
const POINT_AGE_MAX_MS: u64 = 900;
/// Requests for a sample of one source that may be answered: an answer that comes later than this many does not count.
const ASKS_MAX: usize = 32;
/// A source that says nothing for so long although it is reached is given up for another one.
const SOURCE_SILENT_MS: u64 = 5_000;
/// Reads that find a key undecided before a proposal decides it: a writer is usually about to.
const PATIENT_READS: u32 = 3;
/// A key that stays undecided this long has lost its coordinator: somebody else settles it.
const STALE_PENDING_MS: u64 = 1_000;
const STALE_PENDING_RANK_MS: u64 = 500;
const STALE_SETTLED_AT_ONCE: usize = 256;

/// The alignment that leads to ONLINE, and what it waits for.
pub(super) struct Running {
    alignment: Alignment,
    asks: BTreeMap<NodeId, Vec<Ask>>,
    /// Of each source that was sampled.
    sampled_at: BTreeMap<NodeId, SampledAt>,
    /// When the last of the samples was there and this node's own pending keys were taken.
    sampled: Option<Now>,
    undecided_reads: HashMap<Key, u32>,
    in_flight: HashSet<Key>,
    rate: Rate,
    /// In monotonic milliseconds.
    began_ms: u64,
    look_at_own_ms: u64,
}

impl Running {
    pub(super) fn decision(&self) -> &Alignment {
        &self.alignment
    }

    fn new(alignment: Alignment, began_ms: u64) -> Self {
        Self {
            began_ms,
            look_at_own_ms: 0,
            alignment,
            asks: BTreeMap::new(),
            sampled_at: BTreeMap::new(),
            sampled: None,
            undecided_reads: HashMap::new(),
            in_flight: HashSet::new(),
            rate: Rate::default(),
        }
    }

    fn note_ask(&mut self, node: NodeId, ask: Ask) {
        let asks = self.asks.entry(node).or_default();
        if asks.len() >= ASKS_MAX {
            asks.remove(0);
        }
        asks.push(ask);
    }

    /// The request that is answered; those before it are answered too, those after it may still be.
    fn take_ask(&mut self, node: NodeId, number: u64) -> Option<Ask> {
        let asks = self.asks.get_mut(&node)?;
        let fits = |ask: &Ask| ask.number == number || broken(Fault::AnyAlignmentAnswer);
        let at = asks.iter().position(fits)?;
        let ask = asks.get(at).copied()?;
        // The next one may be sent at once: the first sample of a source may only have told that it adopted the epoch.
        asks.clear();
        Some(ask)
    }

    fn lose_source(&mut self, node: NodeId) {
        self.alignment.lose_source(node);
        self.asks.remove(&node);
        if !self.alignment.heads().iter().any(|(source, _)| *source == node) {
            self.sampled_at.remove(&node);
        }
    }
}

/// One request for a sample.
#[derive(Clone, Copy)]
struct Ask {
    number: u64,
    asked: Now,
}

/// When a source was sampled.
#[derive(Clone, Copy)]
struct SampledAt {
    /// When it was asked for: what was acknowledged before is in the sample. What is acknowledged between the source's
    /// answer and its arrival here need not be.
    asked: Now,
    /// Arrival, in monotonic milliseconds.
    came_ms: u64,
}

/// Entries per second over the last second or two.
#[derive(Default, Clone, Copy)]
struct Rate {
    since_ms: u64,
    done: u64,
    per_second: f64,
}

impl Rate {
    #[allow(clippy::cast_precision_loss)]
    fn update(&mut self, done: u64, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        if self.since_ms == 0 || done < self.done {
            *self = Self { since_ms: now_ms.max(1), done, per_second: 0.0 };
        } else if elapsed_ms >= 250 {
            let rate = (done - self.done) as f64 * 1000.0 / elapsed_ms as f64;
            *self = Self { since_ms: now_ms, done, per_second: rate };
        }
    }
}

/// Keys seen undecided, since when and at which ballot.
#[derive(Default)]
pub(super) struct StalePending {
    seen: HashMap<Key, (Ballot, u64)>,
    look_at_ms: u64,
}

impl Replica {
    /// Begins (again) to align; SYNCHRONIZING until that is done.
    pub(super) fn start_alignment(&mut self) {
        if self.fault.is_some() || self.superseded.is_some() {
            return;
        }
        let id = self.id();
        let alignment = Alignment::new(id, self.me, &self.configuration, self.new_disk);
        self.alignment = Some(Running::new(alignment, self.now.monotonic_ms));
        self.epoch_alignment = None;
        self.set_status(DatabaseStatus::Synchronizing);
        self.next_tick_ms = self.now.monotonic_ms;
    }

    /// A joint epoch began, or one with a higher low bound: its new voters, or all its members, show that they hold
    /// everything chosen so far, while they serve on.
    pub(super) fn start_epoch_alignment(&mut self) {
        let joins = self.configuration.joint_with.is_some() && self.configuration.voters.contains(&self.me);
        self.epoch_alignment = None;
        if joins || self.is_to_complete() {
            let id = self.id();
            let alignment = Alignment::new(id, self.me, &self.configuration, self.new_disk);
            self.epoch_alignment = Some(Running::new(alignment, self.now.monotonic_ms));
        }
    }

    /// Without contact to a majority, nothing is known to be near any more.
    pub(super) fn check_contact(&mut self) {
        if !self.status.serves_local_reads() {
            return;
        }
        if !is_read_quorum(&self.configuration, &self.reached()) && !broken(Fault::LostContactIgnored) {
            self.start_alignment();
        }
    }

    fn reached(&self) -> NodeSet {
        let peers = self.peers.iter().filter(|(_, peer)| peer.reachable).map(|(node, _)| *node);
        peers.chain([self.me]).collect()
    }

    /// Why nothing is served while too few voters are reached: nobody knows what the others have acknowledged.
    pub(super) fn waits_for_a_majority(&self) -> Option<String> {
        self.alignment.as_ref()?;
        let (reached, voters) = (self.reached(), self.configuration.all_voters());
        let there = voters.iter().filter(|voter| reached.contains(voter)).count();
        (!is_read_quorum(&self.configuration, &reached)).then(|| {
            format!(
                "{there} of {} voters are reached, fewer than a majority: no local read is answered before a majority has \
                 compared; bring the others back (those that are lost for good: POST /v1/cluster/recover)",
                voters.len()
            )
        })
    }

    pub(super) fn lose_source(&mut self, node: NodeId) {
        for running in self.alignment.iter_mut().chain(&mut self.epoch_alignment) {
            running.lose_source(node);
        }
    }

    /// An alignment counts on what this node itself has accepted: it ends only when the others have said that its disk has
    /// forgotten nothing (I7).
    pub(super) fn run_alignments(&mut self) {
        if let Some(mut running) = self.alignment.take() {
            let done = self.step_alignment(&mut running) && self.own_disk.may_vote();
            self.alignment = Some(running);
            if done {
                self.finish_alignment();
            }
        }
        if let Some(mut running) = self.epoch_alignment.take() {
            if self.step_alignment(&mut running) && self.own_disk.may_vote() {
                self.note_aligned(running.alignment.epoch());
            } else {
                self.epoch_alignment = Some(running);
            }
        }
    }

    /// One look at what an alignment waits for. True when it is aligned.
    fn step_alignment(&mut self, running: &mut Running) -> bool {
        let now_ms = self.now.monotonic_ms;
        self.give_up_silent_sources(running);
        for node in self.to_ask(running) {
            let last = running.asks.get(&node).and_then(|asks| asks.last());
            let asked = last.is_some_and(|ask| now_ms.saturating_sub(ask.asked.monotonic_ms) < ASK_AGAIN_MS);
            if !asked && self.peers.get(&node).is_some_and(|peer| peer.reachable) {
                let number = self.id();
                running.note_ask(node, Ask { number, asked: self.now });
                let (feed, after) = self.store.cursor(node).unwrap_or((0, 0));
                let epoch = running.alignment.epoch();
                self.send(node, Message::Sample { alignment: number, epoch, feed, after });
            }
        }
        if running.alignment.wants_own_pending() {
            running.sampled = Some(self.now);
            running.alignment.take_own_pending(self.store.pending(usize::MAX));
        }
        for (source, _) in running.alignment.heads() {
            // A batch that reached the end may have been applied before the sample was here.
            if let Some((feed, through)) = self.peers.get(&source).and_then(|peer| peer.pull.end) {
                running.alignment.on_cursor(source, feed, through);
            }
        }
        if running.alignment.settles_own() && now_ms >= running.look_at_own_ms {
            running.look_at_own_ms = now_ms + OWN_PENDING_EVERY_MS;
            running.alignment.drop_own_decided(|key| self.store.is_pending(key));
        }
        // Without space nothing can be taken in: it is tried again when there may be some.
        let at_once = if self.met_full_ms.is_some() { 0 } else { SETTLE_AT_ONCE };
        let room = at_once.saturating_sub(running.in_flight.len());
        let keys = running.alignment.to_settle(room + running.in_flight.len());
        for key in keys.into_iter().filter(|key| !running.in_flight.contains(key)).take(room).collect::<Vec<_>>() {
            if self.settle_for_alignment(key.clone()) {
                running.in_flight.insert(key);
            }
        }
        let (done, _) = self.drained(running);
        running.rate.update(done, now_ms);
        running.alignment.phase() == AlignmentPhase::Aligned
    }

    /// Whether this node waits for the feeds of other sources than `source`, which would only bring the same once more.
    pub(super) fn stands_aside(&self, source: NodeId) -> bool {
        let running = || self.alignment.iter().chain(&self.epoch_alignment).map(Running::decision);
        running().any(|one| one.drains_others_than(source)) && !running().any(|one| one.waits_for(source))
    }

    /// Whom to ask for a sample: at first, if they are enough, those of whose feeds little is left, as after a long alignment
    /// whose samples have become old. The rest of the others' feeds need not be waited for.
    fn to_ask(&self, running: &Running) -> Vec<NodeId> {
        let mut wanted = running.alignment.to_sample();
        let is_near = |node: &NodeId| {
            let peer = self.peers.get(node).filter(|peer| peer.reachable);
            peer.and_then(|peer| peer.pull.remaining).is_some_and(|remaining| remaining <= NEAR_ENTRIES)
        };
        let voters = self.configuration.all_voters();
        let near = voters.iter().filter(|voter| is_near(voter)).count();
        let are_enough = near >= running.alignment.needed().max(voters.len() / 2);
        let is_new = self.now.monotonic_ms.saturating_sub(running.began_ms) <= PREFER_NEAR_MS;
        if are_enough && is_new && self.configuration.joint_with.is_none() {
            wanted.retain(is_near);
        }
        wanted
    }

    /// A source whose copy cannot be used any more may still be reached, and answers nothing: another one is needed.
    fn give_up_silent_sources(&self, running: &mut Running) {
        let now_ms = self.now.monotonic_ms;
        let silent = |(node, at): (&NodeId, &SampledAt)| {
            let answered_ms = self.peers.get(node).map_or(0, |peer| peer.pull.answered_ms);
            let heard_ms = answered_ms.max(at.came_ms);
            let waits = running.alignment.waits_for(*node);
            (waits && now_ms.saturating_sub(heard_ms) > SOURCE_SILENT_MS).then_some(*node)
        };
        let silent: Vec<NodeId> = running.sampled_at.iter().filter_map(silent).collect();
        silent.into_iter().for_each(|node| running.lose_source(node));
    }

    /// Entries drained and to drain, over the sampled sources.
    fn drained(&self, running: &Running) -> (u64, u64) {
        let total = running.alignment.entries_total();
        let left = |node: &NodeId| {
            let behind = running.alignment.behind(*node);
            let remaining = self.peers.get(node).and_then(|peer| peer.pull.remaining).unwrap_or(behind);
            if running.alignment.waits_for(*node) { remaining.min(behind) } else { 0 }
        };
        let left: u64 = running.alignment.heads().iter().map(|(node, _)| left(node)).sum();
        (total.saturating_sub(left), total)
    }

    fn finish_alignment(&mut self) {
        let Some(running) = &self.alignment else { return };
        let sampled = running.sampled.unwrap_or(self.now);
        let asked = running.sampled_at.values().map(|at| at.asked);
        let point =
            asked.fold(sampled, |first, asked| if asked.monotonic_ms < first.monotonic_ms { asked } else { first });
        let alone = self.configuration.all_voters() == [self.me];
        let old = self.now.monotonic_ms.saturating_sub(sampled.monotonic_ms) > POINT_AGE_MAX_MS
            && !broken(Fault::OldPointKept);
        if !alone && old {
            return self.start_alignment();
        }
        let sources = running.alignment.heads().into_iter().map(|(node, head)| SampledHead { node, head }).collect();
        // Where somebody has set the wall clock since, the point is at the earlier one of both its readings.
        let by_clock_now = self.now.unix_ms.saturating_sub(self.now.monotonic_ms.saturating_sub(point.monotonic_ms));
        self.aligned = Some(AlignmentPoint { unix_ms: point.unix_ms.min(by_clock_now), sources });
        self.aligned_ms = point.monotonic_ms;
        let epoch = running.alignment.epoch();
        self.alignment = None;
        // In this order: who is told to be aligned is made a voter, and its disk then says that it may be missed.
        if self.new_disk {
            self.new_disk = false;
            self.append(LogRecord::Meta { name: META_DEPLOYED.to_owned(), value: bytes::Bytes::new() });
        }
        self.note_aligned(epoch);
        self.set_status(DatabaseStatus::Online);
        self.start_epoch_alignment();
    }

    /// Others may rely on what this node holds only once it is on disk: that is said when the log has got there.
    fn note_aligned(&mut self, epoch: u64) {
        self.note_aligned_bound();
        let value = bytes::Bytes::copy_from_slice(&epoch.to_be_bytes());
        if let Some(lsn) = self.append(LogRecord::Meta { name: META_ALIGNED.to_owned(), value }) {
            self.aligned_at = Some((epoch, lsn));
        }
    }

    /// The log is on disk up to `lsn`.
    pub(super) fn publish_aligned_epoch(&mut self, lsn: crate::storage::Lsn) {
        if let Some((epoch, _)) = self.aligned_at.take_if(|(_, at)| *at <= lsn) {
            self.aligned_epoch = epoch;
        }
    }

    /// A batch of a source's feed is applied.
    pub(super) fn note_batch(&mut self, from: NodeId, feed: FeedId, through: u64, remaining: u64) {
        for running in self.alignment.iter_mut().chain(&mut self.epoch_alignment) {
            running.alignment.on_batch(from, feed, through, remaining);
        }
        if self.alignment.is_some() || self.epoch_alignment.is_some() {
            self.next_tick_ms = self.now.monotonic_ms;
        }
    }

    pub(super) fn on_sample(&mut self, from: NodeId, alignment: u64, epoch: u64, feed: FeedId, after: u64) {
        if epoch > self.configuration.epoch {
            let (epoch, configuration) = (self.configuration.epoch, self.configuration_json());
            return self.send(from, Message::StaleEpoch { epoch, configuration });
        }
        if epoch < self.configuration.epoch {
            let configuration = self.configuration_json();
            self.send(from, Message::ConfigurationNotice { configuration });
        }
        if !self.own_disk.may_vote() {
            return;
        }
        let own_feed = self.store.feed_id();
        let after = if feed == own_feed { after } else { 0 };
        let Some(behind) = self.stored(self.store.feed_count_after(after)) else { return };
        let (epoch, head) = (self.configuration.epoch, self.store.feed_head());
        let pending = self.store.pending(PENDING_MAX);
        if pending.len() >= PENDING_MAX {
            // More than a sample can name: some other source, or a later sample, will do.
            return;
        }
        let answer = Message::SampleAnswer { alignment, epoch, feed: own_feed, head, behind, pending };
        // Having adopted the epoch must survive a crash before it is told.
        self.send_when_durable(from, 0, answer);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_sample_answer(
        &mut self,
        from: NodeId,
        alignment: u64,
        epoch: u64,
        feed: FeedId,
        head: u64,
        behind: u64,
        pending: Vec<Key>,
    ) {
        let sample = SourceSample { feed, head, behind, pending };
        let came_ms = self.now.monotonic_ms;
        for running in self.alignment.iter_mut().chain(&mut self.epoch_alignment) {
            if let Some(ask) = running.take_ask(from, alignment) {
                let sampled = running.alignment.on_sample(from, epoch, sample);
                if sampled {
                    let at = SampledAt { asked: ask.asked, came_ms };
                    running.sampled_at.insert(from, at);
                }
                break;
            }
        }
        self.next_tick_ms = self.now.monotonic_ms;
    }

    /// The chosen state of `key` is here now, as a read that began with this number found it. An alignment that began after
    /// that may wait for what was chosen since.
    pub(super) fn on_alignment_key_settled(&mut self, key: &Key, read: u64) {
        let all = self.alignment.iter_mut().chain(&mut self.epoch_alignment);
        for running in all.filter(|running| running.alignment.id < read) {
            running.alignment.on_settled(key);
            running.in_flight.remove(key);
            running.undecided_reads.remove(key);
        }
        self.next_tick_ms = self.now.monotonic_ms;
    }

    /// A read found `key` undecided. True when it is time for a proposal.
    pub(super) fn on_alignment_key_unsettled(&mut self, key: &Key) -> bool {
        let mut decide = true;
        for running in self.alignment.iter_mut().chain(&mut self.epoch_alignment) {
            running.in_flight.remove(key);
            let reads = running.undecided_reads.entry(key.clone()).or_default();
            *reads += 1;
            decide &= *reads > PATIENT_READS;
        }
        decide
    }

    /// Keys whose coordinator went away between accept and answer: after a while somebody settles them, so that
    /// an acknowledged write becomes visible everywhere even if nobody touches the document again.
    pub(super) fn settle_stale_keys(&mut self) {
        let now_ms = self.now.monotonic_ms;
        if now_ms < self.stale.look_at_ms || !self.configuration.is_voter(self.me) || self.disk_full {
            return;
        }
        self.stale.look_at_ms = now_ms + STALE_PENDING_MS / 2;
        let rank = self.configuration.all_voters().iter().position(|voter| *voter == self.me).unwrap_or(0) as u64;
        let patience_ms = STALE_PENDING_MS + rank * STALE_PENDING_RANK_MS;
        let mut seen = HashMap::new();
        let mut stale = Vec::new();
        for key in self.store.pending(STALE_SETTLED_AT_ONCE * 16) {
            let Some((register, _)) = self.load(&key) else { return };
            let ballot = register.accepted_ballot();
            let since = match self.stale.seen.get(&key) {
                Some((known, since)) if *known == ballot => *since,
                _ => now_ms,
            };
            if now_ms.saturating_sub(since) >= patience_ms && stale.len() < STALE_SETTLED_AT_ONCE {
                stale.push(key.clone());
            }
            seen.insert(key, (ballot, since));
        }
        self.stale.seen = seen;
        for key in stale {
            if self.slots.active(&key).is_none() {
                self.settle_in_background(key);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn progress(&self) -> Option<Progress> {
        let running = self.alignment.as_ref()?;
        let (phase, done, total) = match running.alignment.phase() {
            AlignmentPhase::Connecting => (SynchronizationPhase::Connecting, 0, 0),
            AlignmentPhase::Draining => {
                let (done, total) = self.drained(running);
                (SynchronizationPhase::Draining, done, total)
            }
            AlignmentPhase::Settling | AlignmentPhase::Aligned => {
                let (done, total) = running.alignment.settling();
                (SynchronizationPhase::Settling, done, total)
            }
        };
        let rate = running.rate.per_second;
        let eta_seconds = (rate > 0.0 && total > done).then(|| (total - done) as f64 / rate);
        Some(Progress { phase, entries_done: done, entries_total: total, entries_per_second: rate, eta_seconds })
    }
}
