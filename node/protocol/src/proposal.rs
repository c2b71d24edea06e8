//! The proposer's side of a register (CASPaxos): one attempt after another to get operations chosen.
//!
//! A proposal carries one or several operations of one document (they are applied one after the other and
//! chosen together). It says what to send; the caller sends, waits and tells what came back.

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use crate::message::{Operation, OperationKind, Rejection};
use crate::operation::{Applied, apply};
use crate::quorum::{NodeSet, chosen_is_acknowledged, is_read_quorum, is_settling_quorum, is_write_quorum};
use crate::register::Held;
use crate::revision::{Effect, Revision};
use coequal_types::{Configuration, NodeId};
use std::sync::Arc;

/// The result of one operation, valid once the proposal is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OperationResult {
    /// Chosen (now or by an earlier try of the same request).
    Written {
        /// Version that the write produced.
        version: u64,
        /// Its stamp.
        stamp: Ballot,
        /// What it did.
        effect: Effect,
    },
    /// Refused by a chosen state.
    Rejected(Rejection),
    /// Nothing to do (settling).
    Settled,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing until the next answer.
    Wait,
    /// Send an accept to every voter.
    Accept {
        /// Ballot of the round.
        ballot: Ballot,
        /// The value.
        revision: Arc<Revision>,
    },
    /// Chosen: answer the clients and let the others learn it.
    Done {
        /// One result for each operation.
        results: Vec<OperationResult>,
        /// What is chosen now and at which ballot; `None` when the document never existed.
        chosen: Option<Held>,
        /// Whether this round chose it, so that the next write may skip its prepare (one-round write a).
        own_round: bool,
    },
    /// Somebody else was faster: back off, then start again above `promised`.
    Lost {
        /// The ballot to go beyond.
        promised: Ballot,
    },
    /// Whether the operations were applied cannot be told any more (I9).
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Preparing { answered: NodeSet, best: Option<Held>, best_chosen: bool, holders: NodeSet },
    Accepting { revision: Arc<Revision>, results: Vec<OperationResult>, answered: NodeSet },
}

/// What a quorum of promises says of the newest revision.
#[derive(Clone, Copy)]
struct Known {
    /// It is chosen: a refusal may be about it.
    chosen: bool,
    /// It is on `writeQuorum` voters: its writer may be told (again) that it succeeded.
    acknowledged: bool,
}

/// An accept that was sent and whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SentAccept {
    ballot: Ballot,
    stamp: Ballot,
    base_version: u64,
    results: Vec<OperationResult>,
}

/// Operations on one document on their way to being chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposal {
    operations: Vec<Operation>,
    ballot: Ballot,
    phase: Phase,
    sent: Vec<SentAccept>,
    lost_rounds: u32,
}

impl Proposal {
    /// A proposal that has not started a round yet.
    pub fn new(operations: Vec<Operation>) -> Self {
        Self { operations, ballot: Ballot::NONE, phase: Phase::Idle, sent: Vec::new(), lost_rounds: 0 }
    }

    /// Ballot of the round under way.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Rounds lost so far.
    pub fn lost_rounds(&self) -> u32 {
        self.lost_rounds
    }

    /// Whether some accept may have been taken by somebody: from then on "not applied" must be proved (I9).
    pub fn may_be_applied(&self) -> bool {
        !self.sent.is_empty() && !broken(Fault::UnknownIsNotApplied)
    }

    /// Voters that answered in this round.
    pub fn answered(&self) -> usize {
        match &self.phase {
            Phase::Idle => 0,
            Phase::Preparing { answered, .. } | Phase::Accepting { answered, .. } => answered.len(),
        }
    }

    /// The accept of this round, for sending again to voters that have not answered.
    pub fn accept_under_way(&self) -> Option<(Arc<Revision>, &NodeSet)> {
        match &self.phase {
            Phase::Accepting { revision, answered, .. } => Some((Arc::clone(revision), answered)),
            _ => None,
        }
    }

    /// Voters that have promised in this round, while it prepares.
    pub fn prepare_under_way(&self) -> Option<&NodeSet> {
        match &self.phase {
            Phase::Preparing { answered, .. } => Some(answered),
            _ => None,
        }
    }

    /// Starts a round with a prepare at `ballot`, which must be above every ballot of this proposal (I2).
    pub fn prepare(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        self.phase =
            Phase::Preparing { answered: NodeSet::new(), best: None, best_chosen: false, holders: NodeSet::new() };
    }

    /// Starts a round without a prepare, on what this coordinator knows to be chosen and promised (one-round
    /// write a, `base` given) or on nothing (b). `None` when nothing would change: a refusal is an answer about a chosen
    /// state (I8), which needs the prepare, unless it goes with a write: once that is chosen, nothing came between it and
    /// `base`, so the state that refused was the newest in the moment before or after it.
    pub fn accept_directly(&mut self, ballot: Ballot, base: Option<&Held>) -> Option<Step> {
        let (revision, results) = self.plan(base.map(|held| held.revision.as_ref()), ballot);
        let is_written = |result: &OperationResult| matches!(result, OperationResult::Written { .. });
        if base.is_none() && !results.iter().all(is_written) {
            return None;
        }
        let revision = revision?;
        self.ballot = ballot;
        Some(self.send_accept(revision, base.map_or(0, |held| held.revision.version), results))
    }

    /// A voter promised.
    pub fn on_promised(
        &mut self,
        configuration: &Configuration,
        from: NodeId,
        ballot: Ballot,
        held: Option<Held>,
        chosen: bool,
    ) -> Step {
        let only_settles = self.only_settles();
        let Phase::Preparing { answered, best, best_chosen, holders } = &mut self.phase else {
            return Step::Wait;
        };
        let late = ballot != self.ballot && !broken(Fault::LateAnswerCounts);
        if late || !is_voter(configuration, from) || !insert(configuration, answered, from) {
            return Step::Wait;
        }
        let (theirs, ours) =
            (held.as_ref().map_or(Ballot::NONE, |h| h.ballot), best.as_ref().map_or(Ballot::NONE, |h| h.ballot));
        let is_taken = ours.is_none() || !broken(Fault::LowerBallotWins);
        if theirs > ours && is_taken {
            *best = held;
            *best_chosen = chosen;
            *holders = NodeSet::from([from]);
        } else if theirs == ours {
            *best_chosen |= chosen && !theirs.is_none();
            holders.insert(from);
        }
        if !is_read_quorum(configuration, answered) {
            return Step::Wait;
        }
        let known = Known {
            chosen: *best_chosen || are_enough(configuration, holders, only_settles),
            acknowledged: *best_chosen && chosen_is_acknowledged(configuration)
                || is_write_quorum(configuration, holders),
        };
        let best = best.clone();
        self.decide(best, known, configuration.low_bound.collected)
    }

    /// Whether nobody waits for a write of this proposal.
    fn only_settles(&self) -> bool {
        self.operations.iter().all(|operation| operation.kind == OperationKind::Settle)
    }

    /// A voter accepted.
    pub fn on_accepted(&mut self, configuration: &Configuration, from: NodeId, ballot: Ballot) -> Step {
        let only_settles = self.only_settles();
        let Phase::Accepting { answered, .. } = &mut self.phase else {
            return Step::Wait;
        };
        let late = ballot != self.ballot && !broken(Fault::LateAnswerCounts);
        if late || !is_voter(configuration, from) {
            return Step::Wait;
        }
        insert(configuration, answered, from);
        if !are_enough(configuration, answered, only_settles) {
            return Step::Wait;
        }
        let Phase::Accepting { revision, results, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Step::Wait;
        };
        Step::Done { results, chosen: Some(Held { ballot, revision }), own_round: true }
    }

    /// A voter refused, because it promised or accepted something higher. The round is given up at once: an
    /// accept that was sent stays in `sent`, its ballot is never used again (I2).
    pub fn on_refused(&mut self, ballot: Ballot, promised: Ballot) -> Step {
        if ballot != self.ballot || matches!(self.phase, Phase::Idle) {
            return Step::Wait;
        }
        self.abandon_round();
        Step::Lost { promised }
    }

    /// Gives up the round (refused, new epoch, too long without a quorum).
    pub fn abandon_round(&mut self) {
        self.phase = Phase::Idle;
        self.lost_rounds += 1;
        if broken(Fault::SentIsForgotten) {
            self.sent.clear();
        }
    }

    /// With a quorum of promises: what to propose, or the answer.
    fn decide(&mut self, best: Option<Held>, known: Known, collected: u64) -> Step {
        let current = best.as_ref().map(|held| held.revision.as_ref());
        if let Some(results) = self.find_own(current) {
            return self.answer_or_confirm(best, known, results);
        }
        if !self.past_is_certain(current, collected) {
            self.phase = Phase::Idle;
            return Step::Unknown;
        }
        let (revision, results) = self.plan(current, self.ballot);
        match revision {
            Some(revision) => {
                let base = current.map_or(0, |revision| revision.version);
                self.send_accept(revision, base, results)
            }
            None => self.answer_or_confirm(best, known, results),
        }
    }

    /// Results of an earlier accept of this proposal that turns out to be part of the document's past.
    fn find_own(&self, current: Option<&Revision>) -> Option<Vec<OperationResult>> {
        let current = current.filter(|_| !broken(Fault::OwnIsNotFound))?;
        self.sent.iter().find(|sent| current.descends_from(sent.stamp)).map(|sent| sent.results.clone())
    }

    /// Whether it can be told that no earlier accept of this proposal was applied: none was sent, or the
    /// document's history tells (each document remembers the last write of each coordinator). What was sent at or below
    /// the `collected` bound may have been applied, deleted and forgotten since.
    fn past_is_certain(&self, current: Option<&Revision>, collected: u64) -> bool {
        let excluded = |sent: &SentAccept| current.is_none_or(|now| now.excludes(sent.stamp, sent.base_version));
        self.sent.iter().all(|sent| sent.ballot.time > collected && excluded(sent)) || broken(Fault::PastTakenAsCertain)
    }

    /// Answers about `best`, once it is known to be chosen above every accept sent before; else gets it
    /// accepted again at this round's ballot first (I8, I9).
    fn answer_or_confirm(&mut self, best: Option<Held>, known: Known, results: Vec<OperationResult>) -> Step {
        let Some(held) = best else {
            self.phase = Phase::Idle;
            // There is nothing to get chosen above an accept sent before, and a minority may hold that one.
            if self.may_be_applied() && !broken(Fault::AbsentDespiteSent) {
                return Step::Unknown;
            }
            return Step::Done { results, chosen: None, own_round: false };
        };
        let above_sent = self.sent.iter().all(|sent| sent.ballot <= held.ballot) || broken(Fault::RefusalBelowSent);
        let tells_of_write = results.iter().any(|result| matches!(result, OperationResult::Written { .. }));
        let is_known = if tells_of_write { known.acknowledged } else { known.chosen };
        if (is_known || broken(Fault::RefusalFromAccepted)) && above_sent {
            self.phase = Phase::Idle;
            return Step::Done { results, chosen: Some(held), own_round: false };
        }
        let revision = held.revision;
        self.phase = Phase::Accepting { revision: Arc::clone(&revision), results, answered: NodeSet::new() };
        Step::Accept { ballot: self.ballot, revision }
    }

    fn send_accept(&mut self, revision: Revision, base_version: u64, results: Vec<OperationResult>) -> Step {
        let revision = Arc::new(revision);
        self.sent.push(SentAccept {
            ballot: self.ballot,
            stamp: revision.stamp,
            base_version,
            results: results.clone(),
        });
        self.phase = Phase::Accepting { revision: Arc::clone(&revision), results, answered: NodeSet::new() };
        Step::Accept { ballot: self.ballot, revision }
    }

    /// Applies the operations one after the other; `None` when nothing changes.
    fn plan(&self, current: Option<&Revision>, stamp: Ballot) -> (Option<Revision>, Vec<OperationResult>) {
        let mut revision: Option<Revision> = None;
        let mut results = Vec::with_capacity(self.operations.len());
        for operation in &self.operations {
            let result = match apply(revision.as_ref().or(current), operation, stamp) {
                Applied::Changed(next) => {
                    let effect = next.history.last().map_or(Effect::Replaced, |entry| entry.effect);
                    let result = OperationResult::Written { version: next.version, stamp, effect };
                    revision = Some(next);
                    result
                }
                Applied::Unchanged => OperationResult::Settled,
                Applied::Already(entry) => {
                    OperationResult::Written { version: entry.version, stamp: entry.stamp, effect: entry.effect }
                }
                Applied::Rejected(rejection) => OperationResult::Rejected(rejection),
            };
            results.push(result);
        }
        (revision, results)
    }

    /// Takes the operations back out, to run them elsewhere; only while nothing may have been applied.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}

fn is_voter(configuration: &Configuration, node: NodeId) -> bool {
    configuration.is_voter(node) || broken(Fault::NonVotersCount)
}

/// Whether what these voters accepted is chosen, and as firmly as those were promised who wait for it.
fn are_enough(configuration: &Configuration, accepted: &NodeSet, only_settles: bool) -> bool {
    if only_settles { is_settling_quorum(configuration, accepted) } else { is_write_quorum(configuration, accepted) }
}

/// Notes that `from` has answered; false when it had before.
fn insert(configuration: &Configuration, answered: &mut NodeSet, from: NodeId) -> bool {
    let new = answered.insert(from);
    if !new && broken(Fault::DuplicateCounts) {
        let silent = configuration.all_voters().into_iter().find(|voter| !answered.contains(voter));
        return silent.is_some_and(|voter| answered.insert(voter));
    }
    new
}

/// I9: once an accept was sent, an answer other than "unknown" is about something chosen at its ballot or above:
/// until then a minority's copy of it may be taken up by any later coordinator.
pub fn invariant_answers_follow_sent_accepts(proposal: &Proposal, step: &Step) -> bool {
    let Step::Done { chosen, .. } = step else { return true };
    let at = chosen.as_ref().map_or(Ballot::NONE, |held| held.ballot);
    proposal.sent.iter().all(|sent| sent.ballot <= at)
}

/// I9: a proposal that sent an accept never claims that nothing was applied.
pub fn invariant_sent_accepts_are_remembered(proposal: &Proposal) -> bool {
    !matches!(&proposal.phase, Phase::Accepting { revision, .. } if revision.stamp == proposal.ballot)
        || proposal.may_be_applied()
}
