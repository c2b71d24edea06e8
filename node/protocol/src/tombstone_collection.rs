//! Collection of tombstones, and of promises on keys that never got a value, by a low bound.
//!
//! Forgetting a tombstone is the one thing in this protocol that takes an accepted value back, so it happens for all
//! members at once: the configuration carries a bound, and its epoch fences it.
//!
//! ```text
//! {collected: a, agreed: a} ─► {collected: a, agreed: L} ─► every member complete up to L ─► {collected: L, agreed: L} ─► …
//! ```
//!
//! 1. **Agree.** L is at or below every member's physical clock less the life that it promises to request ids, by its own
//!    word. From the epoch that says `agreed: L`, a member refuses every prepare and accept with a time ≤ L, whatever it
//!    holds of the key ([`Guard::refuses`]), and proposers move their clocks above L.
//! 2. **Complete.** A member aligns with an epoch that has agreed on L (`hot_alignment`: a majority adopted it, then
//!    enough sources were drained and their pending keys settled) and settles what it still holds pending at or below L.
//!    What is chosen at or below L was accepted by a quorum before a majority adopted L, so from then on the member holds
//!    it, or what replaced it: it is *complete up to L*, durably, and says so.
//! 3. **Collect.** When every voter and learner says, in the present epoch, that it is complete up to L, and the epoch is
//!    not joint, the next epoch says `collected: L`. Under it [`Guard::cleared`] takes a chosen tombstone at or below L,
//!    and a promise at or below L, for not there. Taking the rows away is only housekeeping; nothing depends on when.
//!
//! **Why no deleted document comes back.** Let T be the newest chosen revision of a key at ballot t ≤ L when the epoch E
//! with `collected: L` is made. Every member is complete up to L, so every member holds T, and accepted nothing at or below L
//! that is not chosen. Votes count only between nodes of one epoch, and all of E or later see the key without T: as if it had
//! never been written, at ballots above L only. So:
//! - a late prepare or accept at or below L is refused (and one of an earlier epoch anyway, whatever its ballot);
//! - promises above L stay, so whoever prepared above L before E and sends its accept after E meets the same refusals;
//! - a late copy (feed, bodies) at or below L, of a key of which a complete member has nothing chosen, is old: whatever was
//!   chosen there is known, and was collected ([`Guard::is_stale`]). Newer ones are taken. Answers of a quorum are no copies;
//! - a node that is away blocks step 3 as long as it is a member. Taken out and in again, its old copy is set aside and its
//!   half-made copy is thrown away (`joined`); a folder copied by hand counts as a head start only if it knows the same
//!   `collected`. Members that join after E copy from members that are complete.
//!
//! **Why a re-created document never loses.** Its ballot is above L, or was refused, hence above T's. The ballot of a key
//! that a node made up is of the lowest class, below T's though later: a member of E sees no T; and one that has not
//! adopted E takes no feed from one that has, so it forgets T first and learns the new document then.
//!
//! **What else follows.** A document written again after its tombstone was collected begins at version 1; its stamp is new,
//! so no old entity tag fits. A retry after the life of request ids finds nothing and is a new request; a coordinator whose
//! own accept was at or below the collected bound cannot tell its outcome any more and says "unknown" (I9). A clock that
//! jumps ahead hastens nothing unless all members' clocks do (the lowest word counts), and then only the life is cut short;
//! a clock that is behind delays. Safety uses no clock: only the order of ballots, epochs and what is on disk.

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use crate::membership::successor;
use crate::record::Change;
use crate::register::{Answer, Held, Register};
use crate::revision::Revision;
use coequal_types::{Configuration, Incarnation, LowBound, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The low bound as one member holds itself to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guard {
    /// Of the configuration that it has adopted.
    pub bound: LowBound,
    /// It holds, or has collected, everything chosen at this time or before; 0 for a copy that never aligned.
    pub complete: u64,
}

impl Guard {
    /// The ballot to go beyond, if `ballot` is at or below the agreed bound.
    pub fn refuses(&self, ballot: Ballot) -> Option<Ballot> {
        (ballot.time <= self.bound.agreed && self.bound.agreed > 0).then(|| floor(self.bound.agreed))
    }

    /// What to record so that the register forgets what is collected; `None` when that is nothing.
    pub fn cleared(&self, register: &Register) -> Option<Change> {
        let through = self.bound.collected;
        has_collected(register, through).then_some(Change::Collect { through })
    }

    /// Phase 1 of a register that was cleared.
    pub fn prepare(&self, register: &Register, ballot: Ballot) -> (Answer, Option<Change>) {
        debug_assert!(self.cleared(register).is_none());
        match self.refuses(ballot) {
            Some(promised) => (Answer::Refused { promised }, None),
            None => register.prepare(ballot),
        }
    }

    /// Phase 2 of a register that was cleared.
    pub fn accept(&self, register: &Register, ballot: Ballot, revision: &Arc<Revision>) -> (Answer, Option<Change>) {
        debug_assert!(self.cleared(register).is_none());
        match self.refuses(ballot) {
            Some(promised) => (Answer::Refused { promised }, None),
            None => register.accept(ballot, revision, self.bound.agreed),
        }
    }

    /// Whether a copy of a revision chosen at `ballot` is a late one, of something that was collected here since.
    pub fn is_stale(&self, register: &Register, ballot: Ballot) -> bool {
        register.chosen.is_none() && ballot.time <= self.bound.collected.min(self.complete)
    }
}

/// Whether a chosen revision counts as not there under a collected bound. Whoever compares stores leaves these out, on
/// both sides, by the lower of the two bounds.
pub fn is_collected(ballot: Ballot, revision: &Revision, collected: u64) -> bool {
    revision.is_tombstone() && ballot.time <= collected
}

/// Above every ballot of `time`, whoever made it.
pub(crate) fn floor(time: u64) -> Ballot {
    Ballot::ordinary(time, NodeId(u64::MAX), Incarnation::MAX)
}

fn chosen_is_collected(register: &Register, through: u64) -> bool {
    register.chosen.as_ref().is_some_and(|held| is_collected(held.ballot, &held.revision, through))
}

fn promise_is_collected(register: &Register, through: u64) -> bool {
    !register.promised.is_none() && register.promised.time <= through
}

/// Whether [`collect`] changes the register.
pub fn has_collected(register: &Register, through: u64) -> bool {
    chosen_is_collected(register, through)
        || (register.accepted.is_none() && register.chosen.is_none() && promise_is_collected(register, through))
}

/// Takes away what is collected: a chosen tombstone, and then, or where nothing was ever accepted, the promise.
/// A promise above the bound stays, and so does a newer revision that is accepted and not chosen.
pub(crate) fn collect(register: &mut Register, through: u64) {
    if chosen_is_collected(register, through) {
        let chosen = register.chosen.take().map(|held: Held| held.ballot);
        register.feed_sequence = 0;
        register.accepted = register.accepted.take().filter(|held| Some(held.ballot) > chosen);
    }
    if register.accepted.is_none() && register.chosen.is_none() && promise_is_collected(register, through) {
        register.promised = Ballot::NONE;
    }
}

/// What a member last said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberWord {
    /// Epoch that it has adopted.
    pub epoch: u64,
    /// Complete up to here, on disk.
    pub complete: u64,
    /// Its physical clock less the life that it promises to request ids, as the time of a ballot.
    pub horizon: u64,
    /// Tombstones in its store.
    pub tombstones: u64,
}

/// What is to be done about the bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextBound {
    /// Nothing at present.
    Nothing,
    /// These members have to be there, in the present epoch, and complete.
    WaitsFor(Vec<NodeId>),
    /// Write this configuration.
    Step(Box<Configuration>),
}

/// A bound without tombstones below it is raised this many intervals after the last one, for the promises.
const IDLE_INTERVALS: u64 = 24;

/// The next step, by the members' words; those of whom none is known are missing. `interval`: how far the bound moves at
/// least, as a difference of ballot times.
pub fn next_bound(configuration: &Configuration, words: &BTreeMap<NodeId, MemberWord>, interval: u64) -> NextBound {
    let LowBound { agreed, collected } = configuration.low_bound;
    // The system database deletes next to nothing, and its own configuration must not depend on this.
    if configuration.dropped || configuration.joint_with.is_some() || configuration.name.is_system() {
        return NextBound::Nothing;
    }
    let members = configuration.members();
    let lacks = |node: &&NodeId| {
        let complete = |word: &MemberWord| word.epoch == configuration.epoch && word.complete >= agreed;
        !words.get(node).is_some_and(|word| agreed == collected || complete(word))
    };
    let missing: Vec<NodeId> = members.iter().filter(lacks).copied().collect();
    if agreed > collected {
        return match missing.is_empty() || broken(Fault::TombstoneCollectedEarly) {
            true => step(configuration, LowBound { agreed, collected: agreed }),
            false => NextBound::WaitsFor(missing),
        };
    }
    let present = || members.iter().filter_map(|node| words.get(node));
    let wanted = present().any(|word| word.tombstones > 0);
    let pause = if wanted { interval } else { interval.saturating_mul(IDLE_INTERVALS) };
    let known = present().map(|word| word.horizon).min().unwrap_or(0);
    if known < agreed.saturating_add(pause.max(1)) {
        return NextBound::Nothing;
    }
    let collected = if broken(Fault::LowBoundNotAgreed) { known } else { collected };
    match missing.is_empty() {
        true => step(configuration, LowBound { agreed: known, collected }),
        // Raised without it, the bound would only wait for it.
        false => NextBound::WaitsFor(missing),
    }
}

fn step(configuration: &Configuration, low_bound: LowBound) -> NextBound {
    NextBound::Step(Box::new(Configuration { low_bound, ..successor(configuration) }))
}

/// The bound never goes back, is never collected beyond what was agreed before, and never in a joint epoch.
pub fn invariant_bound_step_is_safe(old: &Configuration, new: &Configuration) -> bool {
    let (before, after) = (old.low_bound, new.low_bound);
    before.agreed <= after.agreed
        && before.collected <= after.collected
        && after.collected <= before.agreed
        && after.collected <= after.agreed
        && (before == after || (old.joint_with.is_none() && new.joint_with.is_none() && old.members() == new.members()))
}

/// Nothing is collected before every member is complete up to it, in the epoch in which that is decided.
pub fn invariant_collected_is_complete_everywhere(
    old: &Configuration,
    new: &Configuration,
    words: &BTreeMap<NodeId, MemberWord>,
) -> bool {
    let complete = |node: &NodeId| {
        words.get(node).is_some_and(|word| word.epoch == old.epoch && word.complete >= new.low_bound.collected)
    };
    old.low_bound.collected == new.low_bound.collected || old.members().iter().all(complete)
}

/// Nothing at or below the agreed bound is taken, and what is collected is not seen.
pub fn invariant_below_the_bound_nothing_is_taken(guard: &Guard, change: Option<&Change>) -> bool {
    match change {
        Some(Change::Promise { ballot } | Change::Accept { ballot, .. }) => {
            guard.bound.agreed == 0 || ballot.time > guard.bound.agreed
        }
        _ => true,
    }
}

/// A complete member holds nothing pending at or below the bound, so forgetting a tombstone loses no vote.
pub fn invariant_complete_has_nothing_pending(register: &Register, complete: u64) -> bool {
    !register.is_pending() || register.accepted_ballot().time > complete
}
