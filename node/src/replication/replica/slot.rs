//! Writes under way, one line for each document: one proposal at a time, the others wait behind it.

use super::event::{ReadReply, WriteReply};
use crate::replication::error::ServiceError;
use crate::replication::service::Written;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{ForwardResult, Operation};
use coequal_protocol::operation::names_the_past;
use coequal_protocol::proposal::{OperationResult, Proposal};
use coequal_protocol::quorum::NodeSet;
use coequal_protocol::{Ballot, Held, Key, Revision};
use coequal_types::NodeId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Writes that may wait for one document; above that a hot key answers "too many at once".
pub(super) const WAITING_MAX: usize = 1024;
/// Operations that one proposal carries at most: half of what a document remembers, so that each proposal can
/// still find out what became of the one before.
pub(super) const COMBINED_MAX: usize = 8;
/// Refusals that one proposal carries at most: they leave nothing in the document.
const REFUSED_MAX: usize = 64;
/// How long refusals wait for a write to go with: about a client's way there and back.
const KEEP_MS: u64 = 3;
/// Documents whose next write may skip its prepare, and the largest of them: together at most 16 MiB.
const RECENT_MAX: usize = 8_192;
const RECENT_BODY_MAX: usize = 2_048;
const HOT_MAX: usize = 65_536;
/// How long a key that was fought for is forwarded to one coordinator, and within what time late writes count together.
const HOT_MS: u64 = 2_000;
/// So many late writes make a key hot.
const LATE_HOT: u32 = 3;

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
    /// Who was asked for a promise at first: not all, as long as these answer soon.
    pub asked: NodeSet,
}

#[derive(Default)]
pub(super) struct Slot {
    pub active: Option<Active>,
    pub waiting: VecDeque<Waiting>,
    /// Nothing but refusals waits, for a write to go with, until then.
    kept_until_ms: Option<u64>,
    due_ms: u64,
}

impl Slot {
    /// Takes the operations that the next proposal carries; none when none waits, or while they wait for company.
    ///
    /// Those whose condition names something before `last`, what this node itself chose last, change nothing, and beside a
    /// write their answer costs nothing. They come behind it, so that they hear of what it made. Alone they need a prepare,
    /// and the next write then needs one too; where clients race for one document, somebody who has heard of `last` is
    /// about to come.
    pub fn take_together(&mut self, last: Option<&Revision>, now_ms: u64) -> Vec<Waiting> {
        if self.waiting.front().is_some_and(|next| next.generated) {
            return self.waiting.pop_front().into_iter().collect();
        }
        let together = self.waiting.iter().position(|next| next.generated).unwrap_or(self.waiting.len());
        let rest = self.waiting.split_off(together);
        let refused = |next: &Waiting| last.is_some_and(|last| names_the_past(last, &next.operation));
        let (mut refused, mut others): (VecDeque<_>, VecDeque<_>) = self.waiting.drain(..).partition(refused);
        let is_kept =
            others.is_empty() && !refused.is_empty() && now_ms < *self.kept_until_ms.get_or_insert(now_ms + KEEP_MS);
        let mut taken: Vec<Waiting> = Vec::new();
        if !is_kept {
            self.kept_until_ms = None;
            taken.extend(others.drain(..others.len().min(COMBINED_MAX)));
            taken.extend(refused.drain(..refused.len().min(REFUSED_MAX)));
        }
        self.waiting = refused.into_iter().chain(others).chain(rest).collect();
        taken
    }

    /// Whether operations wait for company no longer.
    pub fn is_kept_enough(&self, now_ms: u64) -> bool {
        self.kept_until_ms.is_some_and(|until| until <= now_ms)
    }
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

/// Whether a key is fought for.
struct Heat {
    late: u32,
    since_ms: u64,
    until_ms: u64,
}

/// All slots of a replica.
#[derive(Default)]
pub(super) struct Slots {
    by_key: HashMap<Key, Slot>,
    due: BTreeSet<(u64, Key)>,
    recent: HashMap<Key, (u64, Held)>,
    recent_order: VecDeque<Key>,
    hot: HashMap<Key, Heat>,
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
        let due = slot.active.as_ref().map_or(slot.kept_until_ms.unwrap_or(u64::MAX), |active| {
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

    /// The revision that was chosen here last.
    pub fn last_chosen(&self, key: &Key, epoch: u64) -> Option<Arc<Revision>> {
        self.recent.get(key).filter(|(known, _)| *known == epoch).map(|(_, held)| Arc::clone(&held.revision))
    }

    /// Whether nothing is under way, and what waits has waited for company long enough.
    pub fn waits_no_longer(&self, key: &Key, now_ms: u64) -> bool {
        self.by_key.get(key).is_some_and(|slot| slot.active.is_none() && slot.is_kept_enough(now_ms))
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

    /// A conditional write of `key` came too late for another node's: some of these are a fight, in which no round needs to
    /// be lost.
    pub fn note_late(&mut self, key: &Key, now_ms: u64) {
        let heat = self.heat(key, now_ms);
        if now_ms.saturating_sub(heat.since_ms) > HOT_MS {
            (heat.since_ms, heat.late) = (now_ms, 0);
        }
        heat.late += 1;
        if heat.late >= LATE_HOT {
            heat.until_ms = now_ms + HOT_MS;
        }
    }

    pub fn mark_hot(&mut self, key: &Key, now_ms: u64) {
        self.heat(key, now_ms).until_ms = now_ms + HOT_MS;
    }

    fn heat(&mut self, key: &Key, now_ms: u64) -> &mut Heat {
        if self.hot.len() >= HOT_MAX {
            self.hot.retain(|_, heat| heat.until_ms > now_ms);
        }
        self.hot.entry(key.clone()).or_insert(Heat { late: 0, since_ms: now_ms, until_ms: 0 })
    }

    pub fn is_hot(&self, key: &Key, now_ms: u64) -> bool {
        self.hot.get(key).is_some_and(|heat| heat.until_ms > now_ms)
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use coequal_protocol::message::{Condition, OperationKind};
    use coequal_protocol::operation::{Applied, apply};

    fn waiting(condition: Condition, generated: bool) -> Waiting {
        let operation = Operation { kind: OperationKind::Put(Bytes::from_static(b"{}")), condition, request: None };
        Waiting { operation, generated, deadline_ms: 1_000, reply: Reply::Nobody }
    }

    fn slot(conditions: &[Condition]) -> Slot {
        Slot { waiting: conditions.iter().map(|c| waiting(c.clone(), false)).collect(), ..Slot::default() }
    }

    /// The second version of a document.
    fn last() -> Revision {
        let stamp = |time| Ballot::ordinary(time, NodeId(1), 1);
        let write = |current: Option<&Revision>, time| match apply(
            current,
            &waiting(Condition::Any, false).operation,
            stamp(time),
        ) {
            Applied::Changed(revision) => revision,
            other => panic!("{other:?}"),
        };
        write(Some(&write(None, 1)), 2)
    }

    fn conditions(taken: &[Waiting]) -> Vec<Condition> {
        taken.iter().map(|waiting| waiting.operation.condition.clone()).collect()
    }

    #[test]
    fn refusals_go_with_a_write_and_behind_it() {
        let (stale, fresh) = (Condition::Version(1), Condition::Version(2));
        let mut slot = slot(&[stale.clone(), fresh.clone(), stale.clone(), Condition::Any]);
        let taken = slot.take_together(Some(&last()), 10);
        assert_eq!(conditions(&taken), [fresh, Condition::Any, stale.clone(), stale]);
        assert!(slot.waiting.is_empty() && !slot.is_kept_enough(u64::MAX));
    }

    #[test]
    fn refusals_alone_wait_a_moment_for_a_write_and_not_longer() {
        let (stale, fresh) = (Condition::Version(1), Condition::Version(2));
        let mut slot = slot(std::slice::from_ref(&stale));
        assert!(slot.take_together(Some(&last()), 10).is_empty());
        slot.waiting.push_back(waiting(stale.clone(), false));
        assert!(slot.take_together(Some(&last()), 10 + KEEP_MS - 1).is_empty(), "more of them do not make it longer");
        assert!(!slot.is_kept_enough(10 + KEEP_MS - 1) && slot.is_kept_enough(10 + KEEP_MS));
        assert_eq!(slot.take_together(Some(&last()), 10 + KEEP_MS).len(), 2);
        // A write ends the wait.
        slot.waiting.push_back(waiting(stale.clone(), false));
        assert!(slot.take_together(Some(&last()), 20).is_empty());
        slot.waiting.push_back(waiting(fresh.clone(), false));
        assert_eq!(conditions(&slot.take_together(Some(&last()), 20)), [fresh, stale]);
        assert!(!slot.is_kept_enough(u64::MAX));
    }

    #[test]
    fn without_knowing_what_is_there_all_go_in_their_order_and_a_made_up_key_goes_alone() {
        let mut first = slot(&vec![Condition::Version(1); COMBINED_MAX + 1]);
        assert_eq!(first.take_together(None, 10).len(), COMBINED_MAX);
        assert_eq!(first.take_together(None, 10).len(), 1);
        assert!(first.take_together(None, 10).is_empty());
        let mut made_up = slot(&[Condition::Any]);
        made_up.waiting.push_back(waiting(Condition::Any, true));
        made_up.waiting.push_back(waiting(Condition::Version(7), false));
        assert_eq!(made_up.take_together(Some(&last()), 10).len(), 1);
        assert!(made_up.take_together(Some(&last()), 10).iter().all(|waiting| waiting.generated));
        assert_eq!(made_up.waiting.len(), 1);
    }

    #[test]
    fn a_proposal_carries_as_many_as_it_may_and_the_rest_keep_their_order() {
        let many = |condition: Condition, count| vec![condition; count];
        let all = [many(Condition::Version(1), REFUSED_MAX + 5), many(Condition::Any, COMBINED_MAX + 3)].concat();
        let mut slot = slot(&all);
        assert_eq!(slot.take_together(Some(&last()), 10).len(), REFUSED_MAX + COMBINED_MAX);
        let rest = conditions(&Vec::from(std::mem::take(&mut slot.waiting)));
        assert_eq!(rest, [many(Condition::Version(1), 5), many(Condition::Any, 3)].concat());
    }
}
