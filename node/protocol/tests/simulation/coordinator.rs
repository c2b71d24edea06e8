//! The coordinator of a node, as the replica does it: one proposal at a time, one-round writes, honest ends.

use super::{Active, Call, HashedRevision, Outcome, Wire, World};
use crate::common::{create, delete, patch, put, requested, settle, when};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{Condition, Operation};
use coequal_protocol::proposal::{
    OperationResult, Proposal, Step, invariant_answers_follow_sent_accepts, invariant_sent_accepts_are_remembered,
};
use coequal_protocol::query::{Query, QueryStep, invariant_answer_is_chosen};
use coequal_protocol::{Ballot, BallotClass, Held};
use std::sync::Arc;

const COMBINED_MAX: usize = 8;

impl World {
    /// A client asks something, or asks again.
    pub(super) fn call(&mut self) {
        let at = self.rng.below(self.coordinators);
        if !self.nodes[at].up {
            return;
        }
        if self.rng.chance(350) && self.ask_again(at) {
            return;
        }
        let number = self.calls.len() as u128 + 1;
        let generated = self.calls.is_empty() && self.rng.chance(400);
        let operation = if generated { Some(create(&body(number))) } else { self.any_operation(number) };
        let began = self.step;
        self.calls.push(Call { number, operation, generated, began, ended: 0, outcome: Outcome::Pending });
        self.start_call(at, self.calls.len() - 1);
    }

    /// The same request once more, after "unknown".
    fn ask_again(&mut self, at: usize) -> bool {
        let unknown = |call: &&Call| {
            call.outcome == Outcome::Unknown && call.operation.as_ref().is_some_and(|op| op.request.is_some())
        };
        let candidates: Vec<Call> = self.calls.iter().filter(unknown).cloned().collect();
        if candidates.is_empty() {
            return false;
        }
        let mut call = self.rng.pick(&candidates).clone();
        (call.ended, call.outcome, call.generated) = (0, Outcome::Pending, false);
        self.calls.push(call);
        self.start_call(at, self.calls.len() - 1);
        true
    }

    fn any_operation(&mut self, number: u128) -> Option<Operation> {
        let operation = match self.rng.below(10) {
            0 | 1 => return None,
            2 => delete(),
            3 => create(&body(number)),
            4 => patch(&body(number)),
            _ => put(&body(number)),
        };
        // What some client saw last, or a guess.
        let seen = self.calls.iter().rev().find_map(|call| match call.outcome {
            Outcome::Written { version, stamp } | Outcome::Read(Some((version, stamp))) => Some((version, stamp)),
            _ => None,
        });
        let operation = match (self.rng.below(10), seen) {
            (0..=3, Some((version, _))) => when(Condition::Version(version), operation),
            (4, Some((version, stamp))) => when(Condition::Revision { version, stamp }, operation),
            (5, _) => when(Condition::Version(1 + self.rng.below(3) as u64), operation),
            (6, _) => when(Condition::Present, operation),
            _ => operation,
        };
        // A write without a body is known by its request id only.
        let nameless = self.rng.chance(300) && operation.kind != delete().kind;
        Some(if nameless { operation } else { requested(number, operation) })
    }

    fn start_call(&mut self, at: usize, call: usize) {
        self.note(&("call", at, call));
        if self.calls[call].operation.is_some() {
            self.nodes[at].waiting.push_back(call);
            if self.nodes[at].active.is_none() {
                self.start_next(at);
            }
        } else if self.nodes[at].query.is_some() {
            self.end(call, Outcome::NotApplied);
        } else {
            self.start_query(at, Some(call));
        }
    }

    fn start_query(&mut self, at: usize, call: Option<usize>) {
        let node = &mut self.nodes[at];
        node.queries += 1;
        let read = (u64::from(node.incarnation) << 32) + node.queries;
        let query = Query::new(node.live.accepted.clone());
        let known = query.known();
        node.query = Some((read, query, call));
        for to in 0..self.nodes.len() {
            self.send(at, to, Wire::Query(read, known));
        }
    }

    /// A read whose coordinator died gets no answer.
    pub(super) fn end_read_of(&mut self, at: usize, call: usize) {
        let lives = |node: &super::Node| {
            node.query.as_ref().is_some_and(|(_, _, of)| *of == Some(call))
                || node.active.as_ref().is_some_and(|active| active.calls.contains(&call))
                || node.waiting.contains(&call)
        };
        if !self.nodes.iter().enumerate().any(|(other, node)| other != at && lives(node)) {
            self.end(call, Outcome::Unknown);
        }
    }

    pub(super) fn start_next(&mut self, at: usize) {
        let mut calls: Vec<usize> = Vec::new();
        while calls.len() < COMBINED_MAX
            && let Some(next) = self.nodes[at].waiting.front().copied()
            && (calls.is_empty() || !self.calls[next].generated)
        {
            calls.push(next);
            self.nodes[at].waiting.pop_front();
            if self.calls[next].generated {
                break;
            }
        }
        if calls.is_empty() {
            return;
        }
        let operations = calls.iter().map(|call| self.calls[*call].operation.clone().unwrap_or_else(settle)).collect();
        let proposal = Proposal::new(operations);
        self.nodes[at].active = Some(Active { proposal, calls, backs_off: false, floor: Ballot::NONE });
        if !self.start_directly(at) {
            self.start_round(at);
        }
    }

    fn start_directly(&mut self, at: usize) -> bool {
        let physical = self.physical(at);
        let all_generated = |world: &Self, calls: &[usize]| calls.iter().all(|call| world.calls[*call].generated);
        let again = self.nodes[at].recent.clone().filter(|_| broken(Fault::RecentUsedTwice));
        let recent = again.or_else(|| self.nodes[at].recent.take());
        let recent = recent.filter(|held| held.ballot.class == BallotClass::Ordinary);
        let generated = all_generated(self, &self.nodes[at].active.as_ref().unwrap().calls);
        let node = &mut self.nodes[at];
        let time = node.clock.next(physical);
        let active = node.active.as_mut().unwrap();
        let step = match recent {
            Some(held) => active.proposal.accept_directly(held.ballot.successor(), Some(&held)),
            None if generated => {
                active.proposal.accept_directly(Ballot::creation(time, node.id, node.incarnation), None)
            }
            None => None,
        };
        let Some(step) = step else { return false };
        let ballot = active.proposal.ballot();
        self.observe(at, ballot);
        self.take_step(at, step);
        true
    }

    fn start_round(&mut self, at: usize) {
        let physical = self.physical(at);
        let node = &mut self.nodes[at];
        let Some(active) = node.active.as_mut() else { return };
        let known = node.live.promised.max(node.live.accepted_ballot());
        let floor = known.max(active.floor).max(active.proposal.ballot());
        let time = node.clock.next_above(floor.time, physical);
        let ballot = Ballot::ordinary(time, node.id, node.incarnation);
        active.backs_off = false;
        active.proposal.prepare(ballot);
        for to in 0..self.nodes.len() {
            self.send(at, to, Wire::Prepare(ballot));
        }
    }

    pub(super) fn on_answer(&mut self, from: usize, at: usize, wire: Wire) {
        let voter = self.nodes[from].id;
        let configuration = &self.configuration;
        let node = &mut self.nodes[at];
        if let Wire::QueryAnswer(read, accepted, chosen, revision) = wire {
            let Some((under_way, query, _)) = node.query.as_mut() else { return };
            if *under_way != read {
                return;
            }
            let revision = revision.map(|revision| revision.0);
            let step = query.on_answer(configuration, voter, accepted, chosen, revision);
            if !invariant_answer_is_chosen(query, configuration, &step) {
                self.fail(format!("a read answers what is not chosen: {step:?}"));
            }
            return self.take_query_step(at, step);
        }
        let Some(active) = node.active.as_mut() else { return };
        let step = match wire {
            Wire::Promised(ballot, held, chosen) => {
                active.proposal.on_promised(configuration, voter, ballot, held.map(super::HeldHash::into_held), chosen)
            }
            Wire::Accepted(ballot) => active.proposal.on_accepted(configuration, voter, ballot),
            Wire::Refused(ballot, promised) => active.proposal.on_refused(ballot, promised),
            _ => Step::Wait,
        };
        let sound = invariant_sent_accepts_are_remembered(&active.proposal)
            && invariant_answers_follow_sent_accepts(&active.proposal, &step);
        if !sound {
            let what = format!("{step:?} of {:?}", active.proposal);
            self.fail(what);
        }
        self.take_step(at, step);
    }

    fn take_query_step(&mut self, at: usize, step: QueryStep) {
        match step {
            QueryStep::Wait => {}
            QueryStep::Done(held) => {
                let call = self.nodes[at].query.take().and_then(|(_, _, call)| call);
                if let Some(held) = &held {
                    self.learn(at, held.ballot, Some(Arc::clone(&held.revision)));
                }
                if let Some(call) = call {
                    self.end(call, Outcome::Read(held.map(|held| (held.revision.version, held.revision.stamp))));
                }
            }
            QueryStep::Settle => {
                let Some(call) = self.nodes[at].query.take().and_then(|(_, _, call)| call) else { return };
                self.nodes[at].waiting.push_back(call);
                if self.nodes[at].active.is_none() {
                    self.start_next(at);
                }
            }
        }
    }

    fn take_step(&mut self, at: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => {
                let known = self.proposed.entry(ballot).or_insert_with(|| Arc::clone(&revision));
                if **known != *revision {
                    self.fail(format!("two values under ballot {ballot} (I2)"));
                }
                for to in 0..self.nodes.len() {
                    self.send(at, to, Wire::Accept(ballot, HashedRevision(Arc::clone(&revision))));
                }
            }
            Step::Lost { promised } => {
                let Some(active) = self.nodes[at].active.as_mut() else { return };
                active.floor = active.floor.max(promised);
                active.backs_off = true;
            }
            Step::Done { results, chosen, own_round } => self.finish(at, &results, chosen, own_round),
            Step::Unknown => {
                let Some(active) = self.nodes[at].active.take() else { return };
                active.calls.into_iter().for_each(|call| self.end(call, Outcome::Unknown));
                self.start_next(at);
            }
        }
    }

    fn finish(&mut self, at: usize, results: &[OperationResult], chosen: Option<Held>, own_round: bool) {
        let Some(active) = self.nodes[at].active.take() else { return };
        if let Some(held) = &chosen {
            self.learn(at, held.ballot, Some(Arc::clone(&held.revision)));
            if own_round {
                self.nodes[at].recent = Some(held.clone());
            }
            for to in (0..self.nodes.len()).filter(|to| *to != at) {
                let revision = self.rng.chance(500).then(|| HashedRevision(Arc::clone(&held.revision)));
                self.send(at, to, Wire::Chosen(held.ballot, revision));
            }
        }
        let now = chosen.as_ref().map(|held| (held.revision.version, held.revision.stamp));
        for (call, result) in active.calls.into_iter().zip(results) {
            let outcome = match result {
                OperationResult::Written { version, stamp, .. } => {
                    Outcome::Written { version: *version, stamp: *stamp }
                }
                OperationResult::Rejected(_) => Outcome::Rejected { at_version: now.map_or(0, |(version, _)| version) },
                OperationResult::Settled => Outcome::Read(now),
            };
            self.end(call, outcome);
        }
        self.start_next(at);
    }

    /// A coordinator's timer: back-off is over, or what was not answered is sent again.
    pub(super) fn poke_coordinator(&mut self) {
        let at = self.rng.below(self.coordinators);
        self.poke(at);
    }

    pub(super) fn poke(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        if let Some((read, query, _)) = &self.nodes[at].query {
            let (read, known, answered) = (*read, query.known(), query.answered().clone());
            for to in 0..self.nodes.len() {
                if !answered.contains(&self.nodes[to].id) {
                    self.send(at, to, Wire::Query(read, known));
                }
            }
        }
        let Some(active) = self.nodes[at].active.as_ref() else { return };
        if active.backs_off {
            return self.start_round(at);
        }
        let ballot = active.proposal.ballot();
        let (answered, revision) = match (active.proposal.prepare_under_way(), active.proposal.accept_under_way()) {
            (Some(answered), _) => (answered.clone(), None),
            (None, Some((revision, answered))) => (answered.clone(), Some(HashedRevision(revision))),
            (None, None) => return,
        };
        for to in 0..self.nodes.len() {
            if !answered.contains(&self.nodes[to].id) {
                let wire = revision.clone().map_or(Wire::Prepare(ballot), |revision| Wire::Accept(ballot, revision));
                self.send(at, to, wire);
            }
        }
    }

    /// Whoever waits at a coordinator runs out of time.
    pub(super) fn expire_one(&mut self) {
        let at = self.rng.below(self.coordinators);
        if let Some((_, _, Some(call))) = self.nodes[at].query.take() {
            self.end(call, Outcome::Unknown);
        }
        let Some(active) = self.nodes[at].active.take() else { return };
        let unknown = active.proposal.may_be_applied();
        for call in active.calls {
            let reads = self.calls[call].operation.is_none();
            self.end(call, if unknown || reads { Outcome::Unknown } else { Outcome::NotApplied });
        }
        self.start_next(at);
    }
}

/// A body that names its request.
fn body(number: u128) -> String {
    format!("{{\"by\":{number}}}")
}
