//! The coordinator of a node, as the replica does it: one proposal at a time, one-round writes, honest ends.

use super::{Active, Outcome, Reading, What, Wire, World};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::proposal::{
    OperationResult, Proposal, Step, invariant_answers_follow_sent_accepts, invariant_sent_accepts_are_remembered,
};
use coequal_protocol::query::{Query, QueryStep, invariant_answer_is_chosen};
use coequal_protocol::tombstone_collection::Guard;
use coequal_protocol::{Ballot, BallotClass, Held, Revision};
use std::sync::Arc;

/// The physical clock stands: ballots of different nodes meet at equal times.
const PHYSICAL_MS: u64 = 0;

fn settle() -> Operation {
    Operation { kind: OperationKind::Settle, condition: Condition::Any, request: None }
}

impl World<'_> {
    pub(super) fn begin(&mut self, call: usize) {
        let over = |(at, call): (usize, &super::Call)| u32::from(call.outcome.is_over()) << at;
        let plan = &self.bounds.plan[call];
        let mut ended_before = self.state.calls.iter().enumerate().map(over).sum();
        if let What::Again(first) = plan.what {
            // The request began when it was made for the first time.
            ended_before = self.state.calls[first].ended_before;
        }
        self.state.calls[call] = super::Call { outcome: Outcome::Pending, ended_before };
        let at = plan.at;
        match self.written(call) {
            Some((operation, generated)) => self.start_write(at, Some(call), operation, generated),
            None => self.start_read(at, call),
        }
    }

    /// The write of a call, and whether its key is made up for it.
    pub(super) fn written(&self, call: usize) -> Option<(Operation, bool)> {
        match &self.bounds.plan[call].what {
            What::Write { operation, generated } => Some((operation.clone(), *generated)),
            What::Again(first) => self.written(*first).map(|(operation, _)| (operation, false)),
            What::Read => None,
        }
    }

    fn start_write(&mut self, at: usize, call: Option<usize>, operation: Operation, generated: bool) {
        let proposal = Proposal::new(vec![operation]);
        self.state.nodes[at].active = Some(Active { proposal, call, backs_off: false, floor: Ballot::NONE });
        if !self.start_directly(at, generated) {
            self.start_round(at);
        }
    }

    /// One-round writes: (a) on what this node itself chose last, (b) for a key that it made up.
    fn start_directly(&mut self, at: usize, generated: bool) -> bool {
        let id = self.bounds.configuration.voters[at];
        let node = &mut self.state.nodes[at];
        let kept = node.recent.clone().filter(|_| broken(Fault::RecentUsedTwice));
        let recent = kept.or_else(|| node.recent.take()).filter(|held| held.ballot.class == BallotClass::Ordinary);
        let Some(active) = &mut node.active else { return false };
        let step = match recent {
            Some(held) => {
                self.state.seen.one_round = true;
                active.proposal.accept_directly(held.ballot.successor(), Some(&held))
            }
            None if generated => {
                let time = node.clock.next(PHYSICAL_MS);
                self.state.seen.creation = true;
                active.proposal.accept_directly(Ballot::creation(time, id, node.incarnation), None)
            }
            None => None,
        };
        let Some(step) = step else { return false };
        let time = active.proposal.ballot().time;
        node.clock.observe(time, PHYSICAL_MS);
        self.take_step(at, step);
        true
    }

    pub(super) fn start_round(&mut self, at: usize) {
        let id = self.bounds.configuration.voters[at];
        let node = &mut self.state.nodes[at];
        let Some(active) = &mut node.active else { return };
        let register = &node.live;
        let promised = node.promises.promised(&Guard::default(), &self.bounds.key(), register);
        let floor = promised.max(register.accepted_ballot()).max(active.floor).max(active.proposal.ballot());
        let ballot = Ballot::ordinary(node.clock.next_above(floor.time, PHYSICAL_MS), id, node.incarnation);
        active.backs_off = false;
        active.proposal.prepare(ballot);
        (0..self.state.nodes.len()).for_each(|to| self.send(at, to, Wire::Prepare(ballot)));
    }

    pub(super) fn on_answer(&mut self, from: usize, at: usize, wire: Wire) {
        let id = self.bounds.configuration.voters[from];
        let configuration = &self.bounds.configuration;
        if let Wire::Answer { read, accepted, chosen, carries } = wire {
            let revision = self.value(accepted).filter(|_| carries).map(|held| held.revision);
            let node = &mut self.state.nodes[at];
            let Some(reading) = node.reading.as_mut().filter(|reading| reading.read == read) else { return };
            let step = reading.query.on_answer(configuration, id, accepted, chosen, revision);
            if !invariant_answer_is_chosen(&reading.query, configuration, &step) {
                self.fail(format!("a read at node {at} answers what is not chosen (I8)"));
            }
            return self.take_query_step(at, step);
        }
        let held = match wire {
            Wire::Promised { held: Some(ballot), .. } => self.value(ballot),
            _ => None,
        };
        let Some(active) = &mut self.state.nodes[at].active else { return };
        let step = match wire {
            Wire::Promised { ballot, chosen, .. } => {
                active.proposal.on_promised(configuration, id, ballot, held, chosen)
            }
            Wire::Accepted(ballot) => active.proposal.on_accepted(configuration, id, ballot),
            Wire::Refused { ballot, promised } => active.proposal.on_refused(ballot, promised),
            _ => Step::Wait,
        };
        self.take_step(at, step);
    }

    fn take_step(&mut self, at: usize, step: Step) {
        let Some(active) = &mut self.state.nodes[at].active else { return };
        let honest = invariant_sent_accepts_are_remembered(&active.proposal)
            && invariant_answers_follow_sent_accepts(&active.proposal, &step);
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => self.propose(at, ballot, revision),
            Step::Lost { promised } => {
                active.floor = active.floor.max(promised);
                active.backs_off = true;
                self.state.seen.lost_round = true;
            }
            Step::Unknown => {
                if let Some(call) = self.state.nodes[at].active.take().and_then(|active| active.call) {
                    self.end(call, Outcome::Unknown);
                }
            }
            Step::Done { results, chosen, own_round } => self.finish(at, &results, chosen, own_round),
        }
        if !honest {
            self.fail(format!("the proposal of node {at} forgets an accept that it sent (I9)"));
        }
    }

    fn propose(&mut self, at: usize, ballot: Ballot, revision: Arc<Revision>) {
        let known = self.state.proposed.entry(ballot).or_insert_with(|| Arc::clone(&revision));
        if *known != revision {
            self.fail(format!("two values are proposed at {ballot} (I2)"));
        }
        (0..self.state.nodes.len()).for_each(|to| self.send(at, to, Wire::Accept(ballot)));
    }

    fn finish(&mut self, at: usize, results: &[OperationResult], chosen: Option<Held>, own_round: bool) {
        let Some(active) = self.state.nodes[at].active.take() else { return };
        if let Some(held) = &chosen {
            self.learn(at, held.ballot, Some(&held.revision));
            if own_round {
                self.state.nodes[at].recent = Some(held.clone());
            }
            if self.bounds.tells {
                let others = (0..self.state.nodes.len()).filter(|to| *to != at);
                others.for_each(|to| self.send(at, to, Wire::Chosen(held.ballot)));
            }
        }
        let Some(call) = active.call else { return };
        let version = chosen.as_ref().map_or(0, |held| held.revision.version);
        let outcome = match &results[0] {
            OperationResult::Written { version, stamp, .. } => Outcome::Written { version: *version, stamp: *stamp },
            OperationResult::Rejected(_) => Outcome::Rejected { at_version: version },
            OperationResult::Settled => Outcome::Read(chosen.map(|held| (held.revision.version, held.revision.stamp))),
        };
        self.end(call, outcome);
    }

    /// The deadline passes: certainly not applied while no accept was sent, else unknown (G7).
    pub(super) fn expire(&mut self, at: usize) {
        let Some(active) = self.state.nodes[at].active.take() else { return };
        let Some(call) = active.call else { return };
        let outcome = if active.proposal.may_be_applied() { Outcome::Unknown } else { Outcome::NotApplied };
        self.end(call, outcome);
    }

    fn start_read(&mut self, at: usize, call: usize) {
        let node = &mut self.state.nodes[at];
        node.reads += 1;
        // Answers to reads of a former start must never fit a new one.
        let read = node.incarnation << 8 | node.reads;
        let query = Query::new(node.live.accepted.clone());
        let known = query.known();
        node.reading = Some(Reading { read, query, call });
        (0..self.state.nodes.len()).for_each(|to| self.send(at, to, Wire::Query { read, known }));
    }

    fn take_query_step(&mut self, at: usize, step: QueryStep) {
        if step == QueryStep::Wait {
            return;
        }
        let Some(reading) = self.state.nodes[at].reading.take() else { return };
        match step {
            QueryStep::Wait => {}
            QueryStep::Done(held) => {
                if let Some(held) = &held {
                    self.learn(at, held.ballot, Some(&held.revision));
                }
                let read = held.map(|held| (held.revision.version, held.revision.stamp));
                self.end(reading.call, Outcome::Read(read));
            }
            QueryStep::Settle if self.state.nodes[at].active.is_none() => {
                self.state.seen.read_settles = true;
                self.start_write(at, Some(reading.call), settle(), false);
            }
            // In a node it would wait for the write before it; here the client gets no answer.
            QueryStep::Settle => self.end(reading.call, Outcome::Unknown),
        }
    }
}
