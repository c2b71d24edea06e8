//! The coordinator's duties: bring each write to its end, whoever else writes, and say honestly how it ended.

use super::event::ClientWrite;
use super::serving::Origin;
use super::slot::{self, Active, ForwardedWrite, Reply, WAITING_MAX, Waiting};
use super::{Peer, Replica};
use crate::replication::error::ServiceError;
use crate::replication::service::Written;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::hot_key;
use coequal_protocol::message::{ForwardResult, Message, Operation, OperationKind, Rejection};
use coequal_protocol::proposal::{OperationResult, Proposal, Step, invariant_answers_follow_sent_accepts};
use coequal_protocol::quorum::{NodeSet, smallest_read_quorum, write_quorum_size};
use coequal_protocol::{Ballot, BallotClass, Held, Key, Revision};
use coequal_types::NodeId;
use std::sync::Arc;

const RESEND_FIRST_MS: u64 = 100;
const RESEND_MAX_MS: u64 = 1_000;
/// A round for which the store could not be read is begun again after this long.
const STORE_AGAIN_MS: u64 = 500;
/// Of as many voters as are needed, one has not promised after this long: all are asked.
const WIDEN_MS: u64 = 25;
/// For how long others are asked rather than who kept a prepare waiting.
const SLOW_MS: u64 = 1_000;
/// Rounds that a proposal may lose before its key is called hot.
const LOST_ROUNDS_HOT: u32 = 3;
const FORWARDS_MAX: usize = 65_536;
/// A copy answers its peers' pulls at least twice a second; one that has not for so long gets no hot keys.
const COPY_SILENT_MS: u64 = 1_500;
/// A coordinator that is away for longer than this is not waited for.
const FORWARD_LOST_MS: u64 = 500;

impl Replica {
    pub(super) fn on_client_write(&mut self, write: ClientWrite) {
        if let Some(error) = self.refuses_writes() {
            return (write.reply)(Err(error));
        }
        if self.slots.is_hot(&write.key, self.now.monotonic_ms)
            && let Some(to) = self.coordinator_of(&write.key)
            && to != self.me
            && self.forwards.len() < FORWARDS_MAX
        {
            return self.forward(to, write);
        }
        let ClientWrite { key, operation, generated, deadline_ms, reply } = write;
        self.enqueue(key, Waiting { operation, generated, deadline_ms, reply: Reply::Write(reply) });
    }

    pub(super) fn refuses_writes(&self) -> Option<ServiceError> {
        if let Some(reason) = &self.fault {
            return Some(ServiceError::Faulty { name: self.configuration.name.clone(), reason: reason.clone() });
        }
        if self.superseded.is_some() {
            return Some(ServiceError::DatabaseNotAvailable(self.configuration.name.clone(), self.me));
        }
        self.disk_full.then_some(ServiceError::DiskFull)
    }

    pub(super) fn enqueue(&mut self, key: Key, waiting: Waiting) {
        let slot = self.slots.entry(&key);
        if slot.waiting.len() >= WAITING_MAX {
            let error =
                ServiceError::Overloaded { what: "writes waiting for this document", limit: WAITING_MAX as u64 };
            return self.reply(waiting.reply, Err(error));
        }
        slot.waiting.push_back(waiting);
        match &slot.active {
            None => self.start_next(&key),
            Some(active) if active.resend_interval_ms > RESEND_FIRST_MS => self.hurry(&key),
            Some(_) => {}
        }
    }

    /// A proposal that has met silence for long asks seldom. Somebody new waits behind it now, and the voters that were
    /// silent (cut off, just started, with a full disk) may answer again by now.
    fn hurry(&mut self, key: &Key) {
        self.resend(key, None);
        let now_ms = self.now.monotonic_ms;
        let Some(active) = self.slots.active(key) else { return };
        active.resend_interval_ms = RESEND_FIRST_MS;
        active.resend_at_ms = now_ms + RESEND_FIRST_MS;
        self.slots.schedule(key);
    }

    /// Gets a key's newest accepted revision chosen; nobody waits for it.
    pub(super) fn settle_in_background(&mut self, key: Key) {
        let operation = settle_operation();
        let deadline_ms = self.now.monotonic_ms + 5_000;
        self.enqueue(key, Waiting { operation, generated: false, deadline_ms, reply: Reply::Nobody });
    }

    fn start_next(&mut self, key: &Key) {
        let last = self.slots.last_chosen(key, self.configuration.epoch);
        let now_ms = self.now.monotonic_ms;
        let slot = self.slots.entry(key);
        let operations = slot.take_together(last.as_deref(), now_ms);
        if operations.is_empty() {
            self.slots.remove_if_idle(key);
            return self.slots.schedule(key);
        }
        let proposal = Proposal::new(operations.iter().map(|op| op.operation.clone()).collect());
        slot.active = Some(Active {
            proposal,
            operations,
            back_off_until_ms: None,
            resend_at_ms: 0,
            resend_interval_ms: RESEND_FIRST_MS,
            floor: Ballot::NONE,
            asked: NodeSet::new(),
        });
        if !self.start_directly(key) {
            self.start_round(key);
        }
    }

    /// One-round writes: (a) on what this node itself chose last, (b) for a key that it made up.
    fn start_directly(&mut self, key: &Key) -> bool {
        let epoch = self.configuration.epoch;
        let recent = self.slots.take_recent(key, epoch).filter(|held| held.ballot.class == BallotClass::Ordinary);
        let (me, incarnation) = (self.me, self.incarnation);
        let time = self.clock.next(self.now.unix_ms);
        let Some(active) = self.slots.active(key) else { return false };
        let step = match recent {
            Some(held) => active.proposal.accept_directly(held.ballot.successor(), Some(&held)),
            None if key.may_be_made_up() && active.operations.iter().all(|op| op.generated) => {
                active.proposal.accept_directly(Ballot::creation(time, me, incarnation), None)
            }
            None => None,
        };
        let Some(step) = step else { return false };
        if let Some(active) = self.slots.active(key) {
            let ballot = active.proposal.ballot();
            self.observe(ballot);
        }
        self.take_step(key, step);
        true
    }

    fn start_round(&mut self, key: &Key) {
        let Some((register, _)) = self.load(key) else { return self.wait_for_the_store(key) };
        let promised = self.promises.promised(&self.guard(), key, &register);
        let Some(active) = self.slots.active(key) else { return };
        let floor = promised.max(register.accepted_ballot()).max(active.floor).max(active.proposal.ballot());
        let time = self.clock.next_above(floor.time, self.now.unix_ms);
        let ballot = Ballot::ordinary(time, self.me, self.incarnation);
        let epoch = self.configuration.epoch;
        let resend_at_ms = self.now.monotonic_ms + WIDEN_MS;
        let asked = smallest_read_quorum(&self.configuration, self.order_of_asking(key));
        let Some(active) = self.slots.active(key) else { return };
        active.back_off_until_ms = None;
        active.resend_interval_ms = WIDEN_MS;
        active.resend_at_ms = resend_at_ms;
        active.proposal.prepare(ballot);
        active.asked.clone_from(&asked);
        self.slots.schedule(key);
        for voter in asked {
            self.send(voter, Message::Prepare { epoch, key: key.clone(), ballot });
        }
    }

    /// The store could not be read, as between a checkpoint that found the disk full and the file being opened anew: the round
    /// begins later, unless its writes' deadlines pass before.
    fn wait_for_the_store(&mut self, key: &Key) {
        let until_ms = self.now.monotonic_ms + STORE_AGAIN_MS;
        if let Some(active) = self.slots.active(key) {
            active.back_off_until_ms = Some(until_ms);
        }
        self.slots.schedule(key);
    }

    /// First those that are reached, may vote as far as is known here, and answered soon lately: this node before all others, then
    /// for each key others first.
    fn order_of_asking(&self, key: &Key) -> Vec<NodeId> {
        let now_ms = self.now.monotonic_ms;
        let answers = |peer: &Peer| peer.reachable && peer.slow_until_ms <= now_ms;
        let own = self.own_disk.may_vote();
        let is_slow = |node: &NodeId| if *node == self.me { !own } else { !self.peers.get(node).is_some_and(answers) };
        let mut order = self.configuration.all_voters();
        order.sort_by_cached_key(|node| (is_slow(node), *node != self.me, hot_key::weight(key, *node)));
        order
    }

    /// A prepare waits for `node`, which is gone: the others are asked at once.
    pub(super) fn ask_others_than(&mut self, node: NodeId) {
        for key in self.slots.keys() {
            let Some(active) = self.slots.active(&key) else { continue };
            let waits = active.proposal.prepare_under_way().is_some_and(|answered| !answered.contains(&node));
            if waits && active.asked.contains(&node) {
                self.resend(&key, None);
                self.slots.schedule(&key);
            }
        }
    }

    pub(super) fn on_promised(
        &mut self,
        from: NodeId,
        epoch: u64,
        key: &Key,
        ballot: Ballot,
        held: Option<Held>,
        chosen: bool,
    ) {
        if !self.is_this_epoch(epoch) {
            return;
        }
        let Some(active) = self.slots.active(key) else { return };
        let step = active.proposal.on_promised(&self.configuration, from, ballot, held, chosen);
        self.take_step(key, step);
    }

    /// Whether an answer of this epoch counts (I5).
    pub(super) fn is_this_epoch(&self, epoch: u64) -> bool {
        epoch == self.configuration.epoch || broken(Fault::CoordinatorIgnoresEpoch)
    }

    pub(super) fn on_accepted(&mut self, from: NodeId, epoch: u64, key: &Key, ballot: Ballot) {
        if !self.is_this_epoch(epoch) {
            return;
        }
        let Some(active) = self.slots.active(key) else { return };
        let step = active.proposal.on_accepted(&self.configuration, from, ballot);
        self.take_step(key, step);
    }

    pub(super) fn on_refused(&mut self, epoch: u64, key: &Key, ballot: Ballot, promised: Ballot) {
        if !self.is_this_epoch(epoch) {
            return;
        }
        let Some(active) = self.slots.active(key) else { return };
        let step = active.proposal.on_refused(ballot, promised);
        self.take_step(key, step);
    }

    fn take_step(&mut self, key: &Key, step: Step) {
        debug_assert!(
            self.slots.active(key).is_none_or(|active| invariant_answers_follow_sent_accepts(&active.proposal, &step))
        );
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => self.broadcast_accept(key, ballot, &revision),
            Step::Lost { promised } => self.back_off(key, promised),
            Step::Done { results, chosen, own_round } => self.finish(key, &results, chosen, own_round),
            Step::Unknown => {
                let Some(active) = self.slots.take_active(key) else { return };
                for operation in active.operations {
                    self.reply(operation.reply, Err(ServiceError::OutcomeUnknown));
                }
                self.start_next(key);
            }
        }
    }

    fn broadcast_accept(&mut self, key: &Key, ballot: Ballot, revision: &Arc<Revision>) {
        let epoch = self.configuration.epoch;
        let now_ms = self.now.monotonic_ms;
        if let Some(active) = self.slots.active(key) {
            active.resend_interval_ms = RESEND_FIRST_MS;
            active.resend_at_ms = now_ms + RESEND_FIRST_MS;
        }
        self.slots.schedule(key);
        for voter in self.configuration.all_voters() {
            let revision = Arc::clone(revision);
            self.send(voter, Message::Accept { epoch, key: key.clone(), ballot, revision });
        }
    }

    /// Dueling coordinators wait a random while, longer with each loss; a key that is fought for becomes hot.
    fn back_off(&mut self, key: &Key, promised: Ballot) {
        let now_ms = self.now.monotonic_ms;
        let Some(active) = self.slots.active(key) else { return };
        active.floor = active.floor.max(promised);
        let lost = active.proposal.lost_rounds();
        let range = 1u64 << lost.min(6);
        let wait = self.random(range * 2);
        let Some(active) = self.slots.active(key) else { return };
        active.back_off_until_ms = Some(now_ms + wait);
        if lost >= LOST_ROUNDS_HOT {
            self.slots.mark_hot(key, now_ms);
        }
        self.slots.schedule(key);
    }

    fn finish(&mut self, key: &Key, results: &[OperationResult], chosen: Option<Held>, own_round: bool) {
        let Some(active) = self.slots.take_active(key) else { return };
        if let Some(held) = &chosen {
            self.learn(key, held.ballot, Some(&held.revision), None);
            if own_round {
                let epoch = self.configuration.epoch;
                self.slots.remember_recent(key, epoch, held.clone());
            }
        }
        let by_others = |result: &OperationResult| {
            matches!(result, OperationResult::Rejected(Rejection::PreconditionFailed { current: Some((_, stamp)) })
                if stamp.node != self.me)
        };
        if results.iter().any(by_others) {
            self.slots.note_late(key, self.now.monotonic_ms);
        }
        // Who hears first comes first with its next write: those that were refused, and the one that came through last.
        for (operation, result) in active.operations.into_iter().zip(results).rev() {
            match operation.reply {
                Reply::Read(reply) => reply(Ok(chosen.clone())),
                other => self.reply(other, slot::written(result)),
            }
        }
        self.start_next(key);
    }

    /// Records that `ballot` is chosen, if that is news and the value is here. `from`: whose feed told it.
    pub(super) fn learn(&mut self, key: &Key, ballot: Ballot, revision: Option<&Arc<Revision>>, from: Option<Origin>) {
        let Some((register, _)) = self.load(key) else { return };
        let sequence = self.store.next_feed_sequence();
        let Some(change) = register.learn(ballot, revision, sequence) else { return };
        if self.append_change(register, key.clone(), change).is_some() {
            self.note_learned(sequence, from);
        }
    }

    pub(super) fn note_learned(&mut self, sequence: u64, from: Option<Origin>) {
        if let Some(from) = from {
            self.origins.note(sequence, from);
        }
        self.effects.learned += 1;
    }

    pub(super) fn reply(&mut self, reply: Reply, result: Result<Written, ServiceError>) {
        match reply {
            Reply::Write(reply) => reply(result),
            Reply::Read(reply) => reply(result.map(|_| None)),
            Reply::Forwarded { to, forward } => {
                let result = slot::forward_result(&result);
                self.served.end(to, forward, &result);
                self.send(to, Message::ForwardAnswer { forward, result });
            }
            Reply::Nobody => {}
        }
    }

    /// Slots whose back-off, resend or deadline is due.
    pub(super) fn run_due_slots(&mut self) {
        let now_ms = self.now.monotonic_ms;
        for key in self.slots.due_by(now_ms) {
            self.expire_operations(&key, now_ms);
            if self.slots.waits_no_longer(&key, now_ms) {
                self.start_next(&key);
            }
            let Some(active) = self.slots.active(&key) else {
                self.slots.remove_if_idle(&key);
                continue;
            };
            match active.back_off_until_ms {
                Some(until) if until <= now_ms => self.start_round(&key),
                None if active.resend_at_ms <= now_ms => self.resend(&key, None),
                _ => {}
            }
            self.slots.schedule(&key);
        }
    }

    /// Operations past their deadline get their answer: certainly not applied while no accept was sent, else
    /// unknown (G7). The proposal goes on for those that still wait.
    fn expire_operations(&mut self, key: &Key, now_ms: u64) {
        let needed = write_quorum_size(&self.configuration);
        let Some(active) = self.slots.active(key) else { return };
        if active.operations.iter().all(|op| op.deadline_ms > now_ms) {
            return;
        }
        let reached = u32::try_from(active.proposal.answered()).unwrap_or(u32::MAX);
        let may_be_applied = active.proposal.may_be_applied();
        let Some(active) = self.slots.take_active(key) else { return };
        if !may_be_applied {
            let (expired, alive): (Vec<_>, Vec<_>) =
                active.operations.into_iter().partition(|op| op.deadline_ms <= now_ms);
            for operation in expired {
                self.reply(operation.reply, Err(ServiceError::NoQuorum { reached, needed }));
            }
            let slot = self.slots.entry(key);
            alive.into_iter().rev().for_each(|operation| slot.waiting.push_front(operation));
            return self.start_next(key);
        }
        let mut active = active;
        let mut waiting = 0;
        for operation in &mut active.operations {
            if operation.deadline_ms <= now_ms {
                operation.deadline_ms = u64::MAX;
                let reply = std::mem::replace(&mut operation.reply, Reply::Nobody);
                self.reply(reply, Err(ServiceError::OutcomeUnknown));
            } else {
                waiting += usize::from(operation.deadline_ms != u64::MAX);
            }
        }
        if waiting == 0 {
            return self.start_next(key);
        }
        self.slots.entry(key).active = Some(active);
    }

    /// Sends the round's message again to voters that have not answered (or only to `node`).
    fn resend(&mut self, key: &Key, node: Option<NodeId>) {
        let now_ms = self.now.monotonic_ms;
        let epoch = self.configuration.epoch;
        let Some(active) = self.slots.active(key) else { return };
        let asked = if node.is_none() { std::mem::take(&mut active.asked) } else { NodeSet::new() };
        if node.is_none() {
            active.resend_interval_ms = (active.resend_interval_ms * 2).min(RESEND_MAX_MS);
            active.resend_at_ms = now_ms + active.resend_interval_ms;
        }
        let ballot = active.proposal.ballot();
        let (answered, revision) = match (active.proposal.prepare_under_way(), active.proposal.accept_under_way()) {
            (Some(answered), _) => (answered.clone(), None),
            (None, Some((revision, answered))) => (answered.clone(), Some(revision)),
            (None, None) => return,
        };
        for slow in asked.iter().filter(|slow| !answered.contains(slow)) {
            self.peers.entry(*slow).or_default().slow_until_ms = now_ms + SLOW_MS;
        }
        for voter in self.configuration.all_voters() {
            if answered.contains(&voter) || node.is_some_and(|node| node != voter) {
                continue;
            }
            let message = match &revision {
                None => Message::Prepare { epoch, key: key.clone(), ballot },
                Some(revision) => Message::Accept { epoch, key: key.clone(), ballot, revision: Arc::clone(revision) },
            };
            self.send(voter, message);
        }
    }

    /// A peer came back: what it has not answered goes to it again.
    pub(super) fn resend_to(&mut self, node: NodeId) {
        for key in self.slots.keys() {
            self.resend(&key, Some(node));
        }
    }

    /// A new epoch: answers to rounds of the former one never count (I5), so every round begins again.
    pub(super) fn restart_rounds(&mut self) {
        if broken(Fault::RoundKeptAcrossEpochs) {
            return;
        }
        self.slots.forget_all_recent();
        for key in self.slots.keys() {
            let Some(active) = self.slots.active(&key) else { continue };
            active.proposal.abandon_round();
            self.start_round(&key);
        }
    }

    pub(super) fn fail_everything(&mut self, error: &ServiceError) {
        for key in self.slots.keys() {
            let Some(slot) = self.slots.remove(&key) else { continue };
            let unknown = slot.active.as_ref().is_some_and(|active| active.proposal.may_be_applied());
            for operation in slot.active.into_iter().flat_map(|active| active.operations) {
                let answer = if unknown { ServiceError::OutcomeUnknown } else { error.clone() };
                self.reply(operation.reply, Err(answer));
            }
            for operation in slot.waiting {
                self.reply(operation.reply, Err(error.clone()));
            }
        }
        for (_, forwarded) in std::mem::take(&mut self.forwards) {
            (forwarded.reply)(Err(ServiceError::OutcomeUnknown));
        }
        self.fail_queries(error);
    }

    /// The node that coordinates a hot key. A process that is reached may have no usable copy of this database: only those
    /// count whose copy answers.
    fn coordinator_of(&mut self, key: &Key) -> Option<NodeId> {
        let (register, _) = self.load(key)?;
        let now_ms = self.now.monotonic_ms;
        let answers = |peer: &Peer| {
            peer.reachable && peer.pull.answered_ms > 0 && now_ms.saturating_sub(peer.pull.answered_ms) < COPY_SILENT_MS
        };
        let reached = |node: &NodeId| *node == self.me || self.peers.get(node).is_some_and(answers);
        let version = register.chosen.map_or(0, |held| held.revision.version);
        hot_key::coordinator(key, version, self.configuration.voters.iter().copied().filter(reached))
    }

    fn forward(&mut self, to: NodeId, write: ClientWrite) {
        let forward = self.id();
        let ClientWrite { key, operation, deadline_ms, reply, .. } = write;
        self.forwards.insert(forward, ForwardedWrite { to, key, operation, deadline_ms, lost_ms: None, reply });
        self.send_forward(forward);
    }

    fn send_forward(&mut self, forward: u64) {
        let Some(write) = self.forwards.get(&forward) else { return };
        let left_ms = write.deadline_ms.saturating_sub(self.now.monotonic_ms);
        let deadline_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        let (key, operation, to) = (write.key.clone(), write.operation.clone(), write.to);
        self.send(to, Message::Forward { forward, key, operation, deadline_ms });
    }

    pub(super) fn on_forward(&mut self, from: NodeId, forward: u64, key: Key, operation: Operation, deadline_ms: u32) {
        match self.served.known(from, forward) {
            Some(Some(result)) => return self.send(from, Message::ForwardAnswer { forward, result }),
            Some(None) => return,
            None => self.served.begin(from, forward),
        }
        let reply = Reply::Forwarded { to: from, forward };
        if let Some(error) = self.refuses_writes() {
            return self.reply(reply, Err(error));
        }
        self.slots.mark_hot(&key, self.now.monotonic_ms);
        let deadline_ms = self.now.monotonic_ms + u64::from(deadline_ms);
        self.enqueue(key, Waiting { operation, generated: false, deadline_ms, reply });
    }

    pub(super) fn on_forward_answer(&mut self, forward: u64, result: ForwardResult) {
        let Some(forwarded) = self.forwards.remove(&forward) else { return };
        (forwarded.reply)(match result {
            ForwardResult::Written { version, stamp, effect } => Ok(Written { version, stamp, effect }),
            ForwardResult::Rejected(rejection) => Err(ServiceError::Rejected(rejection)),
            ForwardResult::NotApplied => {
                Err(ServiceError::NoQuorum { reached: 0, needed: write_quorum_size(&self.configuration) })
            }
            ForwardResult::Unknown => Err(ServiceError::OutcomeUnknown),
        });
    }

    /// Forwarded writes past their deadline, or whose coordinator stays away: what became of them cannot be told
    /// here (G7).
    pub(super) fn expire_forwards(&mut self, now_ms: u64) {
        let away = |lost: u64| now_ms.saturating_sub(lost) > FORWARD_LOST_MS;
        self.end_forwards(|forwarded| forwarded.deadline_ms <= now_ms || forwarded.lost_ms.is_some_and(away));
    }

    /// The coordinator of forwarded writes went away or came back; back again, it is asked once more.
    pub(super) fn note_forwards_to(&mut self, node: NodeId, reachable: bool) {
        let now_ms = self.now.monotonic_ms;
        let mut again = Vec::new();
        for (id, forwarded) in self.forwards.iter_mut().filter(|(_, forwarded)| forwarded.to == node) {
            forwarded.lost_ms = (!reachable).then_some(now_ms);
            again.push(*id);
        }
        if reachable {
            again.into_iter().for_each(|id| self.send_forward(id));
        }
    }

    /// The coordinator started anew and knows nothing of what it was doing.
    pub(super) fn fail_forwards_to(&mut self, node: NodeId) {
        self.end_forwards(|forwarded| forwarded.to == node);
    }

    fn end_forwards(&mut self, ends: impl Fn(&ForwardedWrite) -> bool) {
        let ended: Vec<u64> = self.forwards.iter().filter(|(_, f)| ends(f)).map(|(id, _)| *id).collect();
        for id in ended {
            if let Some(forwarded) = self.forwards.remove(&id) {
                let not_applied = ServiceError::NoQuorum { reached: 0, needed: 1 };
                let lies = broken(Fault::LostForwardIsNotApplied);
                (forwarded.reply)(Err(if lies { not_applied } else { ServiceError::OutcomeUnknown }));
            }
        }
    }
}

pub(super) fn settle_operation() -> Operation {
    Operation { kind: OperationKind::Settle, condition: coequal_protocol::message::Condition::Any, request: None }
}
