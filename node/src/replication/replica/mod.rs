//! One database on one node: the protocol's decisions joined to its store. No clock, no randomness, no network:
//! events come in with their time, effects go out, so the same code runs in a simulation.
//!
//! Files stand in reading order: what goes in and out, the check of the disk, registers, the noted time, acceptor, coordinator,
//! reads, feed, alignment, epochs, comparison with other copies, its pace, and what holds after every step.

pub mod event;
mod disk_check;
mod registers;
mod noted_time;
mod acceptor;
mod coordinator;
mod serving;
mod slot;
mod reads;
mod feed;
mod alignment;
mod epochs;
mod comparison;
mod compared;
mod verdict;
mod tombstones;
mod rest;
mod invariants;
#[cfg(test)]
mod replica_test;
#[cfg(test)]
mod rest_test;
#[cfg(test)]
pub(super) mod driven_test;
#[cfg(test)]
mod epochs_test;
#[cfg(test)]
mod forwards_test;
#[cfg(test)]
mod rounds_test;
#[cfg(test)]
mod alignment_test;
#[cfg(test)]
mod serving_test;
#[cfg(test)]
mod feed_test;
#[cfg(test)]
mod full_disk_test;
#[cfg(test)]
mod settling_test;

pub use event::{ClientRead, ClientWrite, ComparisonView, Effects, Event, Now, ReplicaView};

use crate::replication::error::ServiceError;
use crate::storage::{Lsn, StorageError, Store};
use coequal_protocol::Message;
use coequal_protocol::clock::HybridClock;
use coequal_protocol::disk_check::Recollection;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::promises::Promises;
use coequal_types::rest::AlignmentPoint;
use coequal_types::{Configuration, DatabaseStatus, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Answers that wait until what they promise is on disk (I3).
enum Gated {
    Send(NodeId, Message),
    Local(Message),
}

/// What a replica knows of another node of its database.
#[derive(Default)]
struct Peer {
    reachable: bool,
    incarnation: Incarnation,
    pull: feed::Pull,
    serve: serving::Serve,
    remembered: disk_check::Remembered,
    /// Kept a round waiting: until then others are asked rather, in monotonic milliseconds.
    slow_until_ms: u64,
}

/// A database's replica.
pub struct Replica {
    me: NodeId,
    incarnation: Incarnation,
    store: Arc<Store>,
    configuration: Configuration,
    configuration_lsn: Lsn,
    own_disk: disk_check::OwnDisk,
    clock: HybridClock,
    noted: noted_time::Noted,
    promises: Promises,
    loaded: registers::Loaded,
    random: u64,
    now: Now,
    peers: BTreeMap<NodeId, Peer>,
    slots: slot::Slots,
    queries: BTreeMap<u64, reads::QueryInFlight>,
    forwards: BTreeMap<u64, slot::ForwardedWrite>,
    served: slot::Served,
    next_id: u64,
    gated: VecDeque<(Lsn, Gated)>,
    local: VecDeque<Message>,
    effects: Effects,
    status: DatabaseStatus,
    alignment: Option<alignment::Running>,
    epoch_alignment: Option<alignment::Running>,
    aligned_epoch: u64,
    aligned_at: Option<(u64, Lsn)>,
    aligned: Option<AlignmentPoint>,
    aligned_ms: u64,
    new_disk: bool,
    origins: serving::Origins,
    stale: alignment::StalePending,
    behind: BTreeSet<NodeId>,
    /// Accepts that have come to this node.
    accepts: u64,
    disk_full: bool,
    /// When a read or an append of this replica itself last met a full disk, in monotonic milliseconds.
    met_full_ms: Option<u64>,
    fault: Option<String>,
    superseded: Option<Configuration>,
    next_tick_ms: u64,
    comparing: comparison::Comparing,
    tombstones: tombstones::Tombstones,
}

/// What a replica needs to start.
pub struct ReplicaStart {
    /// This node.
    pub me: NodeId,
    /// This start of it.
    pub incarnation: Incarnation,
    /// The open store.
    pub store: Arc<Store>,
    /// Newest configuration that is known.
    pub configuration: Configuration,
    /// Whether the store may have forgotten something: deployed, not aligned since.
    pub new_disk: bool,
    /// Seed for back-off; any number.
    pub seed: u64,
}

impl Replica {
    /// A replica that starts SYNCHRONIZING, whatever it was before.
    pub fn new(start: ReplicaStart, now: Now) -> Self {
        let noted = noted_time::Noted::before(&start.store);
        let (feed, durable) = (start.store.feed_id(), start.store.durable());
        let own_disk = disk_check::OwnDisk::new(start.me, feed, durable, start.incarnation, &start.configuration);
        let tombstones = tombstones::Tombstones::new(&start.store);
        let mut replica = Self {
            own_disk,
            me: start.me,
            incarnation: start.incarnation,
            store: start.store,
            configuration: start.configuration,
            configuration_lsn: 0,
            clock: HybridClock::starting_above(noted),
            noted: noted_time::Noted::default(),
            promises: Promises::after_start(noted),
            loaded: registers::Loaded::default(),
            random: start.seed | 1,
            now,
            peers: BTreeMap::new(),
            slots: slot::Slots::default(),
            queries: BTreeMap::new(),
            forwards: BTreeMap::new(),
            served: slot::Served::default(),
            // Answers to numbers of a former start, still on their way, must never fit a new one.
            next_id: u64::from(start.incarnation) << 32,
            gated: VecDeque::new(),
            local: VecDeque::new(),
            effects: Effects::default(),
            status: DatabaseStatus::Synchronizing,
            alignment: None,
            epoch_alignment: None,
            aligned_epoch: 0,
            aligned_at: None,
            aligned: None,
            aligned_ms: 0,
            new_disk: start.new_disk,
            origins: serving::Origins::default(),
            stale: alignment::StalePending::default(),
            behind: BTreeSet::new(),
            accepts: 0,
            disk_full: false,
            met_full_ms: None,
            fault: None,
            superseded: None,
            next_tick_ms: 0,
            comparing: comparison::Comparing::default(),
            tombstones,
        };
        replica.recall_last_comparison();
        if broken(Fault::LowBoundNotKept) {
            replica.configuration.low_bound = coequal_types::LowBound::default();
        }
        replica.clock.raise(replica.configuration.low_bound.agreed);
        replica.record_configuration();
        replica.start_alignment();
        replica
    }

    /// Takes one event. What is to be done about it is in [`Replica::take_effects`].
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        match event {
            Event::Write(write) => self.on_client_write(write),
            Event::Read(read) => self.on_client_read(read),
            Event::Peer { from, incarnation, message } => self.on_peer_message(from, incarnation, message),
            Event::Durable(lsn) => self.on_durable(lsn),
            Event::Reachable { node, reachable } => self.on_reachable(node, reachable),
            Event::StoodStill => self.start_alignment(),
            Event::Configuration(configuration) => self.adopt(*configuration),
            Event::DiskFull(full) => self.on_disk_full(full),
            Event::StorageFailed(reason) => self.fail(reason),
            Event::Tick => {}
            Event::Compare(reply) => self.on_compare_wanted(reply),
        }
        self.settle_locally();
    }

    /// Everything that is due by now, and the feeds that wait for entries. Called after a run of events.
    pub fn advance(&mut self, now: Now) {
        self.now = now;
        let looks_around = now.monotonic_ms >= self.next_tick_ms;
        if looks_around {
            self.begin_pause();
        }
        if self.is_running() {
            self.go_on_pulling();
            self.bring_up_to_date();
            self.run_due_slots();
            if looks_around {
                self.look_at_store();
                self.run_due_queries();
                self.expire_forwards(now.monotonic_ms);
                self.check_contact();
                self.ask_what_others_recall();
                self.pull_feeds();
                self.run_alignments();
                self.settle_stale_keys();
                self.run_tombstones();
                self.note_clock();
                self.run_comparison();
            }
            self.settle_locally();
            self.serve_feeds();
            self.pace();
        }
    }

    /// When [`Replica::advance`] wants to be called again, in monotonic milliseconds.
    pub fn next_due_ms(&self) -> u64 {
        // A write that came too late for a copy that has ended must not keep its loop awake.
        let others_ms = if self.is_running() { self.slots.next_due_ms().min(self.held_until_ms()) } else { u64::MAX };
        self.next_tick_ms.min(others_ms)
    }

    /// Neither failed nor made void by a configuration.
    fn is_running(&self) -> bool {
        self.fault.is_none() && self.superseded.is_none()
    }

    /// Messages to send and views to publish, in order.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Whether some answer waits for the log: then a commit is urgent; other records may wait for company.
    pub fn waits_for_durability(&self) -> bool {
        !self.gated.is_empty()
    }

    fn on_durable(&mut self, lsn: Lsn) {
        self.publish_aligned_epoch(lsn);
        self.publish_complete(lsn);
        self.noted.on_durable(lsn, &mut self.promises);
        while self.gated.front().is_some_and(|(gate, _)| *gate <= lsn) {
            match self.gated.pop_front() {
                Some((_, Gated::Send(to, message))) => self.effects.sends.push((to, message)),
                Some((_, Gated::Local(message))) => self.local.push_back(message),
                None => break,
            }
        }
    }

    /// Sends `message` once the log is durable up to `gate`.
    fn send_when_durable(&mut self, to: NodeId, gate: Lsn, message: Message) {
        let gate = if broken(Fault::EpochToldBeforeDisk) { gate } else { gate.max(self.configuration_lsn) };
        let gated = if to == self.me { Gated::Local(message) } else { Gated::Send(to, message) };
        if gate > self.store.durable() && !broken(Fault::AnswerBeforeFsync) {
            // Gates are not always in order (an answer about an old record behind one about a new one): taking
            // the higher one keeps the queue ordered, and only ever delays.
            let gate = self.gated.back().map_or(gate, |(last, _)| gate.max(*last));
            self.gated.push_back((gate, gated));
            return;
        }
        match gated {
            Gated::Send(to, message) => self.effects.sends.push((to, message)),
            Gated::Local(message) => self.local.push_back(message),
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if to == self.me {
            self.local.push_back(message);
        } else {
            self.effects.sends.push((to, message));
        }
    }

    /// Messages of this node to itself, until none is left.
    fn settle_locally(&mut self) {
        while let Some(message) = self.local.pop_front() {
            self.on_peer_message(self.me, self.incarnation, message);
        }
    }

    fn on_peer_message(&mut self, from: NodeId, incarnation: Incarnation, message: Message) {
        if !self.is_running() {
            return;
        }
        if from != self.me {
            self.note_incarnation(from, incarnation);
        }
        match message {
            Message::Prepare { epoch, key, ballot } => self.on_prepare(from, epoch, key, ballot),
            Message::Accept { epoch, key, ballot, revision } => self.on_accept(from, epoch, key, ballot, &revision),
            Message::Query { epoch, key, read, known } => self.on_query(from, epoch, key, read, known),
            Message::Promised { epoch, key, ballot, held, chosen } => {
                self.on_promised(from, epoch, &key, ballot, held, chosen);
            }
            Message::Accepted { epoch, key, ballot } => self.on_accepted(from, epoch, &key, ballot),
            Message::Refused { epoch, key, ballot, promised } => self.on_refused(epoch, &key, ballot, promised),
            Message::QueryAnswer { epoch, key, read, accepted, chosen, revision } => {
                self.on_query_answer(from, epoch, &key, read, reads::QueryAnswered { accepted, chosen, revision });
            }
            Message::StaleEpoch { epoch, configuration } => self.on_stale_epoch(from, epoch, &configuration),
            Message::ConfigurationNotice { configuration } => self.on_configuration_notice(&configuration),
            Message::Recall { feed } => self.on_recall(from, feed),
            Message::Recalled { feed, durable, incarnation } => {
                self.on_recalled(from, Recollection { feed, durable, incarnation });
            }
            Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies, own_feed, durable } => {
                self.note_durable(from, Recollection { feed: own_feed, durable, incarnation });
                let serve = serving::Request { request, feed, after, entries_max, bytes_max, bodies, own_feed };
                self.on_feed_request(from, serve);
            }
            Message::FeedBatch { request, feed, after, through, remaining, entries, epoch } => {
                let batch = feed::Batch { request, feed, after, through, remaining, epoch };
                self.on_feed_batch(from, &batch, entries);
            }
            Message::BodyRequest { keys } => self.on_body_request(from, keys),
            Message::Bodies { bodies } => self.on_bodies(from, bodies),
            Message::Sample { alignment, epoch, feed, after } => self.on_sample(from, alignment, epoch, feed, after),
            Message::SampleAnswer { alignment, epoch, feed, head, behind, pending } => {
                self.on_sample_answer(from, alignment, epoch, feed, head, behind, pending);
            }
            Message::Forward { forward, key, operation, deadline_ms } => {
                self.on_forward(from, forward, key, operation, deadline_ms);
            }
            Message::ForwardAnswer { forward, result } => self.on_forward_answer(forward, result),
            Message::Compare(compare) => self.on_compare(from, compare),
            // Messages about the node or about a deploy never reach a replica.
            Message::RangeRequest { .. }
            | Message::RangeAnswer { .. }
            | Message::Ping { .. }
            | Message::JoinRequest { .. }
            | Message::JoinAnswer { .. } => {}
        }
    }

    /// A peer's new start voids what was under way with the former one.
    fn note_incarnation(&mut self, from: NodeId, incarnation: Incarnation) {
        let peer = self.peers.entry(from).or_default();
        if incarnation > peer.incarnation {
            let restarted = peer.incarnation != 0;
            peer.incarnation = incarnation;
            if restarted {
                peer.pull = feed::Pull::default();
                peer.serve = serving::Serve::default();
                self.origins.forget(from);
                self.lose_source(from);
                self.fail_forwards_to(from);
                self.served.forget(from);
            }
        }
    }

    fn on_reachable(&mut self, node: NodeId, reachable: bool) {
        let peer = self.peers.entry(node).or_default();
        let changed = peer.reachable != reachable;
        peer.reachable = reachable;
        if !changed {
            return;
        }
        self.next_tick_ms = self.now.monotonic_ms;
        if reachable {
            peer.pull = feed::Pull::default();
            self.resend_to(node);
        } else {
            peer.serve.forget_ahead();
            self.lose_source(node);
            self.ask_others_than(node);
        }
        self.note_forwards_to(node, reachable);
    }

    /// What the store gave. When it failed, the replica ends (fail-stop), or has a full disk.
    fn stored<T>(&mut self, result: Result<T, StorageError>) -> Option<T> {
        result.map_err(|error| self.on_storage_error(&error)).ok()
    }

    fn on_storage_error(&mut self, error: &StorageError) {
        if matches!(error, StorageError::DiskFull { .. }) {
            self.on_disk_full(true);
            self.met_full_ms = Some(self.now.monotonic_ms);
        } else {
            self.fail(error.to_string());
        }
    }

    /// A checkpoint or a commit may have failed for good without anything being appended since.
    fn look_at_store(&mut self) {
        if let Some(error) = self.store.failure() {
            self.fail(error.to_string());
        }
        // Nobody else finds out when there is space again: the next one who needs it tries.
        if self.met_full_ms.is_some_and(|met| self.now.monotonic_ms.saturating_sub(met) >= FULL_AGAIN_MS) {
            self.on_disk_full(false);
        }
    }

    fn on_disk_full(&mut self, full: bool) {
        self.disk_full = full;
        self.met_full_ms = None;
    }

    /// The store failed: nothing is served or replicated from here on.
    fn fail(&mut self, reason: String) {
        if self.fault.is_some() {
            return;
        }
        self.set_status(DatabaseStatus::Faulty);
        self.gated.clear();
        self.local.clear();
        let error = ServiceError::Faulty { name: self.configuration.name.clone(), reason: reason.clone() };
        self.fault = Some(reason);
        self.fail_everything(&error);
    }

    fn set_status(&mut self, next: DatabaseStatus) {
        if self.status != next && self.status.may_become(next) {
            self.effects.status_changes.push((self.status, next));
            self.status = next;
        }
    }

    /// The node stops: whoever waits gets an answer.
    pub fn shut_down(&mut self) {
        self.fail_everything(&ServiceError::ShuttingDown);
    }

    /// Status of the database here.
    pub fn view_status(&self) -> DatabaseStatus {
        self.status
    }

    /// Why it is FAULTY, if it is.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The node's identity and settings, for the loop around.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Its epoch, and the newest epoch with which it is aligned.
    pub fn epochs(&self) -> (u64, u64) {
        (self.configuration.epoch, self.aligned_epoch)
    }

    /// The configuration that made this copy void, if there is one.
    pub fn superseded(&self) -> Option<&Configuration> {
        self.superseded.as_ref()
    }

    /// Where it was aligned last.
    pub fn aligned(&self) -> Option<&AlignmentPoint> {
        self.aligned.as_ref()
    }

    /// Monotonic milliseconds of that point, 0 if there is none.
    pub fn aligned_ms(&self) -> u64 {
        self.aligned_ms
    }

    /// What others may know of this replica.
    pub fn view(&self) -> ReplicaView {
        ReplicaView {
            status: self.status,
            reached: self.peers.iter().filter(|(_, peer)| peer.reachable).map(|(node, _)| *node).collect(),
            epoch: self.configuration.epoch,
            aligned_epoch: self.aligned_epoch,
            aligned: self.aligned.clone(),
            configuration: self.configuration.clone(),
            superseded: self.superseded.clone(),
            progress: self.progress(),
            message: self.fault.clone().or_else(|| {
                self.disk_full
                    .then(|| "the disk is full: writes through this node are refused until space is free".to_owned())
                    .or_else(|| self.waits_for_a_majority())
            }),
            backlog: self.backlog(),
            fresh_ms: self.fresh_ms(),
            writes_in_flight: self.slots.len() as u64,
            // A copy that failed does not try its disk again, so it would say so for ever.
            disk_full: self.disk_full && self.fault.is_none(),
            comparison: self.comparison_view(),
            complete: self.tombstones.said(),
            collected_tombstones: self.tombstones.collected,
            collected_promises: self.tombstones.promises,
        }
    }

    /// A pseudo-random number (xorshift64*): back-off needs difference, not secrecy.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) % below.max(1)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Name of the stored value that keeps the clock from going back across restarts.
pub(crate) const META_CLOCK: &str = "clock";
/// Name of the stored configuration.
pub const META_CONFIGURATION: &str = "configuration";
/// The epoch with which the store was last aligned.
pub(crate) const META_ALIGNED: &str = "aligned";
/// Set in a store that was deployed and has not been aligned since.
pub const META_DEPLOYED: &str = "deployed";
/// How often a replica looks around while anything is under way, in milliseconds.
const TICK_MS: u64 = 25;
/// A disk that was met full is tried again after this long.
const FULL_AGAIN_MS: u64 = 500;
