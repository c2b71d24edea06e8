//! What happens at the nodes that collect.

use super::{Active, Bounds, Letter, Rule, State, Wire, forgets, id, is_revived};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::Operation;
use coequal_protocol::proposal::{OperationResult, Proposal, Step};
use coequal_protocol::query::{Query, QueryStep};
use coequal_protocol::record::Change;
use coequal_protocol::register::{Answer, invariant_promise_never_falls};
use coequal_protocol::tombstone_collection::{
    Guard, MemberWord, NextBound, invariant_below_the_bound_nothing_is_taken, invariant_bound_step_is_safe,
    invariant_collected_is_complete_everywhere, is_collected, next_bound,
};
use coequal_protocol::{Ballot, Held, Register, Revision};
use coequal_types::settings::majority;
use coequal_types::{Configuration, LowBound};
use std::sync::Arc;

/// The physical clock stands: ballots of different nodes meet at equal times.
const PHYSICAL_MS: u64 = 0;

/// A state while something happens in it.
pub struct World<'a> {
    bounds: &'a Bounds,
    pub state: State,
    local: Vec<Letter>,
}

impl<'a> World<'a> {
    pub fn new(bounds: &'a Bounds, state: State) -> Self {
        Self { bounds, state, local: Vec::new() }
    }

    /// Messages of a node to itself arrive at once; those that can change nothing are forgotten.
    pub fn finish(mut self) -> State {
        while !self.local.is_empty() {
            let letter = self.local.remove(0);
            self.deliver(letter);
        }
        let letters = std::mem::take(&mut self.state.letters);
        self.state.letters = letters.into_iter().filter(|letter| !self.bounds.is_spent(&self.state, letter)).collect();
        self.state
    }

    fn fail(&mut self, what: String) {
        self.state.violation.get_or_insert(what);
    }

    /// What only an invariant of collecting forbids.
    fn hold(&mut self, holds: bool, what: &str) {
        if !holds && self.bounds.judges_invariants {
            self.fail(what.to_owned());
        }
    }

    fn configuration_of(&self, at: usize) -> Configuration {
        self.bounds.configuration(&self.state, self.state.sites[at].epoch)
    }

    /// What a node holds itself to.
    fn guard(&self, at: usize) -> Guard {
        let guard = Bounds::guard(&self.state, at);
        let bound = if self.state.sites[at].forgot { LowBound::default() } else { guard.bound };
        Guard { bound, ..guard }
    }

    /// The register without what is collected, as every handler sees it first.
    fn clear(&mut self, at: usize) -> Register {
        if let Some(change) = self.guard(at).cleared(&self.state.sites[at].register) {
            self.state.sites[at].register.apply(&change);
        }
        self.state.sites[at].register.clone()
    }

    pub fn sweep(&mut self, at: usize) {
        let _seen = self.clear(at);
    }

    fn record(&mut self, at: usize, change: Option<&Change>) {
        let Some(change) = change else { return };
        let register = &mut self.state.sites[at].register;
        let before = register.clone();
        register.apply(change);
        if !invariant_promise_never_falls(&before, register) {
            self.fail(format!("node {at} takes something back (I4)"));
        }
    }

    fn learn(&mut self, at: usize, held: &Held) {
        // The place in the feed says nothing in this model, only that there is one.
        let change = self.clear(at).learn(held.ballot, Some(&held.revision), 1);
        self.record(at, change.as_ref());
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        let letter = Letter { from, to, epoch: self.state.sites[from].epoch, wire };
        if from == to {
            self.local.push(letter);
        } else {
            self.state.letters.insert(letter);
        }
    }

    fn broadcast(&mut self, from: usize, wire: Wire) {
        (0..self.state.sites.len()).for_each(|to| self.send(from, to, wire));
    }

    pub fn call(&mut self) {
        let Some(call) = self.bounds.plan.get(self.state.begun) else { return };
        self.state.begun += 1;
        if !call.generated {
            return self.propose(call.at, call.operation.clone(), true);
        }
        let site = &mut self.state.sites[call.at];
        let ballot = Ballot::creation(site.clock.next_above(0, PHYSICAL_MS), id(call.at), site.incarnation);
        let mut proposal = Proposal::new(vec![call.operation.clone()]);
        let step = proposal.accept_directly(ballot, None).unwrap_or(Step::Unknown);
        site.active = Some(Active { proposal, called: true, backs_off: false, floor: Ballot::NONE });
        self.take(call.at, step);
    }

    fn propose(&mut self, at: usize, operation: Operation, called: bool) {
        let proposal = Proposal::new(vec![operation]);
        self.state.sites[at].active = Some(Active { proposal, called, backs_off: false, floor: Ballot::NONE });
        self.start_round(at);
    }

    pub fn start_round(&mut self, at: usize) {
        let register = self.clear(at);
        let site = &mut self.state.sites[at];
        let Some(active) = &mut site.active else { return };
        let floor = register.promised.max(register.accepted_ballot()).max(active.floor).max(active.proposal.ballot());
        let ballot = Ballot::ordinary(site.clock.next_above(floor.time, PHYSICAL_MS), id(at), site.incarnation);
        active.backs_off = false;
        active.proposal.prepare(ballot);
        self.broadcast(at, Wire::Prepare(ballot));
    }

    fn value(&self, ballot: Ballot) -> Option<Held> {
        self.state.proposed.get(&ballot).map(|revision| Held { ballot, revision: Arc::clone(revision) })
    }

    pub fn deliver(&mut self, letter: Letter) {
        let Letter { from, to, epoch, wire } = letter;
        let own = self.state.sites[to].epoch;
        if let Wire::Copy(ballot) = wire {
            return self.copy(to, epoch, ballot);
        }
        let asks = matches!(wire, Wire::Prepare(_) | Wire::Accept(_));
        let ignored = broken(if asks { Fault::AcceptorIgnoresEpoch } else { Fault::CoordinatorIgnoresEpoch });
        if epoch != own && !ignored && self.bounds.rule != Rule::LateTaken {
            return;
        }
        let unbound = matches!(self.bounds.rule, Rule::LateTaken | Rule::BoundNotHeld);
        match wire {
            Wire::Prepare(ballot) => {
                let (register, guard) = (self.clear(to), self.guard(to));
                let taken = if unbound { register.prepare(ballot) } else { guard.prepare(&register, ballot) };
                self.answer(to, from, ballot, taken);
            }
            Wire::Accept(ballot) => {
                let Some(held) = self.value(ballot) else { return };
                let (register, guard) = (self.clear(to), self.guard(to));
                let taken = match unbound {
                    true => register.accept(ballot, &held.revision, 0),
                    false => guard.accept(&register, ballot, &held.revision),
                };
                let accepted = taken.0 == Answer::Accepted;
                self.answer(to, from, ballot, taken);
                if accepted {
                    self.vote(to, &held);
                }
            }
            wire => self.hear(from, to, wire),
        }
    }

    /// An entry of a feed, or a body. One that has not adopted an epoch takes no feed of it, and asks again later.
    fn copy(&mut self, to: usize, epoch: u64, ballot: Ballot) {
        let Some(held) = self.value(ballot).filter(|_| epoch <= self.state.sites[to].epoch) else { return };
        let register = self.clear(to);
        if !self.guard(to).is_stale(&register, ballot) || self.bounds.rule == Rule::StaleCopiesTaken {
            return self.learn(to, &held);
        }
        let is_old = |deleted: &Held| deleted.revision.descends_from(held.revision.stamp);
        if !self.state.deleted.as_ref().is_some_and(is_old) {
            self.fail(format!("node {to} takes {ballot}, which is new, for a late copy of what was collected (G4)"));
        }
    }

    fn answer(&mut self, at: usize, to: usize, ballot: Ballot, (answer, change): (Answer, Option<Change>)) {
        // By the bound that is on its disk, whatever it remembers.
        let holds = invariant_below_the_bound_nothing_is_taken(&Bounds::guard(&self.state, at), change.as_ref());
        self.hold(holds, "something is taken at or below the agreed bound");
        self.record(at, change.as_ref());
        let wire = match answer {
            Answer::Promised { held, chosen } => Wire::Promised { ballot, held: held.map(|held| held.ballot), chosen },
            Answer::Accepted => Wire::Accepted(ballot),
            Answer::Refused { promised } => Wire::Refused { ballot, promised },
        };
        self.send(at, to, wire);
    }

    fn hear(&mut self, from: usize, at: usize, wire: Wire) {
        let configuration = self.configuration_of(at);
        let held = match wire {
            Wire::Promised { held: Some(ballot), .. } => self.value(ballot),
            _ => None,
        };
        let Some(active) = &mut self.state.sites[at].active else { return };
        let step = match wire {
            Wire::Promised { ballot, chosen, .. } => {
                active.proposal.on_promised(&configuration, id(from), ballot, held, chosen)
            }
            Wire::Accepted(ballot) => active.proposal.on_accepted(&configuration, id(from), ballot),
            Wire::Refused { ballot, promised } => active.proposal.on_refused(ballot, promised),
            _ => Step::Wait,
        };
        self.take(at, step);
    }

    fn take(&mut self, at: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => {
                let known = self.state.proposed.entry(ballot).or_insert_with(|| Arc::clone(&revision));
                if *known != revision {
                    self.fail(format!("two values are proposed at {ballot} (I2)"));
                }
                self.broadcast(at, Wire::Accept(ballot));
            }
            Step::Lost { promised } => {
                if let Some(active) = &mut self.state.sites[at].active {
                    active.floor = active.floor.max(promised);
                    active.backs_off = true;
                }
            }
            Step::Unknown => self.state.sites[at].active = None,
            Step::Done { chosen, results, .. } => self.done(at, chosen, &results),
        }
    }

    /// A client is told, and the others hear of it by the feed.
    fn done(&mut self, at: usize, chosen: Option<Held>, results: &[OperationResult]) {
        let called = self.state.sites[at].active.take().is_some_and(|active| active.called);
        let Some(held) = chosen else { return };
        self.learn(at, &held);
        for to in (0..self.state.sites.len()).filter(|to| *to != at) {
            self.send(at, to, Wire::Copy(held.ballot));
        }
        for result in results.iter().filter(|_| called) {
            let OperationResult::Written { stamp, .. } = result else { continue };
            self.state.acknowledged = *stamp;
            if !self.state.current.as_ref().is_some_and(|current| current.revision.descends_from(*stamp)) {
                self.fail(format!("{stamp} is acknowledged and was never chosen, or is lost (G1)"));
            }
        }
    }

    /// The oracle: the moment at which a quorum has accepted a ballot.
    fn vote(&mut self, at: usize, held: &Held) {
        let votes = self.state.votes.entry(held.ballot).or_default();
        let (before, needed) = (votes.count_ones(), majority(u32::try_from(self.state.sites.len()).unwrap()));
        *votes |= 1 << at;
        if before >= needed || votes.count_ones() < needed {
            return;
        }
        let revision = &held.revision;
        let is_past = |now: &Held| now.ballot > held.ballot && now.revision.descends_from(revision.stamp);
        if self.state.current.as_ref().is_some_and(is_past) {
            // A minority's accept on which what is chosen now was built; that a quorum has it by now changes nothing.
            return;
        }
        let follows = self.follows(at, revision);
        if !follows {
            self.fail(format!("{} is chosen and does not follow what was chosen before", held.ballot));
        }
        if revision.is_tombstone() {
            self.state.deleted = Some(held.clone());
        }
        self.state.current = Some(held.clone());
    }

    fn follows(&self, at: usize, revision: &Revision) -> bool {
        let collected = self.configuration_of(at).low_bound.collected;
        let begins_anew = revision.history.first().is_some_and(|entry| entry.version == 1);
        let Some(current) = &self.state.current else { return begins_anew };
        let gone = is_collected(current.ballot, &current.revision, collected);
        let revived = self.state.deleted.as_ref().is_some_and(|deleted| is_revived(revision, &deleted.revision));
        revision.descends_from(current.revision.stamp) || (gone && begins_anew && !revived)
    }

    /// The next bound, by what the nodes say; the horizon is the highest time, because safety uses no clock.
    pub fn caretake(&mut self) {
        let epoch = self.state.steps.len() as u64;
        let newest = self.bounds.configuration(&self.state, epoch);
        let horizon = self.state.sites.iter().map(|site| site.register.promised.time).max().unwrap_or(0);
        let word = |at: usize| {
            let site = &self.state.sites[at];
            let buried = site.register.chosen.as_ref().is_some_and(|held| held.revision.is_tombstone());
            MemberWord { epoch: site.epoch, complete: site.complete, horizon, tombstones: u64::from(buried) }
        };
        let words = (0..self.state.sites.len()).map(|at| (id(at), word(at))).collect();
        let NextBound::Step(next) = next_bound(&newest, &words, 1) else { return };
        let complete = invariant_collected_is_complete_everywhere(&newest, &next, &words);
        self.hold(invariant_bound_step_is_safe(&newest, &next), "the step of the bound is not safe");
        self.hold(complete, "collected before every member is complete");
        self.state.steps.push((next.low_bound.agreed, next.low_bound.collected));
    }

    /// A node hears of the next epoch; its round begins again under it.
    pub fn adopt(&mut self, at: usize) {
        let site = &mut self.state.sites[at];
        site.epoch += 1;
        site.forgot = false;
        let agreed = Bounds::guard(&self.state, at).bound.agreed;
        let site = &mut self.state.sites[at];
        if !matches!(self.bounds.rule, Rule::LateTaken | Rule::BoundNotHeld) {
            site.clock.raise(agreed);
        }
        if let Some(active) = site.active.as_mut().filter(|_| !broken(Fault::RoundKeptAcrossEpochs)) {
            active.proposal.abandon_round();
            self.start_round(at);
        }
    }

    /// A node dies and starts anew. Its register, its epoch and what it said of being complete are on its disk; what its
    /// clock had reached is not, but the bound is.
    pub fn restart(&mut self, at: usize) {
        self.state.restarts += 1;
        let agreed = Bounds::guard(&self.state, at).bound.agreed;
        let site = &mut self.state.sites[at];
        site.active = None;
        site.incarnation += 1;
        site.clock = Default::default();
        site.forgot = forgets();
        if !site.forgot {
            site.clock.raise(agreed);
        }
    }

    /// Hot alignment in one go: a majority has adopted the epoch, one source is drained, what is undecided is read by a
    /// quorum or else left to a proposal; complete when nothing below the bound is left.
    pub fn align(&mut self, by: usize, from: usize) {
        let theirs = self.clear(from);
        if let Some(held) = &theirs.chosen {
            self.learn(by, held);
        }
        if (theirs.is_pending() || self.clear(by).is_pending()) && !self.settle(by, from) {
            return;
        }
        let agreed = self.guard(by).bound.agreed;
        let register = self.clear(by);
        if register.is_pending() && register.accepted_ballot().time <= agreed {
            return self.settle_by_proposal(by);
        }
        self.state.sites[by].complete = agreed;
    }

    fn settle_by_proposal(&mut self, at: usize) {
        if self.state.sites[at].active.is_none() {
            self.propose(at, crate::common::settle(), false);
        }
    }

    /// A read by these two.
    fn settle(&mut self, by: usize, from: usize) -> bool {
        let configuration = self.configuration_of(by);
        let mut query = Query::new(self.clear(by).accepted);
        for at in [by, from] {
            let register = self.clear(at);
            let (accepted, chosen) = (register.accepted_ballot(), !register.is_pending());
            let revision = register.accepted.map(|held| held.revision);
            match query.on_answer(&configuration, id(at), accepted, chosen, revision) {
                QueryStep::Wait => {}
                QueryStep::Done(held) => {
                    held.iter().for_each(|held| self.learn(by, held));
                    return true;
                }
                QueryStep::Settle => break,
            }
        }
        self.settle_by_proposal(by);
        false
    }
}
