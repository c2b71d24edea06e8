//! Writes under way, one line for each document: one proposal at a time, the others wait behind it.

use super::event::{ReadReply, WriteReply};
use crate::replication::error::ServiceError;
use crate::replication::service::Written;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{ForwardResult, Operation};
use coequal_protocol::proposal::{OperationResult, Proposal};
use coequal_protocol::{Ballot, Held, Key};
use coequal_types::NodeId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Writes that may wait for one document; above that a hot key answers "too many at once".
pub(super) const WAITING_MAX: usize = 1024;
/// Operations that one proposal carries at most: half of what a document remembers, so that each proposal can
/// still find out what became of the one before.
pub(super) const COMBINED_MAX: usize = 8;
/// Documents whose next write may skip its prepare, and the largest of them: together at most 16 MiB.
const RECENT_MAX: usize = 8_192;
const RECENT_BODY_MAX: usize = 2_048;
const HOT_MAX: usize = 65_536;
/// How long a key that was fought for is forwarded to one coordinator.
const HOT_MS: u64 = 2_000;

/// Forwarded writes whose answers are remembered.
const SERVED_MAX: usize = 16_384;

/// Who waits for an operation.
pub(super) enum Reply {
    Write(WriteReply),
    Read(ReadReply),
    Forwarded { to: NodeId, forward: u64 },
    Nobody,
}

/// An operation and who waits for it until when.
pub(super) struct Waiting {
    pub operation: Operation,
    pub generated: bool,
    pub deadline_ms: u64,
    pub reply: Reply,
}

/// The proposal under way.
pub(super) struct Active {
    pub proposal: Proposal,
    pub operations: Vec<Waiting>,
    pub back_off_until_ms: Option<u64>,
    pub resend_at_ms: u64,
    pub resend_interval_ms: u64,
    pub floor: Ballot,
}

#[derive(Default)]
pub(super) struct Slot {
    pub active: Option<Active>,
    pub waiting: VecDeque<Waiting>,
    due_ms: u64,
}

/// A write that another node coordinates for us.
pub(super) struct ForwardedWrite {
    pub to: NodeId,
    pub key: Key,
    pub operation: Operation,
    pub deadline_ms: u64,
    /// When the coordinator became unreachable, if it is.
    pub lost_ms: Option<u64>,
    pub reply: WriteReply,
}

/// Writes that this node coordinates (or has coordinated lately) for others: asked again, it gives the same
/// answer and does nothing twice.
#[derive(Default)]
pub(super) struct Served {
    results: HashMap<(NodeId, u64), Option<ForwardResult>>,
    order: VecDeque<(NodeId, u64)>,
}

impl Served {
    /// The answer given before; `Some(None)` while it is still being worked on.
    pub fn known(&self, from: NodeId, forward: u64) -> Option<Option<ForwardResult>> {
        self.results.get(&(from, forward)).filter(|_| !broken(Fault::ForwardServedTwice)).cloned()
    }

    pub fn begin(&mut self, from: NodeId, forward: u64) {
        self.results.insert((from, forward), None);
        self.order.push_back((from, forward));
        if self.order.len() > SERVED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
    }

    pub fn end(&mut self, from: NodeId, forward: u64, result: &ForwardResult) {
        if let Some(slot) = self.results.get_mut(&(from, forward)) {
            *slot = Some(result.clone());
        }
    }

    /// Numbers of a node's former start mean nothing any more.
    pub fn forget(&mut self, from: NodeId) {
        self.results.retain(|(node, _), _| *node != from);
        self.order.retain(|(node, _)| *node != from);
    }
}

/// All slots of a replica.
#[derive(Default)]
pub(super) struct Slots {
    by_key: HashMap<Key, Slot>,
    due: BTreeSet<(u64, Key)>,
    recent: HashMap<Key, (u64, Held)>,
    recent_order: VecDeque<Key>,
    hot: HashMap<Key, u64>,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// All slots, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Slot> + Clone {
        self.by_key.values()
    }

    pub fn entry(&mut self, key: &Key) -> &mut Slot {
        self.by_key.entry(key.clone()).or_default()
    }

    pub fn active(&mut self, key: &Key) -> Option<&mut Active> {
        self.by_key.get_mut(key).and_then(|slot| slot.active.as_mut())
    }

    pub fn take_active(&mut self, key: &Key) -> Option<Active> {
        self.by_key.get_mut(key).and_then(|slot| slot.active.take())
    }

    /// All keys, in order: what follows from them must not depend on how a table happens to be laid out.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.by_key.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Sets the slot's timer by what it waits for.
    pub fn schedule(&mut self, key: &Key) {
        let Some(slot) = self.by_key.get_mut(key) else { return };
        let due = slot.active.as_ref().map_or(u64::MAX, |active| {
            let step = active.back_off_until_ms.unwrap_or(active.resend_at_ms);
            active.operations.iter().map(|op| op.deadline_ms).min().unwrap_or(step).min(step)
        });
        if slot.due_ms == due {
            return;
        }
        if slot.due_ms != 0 {
            self.due.remove(&(slot.due_ms, key.clone()));
        }
        slot.due_ms = due;
        self.due.insert((due, key.clone()));
    }

    /// Removes a slot in which nothing is left.
    pub fn remove_if_idle(&mut self, key: &Key) {
        if let Some(slot) = self.by_key.get(key)
            && slot.active.is_none()
            && slot.waiting.is_empty()
        {
            self.due.remove(&(slot.due_ms, key.clone()));
            self.by_key.remove(key);
        }
    }

    pub fn remove(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.by_key.remove(key)?;
        self.due.remove(&(slot.due_ms, key.clone()));
        Some(slot)
    }

    pub fn next_due_ms(&self) -> u64 {
        self.due.first().map_or(u64::MAX, |(due, _)| *due)
    }

    pub fn due_by(&self, now_ms: u64) -> Vec<Key> {
        self.due.iter().take_while(|(due, _)| *due <= now_ms).map(|(_, key)| key.clone()).collect()
    }

    /// This coordinator has just chosen `held` in a round of its own (one-round write a).
    pub fn remember_recent(&mut self, key: &Key, epoch: u64, held: Held) {
        if held.revision.body.as_ref().is_some_and(|body| body.len() > RECENT_BODY_MAX) {
            return;
        }
        if self.recent.insert(key.clone(), (epoch, held)).is_none() {
            self.recent_order.push_back(key.clone());
        }
        if self.recent_order.len() > RECENT_MAX
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    /// What was chosen here last, usable once: after a round with an unknown end it must not be used again (I2).
    pub fn take_recent(&mut self, key: &Key, epoch: u64) -> Option<Held> {
        // The key stays in the order list; an entry without a value costs a removal that finds nothing.
        let again = broken(Fault::RecentUsedTwice).then(|| self.recent.get(key).cloned()).flatten();
        let recent = again.or_else(|| self.recent.remove(key));
        recent.filter(|(known, _)| *known == epoch).map(|(_, held)| held)
    }

    pub fn forget_recent(&mut self, key: &Key) {
        self.recent.remove(key);
    }

    /// Somebody else's newer write of `key` was learned.
    pub fn forget_recent_below(&mut self, key: &Key, ballot: Ballot) {
        if self.recent.get(key).is_some_and(|(_, held)| held.ballot < ballot) {
            self.recent.remove(key);
        }
    }

    pub fn forget_all_recent(&mut self) {
        self.recent.clear();
        self.recent_order.clear();
    }

    pub fn mark_hot(&mut self, key: &Key, now_ms: u64) {
        if self.hot.len() >= HOT_MAX {
            self.hot.retain(|_, until| *until > now_ms);
        }
        self.hot.insert(key.clone(), now_ms + HOT_MS);
    }

    pub fn is_hot(&self, key: &Key, now_ms: u64) -> bool {
        self.hot.get(key).is_some_and(|until| *until > now_ms)
    }
}

/// The client's answer to an operation's result.
pub(super) fn written(result: &OperationResult) -> Result<Written, ServiceError> {
    match result {
        OperationResult::Written { version, stamp, effect } => {
            Ok(Written { version: *version, stamp: *stamp, effect: *effect })
        }
        OperationResult::Rejected(rejection) => Err(ServiceError::Rejected(rejection.clone())),
        // Only settling ends so, and nobody waits for it with a write's reply.
        OperationResult::Settled => Err(ServiceError::OutcomeUnknown),
    }
}

/// The same for a write that came from another node.
pub(super) fn forward_result(result: &Result<Written, ServiceError>) -> ForwardResult {
    match result {
        Ok(written) => {
            ForwardResult::Written { version: written.version, stamp: written.stamp, effect: written.effect }
        }
        Err(ServiceError::Rejected(rejection)) => ForwardResult::Rejected(rejection.clone()),
        Err(ServiceError::OutcomeUnknown) => ForwardResult::Unknown,
        Err(_) => ForwardResult::NotApplied,
    }
}
