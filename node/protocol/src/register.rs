//! The acceptor's side of a document's register (CASPaxos), as pure functions.
//!
//! Each function looks at a register and a request and says what to answer and what to record. Recording is
//! [`Register::apply`], the same function that replays the log, so a restarted node is what it was.

use crate::ballot::{Ballot, BallotClass};
use crate::faults::{Fault, broken};
use crate::record::Change;
use crate::revision::Revision;
use std::sync::Arc;

/// A revision under the ballot at which it was accepted or chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held {
    /// Ballot of the accept round.
    pub ballot: Ballot,
    /// The value.
    pub revision: Arc<Revision>,
}

/// What a node knows of one document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Register {
    /// No prepare or accept below this is taken.
    pub promised: Ballot,
    /// The newest accepted revision; not necessarily chosen.
    pub accepted: Option<Held>,
    /// The newest revision known to be chosen: the only one that anybody is shown (I10).
    pub chosen: Option<Held>,
    /// Where the chosen revision stands in this node's change feed; 0 when nowhere.
    pub feed_sequence: u64,
}

/// Answer to a prepare or an accept that the register takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Prepare: promised; the newest accepted revision and whether it is known to be chosen.
    Promised {
        /// The newest accepted revision.
        held: Option<Held>,
        /// Whether it is known to be chosen.
        chosen: bool,
    },
    /// Accept: accepted.
    Accepted,
    /// Neither: something higher was promised or accepted.
    Refused {
        /// The ballot to go beyond.
        promised: Ballot,
    },
}

impl Register {
    /// Nothing was ever promised, accepted or chosen here.
    pub fn is_empty(&self) -> bool {
        self.promised.is_none() && self.accepted.is_none() && self.chosen.is_none()
    }

    /// Ballot of the newest accepted revision.
    pub fn accepted_ballot(&self) -> Ballot {
        self.accepted.as_ref().map_or(Ballot::NONE, |held| held.ballot)
    }

    /// Ballot of the newest revision known to be chosen.
    pub fn chosen_ballot(&self) -> Ballot {
        self.chosen.as_ref().map_or(Ballot::NONE, |held| held.ballot)
    }

    /// Whether something is accepted that is not known to be chosen.
    pub fn is_pending(&self) -> bool {
        self.accepted_ballot() > self.chosen_ballot()
    }

    /// Phase 1. Refuses below the promise and at or below the accepted ballot (I4).
    pub fn prepare(&self, ballot: Ballot) -> (Answer, Option<Change>) {
        let below = ballot < self.promised && !broken(Fault::PrepareBelowPromise);
        if below || ballot <= self.accepted_ballot() || ballot.class == BallotClass::Creation {
            return (Answer::Refused { promised: self.promised.max(self.accepted_ballot()) }, None);
        }
        let held = self.accepted.clone().filter(|_| !broken(Fault::PromiseHidesAccepted));
        let answer = Answer::Promised { held, chosen: !self.is_pending() || broken(Fault::PendingToldAsChosen) };
        let keeps = ballot > self.promised && !broken(Fault::PromiseNotKept);
        let change = keeps.then_some(Change::Promise { ballot });
        (answer, change)
    }

    /// Phase 2. Refuses below the promise; an equal ballot is a duplicate only with the identical value (I2, I4).
    /// A creation ballot is taken only where nothing is known of the key and above `low_bound`
    /// (below it, tombstones may have been collected, and a late copy would revive a deleted document).
    pub fn accept(&self, ballot: Ballot, revision: &Arc<Revision>, low_bound: u64) -> (Answer, Option<Change>) {
        let refused = Answer::Refused { promised: self.promised.max(self.accepted_ballot()) };
        if let Some(held) = self.accepted.as_ref().filter(|held| held.ballot == ballot) {
            let same = held.revision == *revision || broken(Fault::EqualBallotOtherValue);
            return if same { (Answer::Accepted, None) } else { (refused, None) };
        }
        let takes = match ballot.class {
            BallotClass::Creation => {
                (self.is_empty() || broken(Fault::CreationOverState))
                    && (ballot.time > low_bound || broken(Fault::CreationBelowLowBound))
            }
            BallotClass::Ordinary => {
                (ballot >= self.promised || broken(Fault::AcceptBelowPromise)) && ballot > self.accepted_ballot()
            }
        };
        let takes = takes || broken(Fault::AcceptBelowAccepted) && ballot < self.accepted_ballot();
        if !takes {
            return (refused, None);
        }
        (Answer::Accepted, Some(Change::Accept { ballot, revision: Arc::clone(revision) }))
    }

    /// What to record when `ballot` is known to be chosen; `revision` may be left out if it was accepted here.
    /// `None` when nothing is new, or when the value is neither given nor here (`needs_body` tells which).
    pub fn learn(&self, ballot: Ballot, revision: Option<&Arc<Revision>>, feed_sequence: u64) -> Option<Change> {
        if ballot <= self.chosen_ballot() && !broken(Fault::OlderChosenOverwrites) {
            return None;
        }
        if revision.is_none() && self.accepted.is_some() && broken(Fault::MarkFitsAnyBallot) {
            return Some(Change::Chosen { ballot: self.accepted_ballot(), feed_sequence, revision: None });
        }
        if self.accepted_ballot() == ballot {
            return Some(Change::Chosen { ballot, feed_sequence, revision: None });
        }
        revision.map(|revision| Change::Chosen { ballot, feed_sequence, revision: Some(Arc::clone(revision)) })
    }

    /// Whether learning that `ballot` is chosen needs the revision from somebody else.
    pub fn needs_body(&self, ballot: Ballot) -> bool {
        let fits = self.accepted_ballot() == ballot || self.accepted.is_some() && broken(Fault::MarkFitsAnyBallot);
        ballot > self.chosen_ballot() && !fits
    }

    /// Applies a recorded change. Used while running and when replaying the log.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Promise { ballot } => self.promised = self.promised.max(*ballot),
            Change::Accept { ballot, revision } => {
                if !broken(Fault::AcceptPromisesNothing) {
                    self.promised = self.promised.max(ballot.successor());
                }
                if *ballot > self.accepted_ballot() {
                    self.accepted = Some(Held { ballot: *ballot, revision: Arc::clone(revision) });
                }
            }
            Change::Chosen { ballot, feed_sequence, revision } => {
                let held = match (revision, &self.accepted) {
                    (Some(revision), _) => Held { ballot: *ballot, revision: Arc::clone(revision) },
                    (None, Some(accepted)) if accepted.ballot == *ballot => accepted.clone(),
                    // A mark for a value that is not here any more was overtaken by a newer chosen one.
                    (None, _) => return,
                };
                if *ballot <= self.chosen_ballot() && !broken(Fault::OlderChosenOverwrites) {
                    return;
                }
                // A copied chosen revision counts as accepted at its ballot; a higher promise is kept.
                self.promised = self.promised.max(ballot.successor());
                if *ballot > self.accepted_ballot() && !broken(Fault::CopyIsNotAccepted) {
                    self.accepted = Some(held.clone());
                }
                self.chosen = Some(held);
                self.feed_sequence = *feed_sequence;
            }
            Change::Collect { through } => crate::tombstone_collection::collect(self, *through),
        }
    }
}

/// I4: an acceptor never takes back a promise and never holds an accepted ballot above it.
pub fn invariant_promise_covers_accepted(register: &Register) -> bool {
    register.accepted.as_ref().is_none_or(|held| register.promised >= held.ballot)
}

/// I4: from one state to a later one, nothing that was promised, accepted or chosen goes back.
pub fn invariant_promise_never_falls(before: &Register, after: &Register) -> bool {
    before.promised <= after.promised
        && before.accepted_ballot() <= after.accepted_ballot()
        && before.chosen_ballot() <= after.chosen_ballot()
}

/// I10: what is shown as chosen was accepted (here or by copy), and has a place in the feed.
pub fn invariant_chosen_is_accepted_and_fed(register: &Register) -> bool {
    register.chosen.as_ref().is_none_or(|held| register.accepted_ballot() >= held.ballot && register.feed_sequence > 0)
}

/// I2: one value per ballot and key, across nodes.
pub fn invariant_one_value_per_ballot<'a>(registers: impl IntoIterator<Item = &'a Register>) -> bool {
    let mut seen: std::collections::HashMap<Ballot, &Arc<Revision>> = std::collections::HashMap::new();
    registers
        .into_iter()
        .flat_map(|register| register.accepted.iter().chain(register.chosen.iter()))
        .all(|held| **seen.entry(held.ballot).or_insert(&held.revision) == held.revision)
}
