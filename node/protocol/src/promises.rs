//! Where a promise is kept: in memory, under a bound that is on disk, or on disk itself.
//!
//! A promise has to outlive its acceptor's restart (I3), but need not be written down for that. The store holds a time, the
//! *bound*, ahead of the clock. A promise at or below it stays in memory; whoever opens the store again refuses
//! everything at or below the bound that it finds there, hence everything that any promise of a former start would have made
//! it refuse, whatever its key. So the first phase of a write costs no fsync, and a restart costs each writer one refusal, after
//! which its ballots are above the bound.
//!
//! Two kinds of promises are written down all the same:
//! - one above the bound: of a clock that is too far ahead to be followed, or while the bound is being moved;
//! - one for a key that a node may make up, and of which nothing is accepted here. The first accept of such a key comes without a
//!   prepare, at a ballot below every ordinary one, and is refused only by what is known of *this* key: who forgot that the key
//!   was promised to somebody who guessed it would take both. Once something is accepted, that is on disk and refuses it.

use crate::ballot::{Ballot, BallotClass};
use crate::faults::{Fault, broken};
use crate::key::Key;
use crate::record::Change;
use crate::register::{Answer, Register};
use crate::revision::Revision;
use crate::tombstone_collection::{Guard, floor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Promises in memory at most, about 2 MiB; beyond that one of them is written down. A promise leaves when its write arrives.
pub const HELD_MAX: usize = 16_384;

/// What is to be done so that a promise lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: refused, or promised before.
    Nothing,
    /// [`Promises::hold`].
    InMemory,
    /// Record this.
    OnDisk(Change),
}

/// The promises of one store that are not in its registers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Promises {
    bound: u64,
    former: u64,
    held: BTreeMap<Key, Ballot>,
}

impl Promises {
    /// Of a store that was opened and says `bound`, 0 when it says none.
    pub fn after_start(bound: u64) -> Self {
        let former = if broken(Fault::FormerPromisesForgotten) { 0 } else { bound };
        Self { bound, former, ..Self::default() }
    }

    /// The bound on disk.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// The store holds `bound` durably now.
    pub fn raise_bound(&mut self, bound: u64) {
        self.bound = self.bound.max(bound);
    }

    /// The newest promise for a key, wherever it is kept. What is at or below the agreed low bound is refused without it.
    pub fn promised(&self, guard: &Guard, key: &Key, register: &Register) -> Ballot {
        let former = if self.former > 0 { floor(self.former) } else { Ballot::NONE };
        let held = self.held.get(key).copied().unwrap_or(Ballot::NONE);
        let kept = former.max(held);
        if kept.time > guard.bound.agreed { register.promised.max(kept) } else { register.promised }
    }

    fn seen(&self, guard: &Guard, key: &Key, register: &Register) -> Register {
        Register { promised: self.promised(guard, key, register), ..register.clone() }
    }

    /// Phase 1 of a register that was cleared.
    pub fn prepare(&self, guard: &Guard, key: &Key, register: &Register, ballot: Ballot) -> (Answer, Keep) {
        let (answer, change) = guard.prepare(&self.seen(guard, key, register), ballot);
        let keep = match change {
            None => Keep::Nothing,
            Some(_) if self.may_hold(key, register, ballot) => Keep::InMemory,
            Some(change) => Keep::OnDisk(change),
        };
        (answer, keep)
    }

    /// Phase 2 of a register that was cleared.
    pub fn accept(
        &self,
        guard: &Guard,
        key: &Key,
        register: &Register,
        ballot: Ballot,
        revision: &Arc<Revision>,
    ) -> (Answer, Option<Change>) {
        match ballot.class {
            // Below every promise, so only one that is in the register can refuse it.
            BallotClass::Creation if key.may_be_made_up() => guard.accept(register, ballot, revision),
            BallotClass::Creation => (Answer::Refused { promised: register.promised }, None),
            BallotClass::Ordinary => guard.accept(&self.seen(guard, key, register), ballot, revision),
        }
    }

    fn may_hold(&self, key: &Key, register: &Register, ballot: Ballot) -> bool {
        let is_covered = ballot.time <= self.bound || broken(Fault::PromiseAboveBound);
        let may_be_created = register.accepted.is_none() && key.may_be_made_up();
        is_covered && (!may_be_created || broken(Fault::GuessedPromiseInMemory))
    }

    /// With one for `key` there would be too many: this one is to be recorded first, and [`Promises::release`]d when it is.
    pub fn to_write_down(&self, key: &Key) -> Option<(Key, Ballot)> {
        let is_full = self.held.len() >= HELD_MAX && !self.held.contains_key(key);
        let first = self.held.first_key_value().filter(|_| is_full);
        first.map(|(key, ballot)| (key.clone(), *ballot))
    }

    /// Keeps a promise in memory. [`Promises::to_write_down`] has made room for it.
    pub fn hold(&mut self, key: &Key, ballot: Ballot) {
        self.held.insert(key.clone(), ballot);
    }

    /// Something was accepted at `ballot`, which says more than a promise up to there.
    pub fn release(&mut self, key: &Key, ballot: Ballot) {
        if self.held.get(key).is_some_and(|held| *held <= ballot) {
            self.held.remove(key);
        }
    }

    /// How many are in memory.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// I3: whoever opens the store refuses whatever a promise in memory would have made this start refuse.
pub fn invariant_held_promises_are_bounded(promises: &Promises) -> bool {
    promises.held.values().all(|ballot| ballot.time <= promises.bound) && promises.held.len() <= HELD_MAX
}
