//! Registers and proposals of the nodes that align.

use super::{Active, Letter, Wire, World, id};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::Operation;
use coequal_protocol::proposal::{Proposal, Step};
use coequal_protocol::register::{Answer, invariant_promise_never_falls};
use coequal_protocol::{Ballot, Held, Revision};
use std::sync::Arc;

/// The physical clock stands: ballots of different nodes meet at equal times.
const PHYSICAL_MS: u64 = 0;

impl World<'_> {
    pub(super) fn start(&mut self, at: usize, operation: Operation, settles: bool) {
        let proposal = Proposal::new(vec![operation]);
        self.state.sites[at].active = Some(Active { proposal, settles, backs_off: false, floor: Ballot::NONE });
        self.start_round(at);
    }

    pub(super) fn start_round(&mut self, at: usize) {
        let site = &mut self.state.sites[at];
        let Some(active) = &mut site.active else { return };
        let register = &site.register;
        let floor = register.promised.max(register.accepted_ballot()).max(active.floor).max(active.proposal.ballot());
        let ballot = Ballot::ordinary(site.clock.next_above(floor.time, PHYSICAL_MS), id(at), 1);
        active.backs_off = false;
        active.proposal.prepare(ballot);
        self.broadcast(at, Wire::Prepare(ballot));
    }

    fn broadcast(&mut self, from: usize, wire: Wire) {
        let voters = self.bounds.configuration(self.state.sites[from].epoch).all_voters();
        voters.into_iter().for_each(|to| self.send(from, super::index(to), wire));
    }

    pub(super) fn send(&mut self, from: usize, to: usize, wire: Wire) {
        let letter = Letter { from, to, epoch: self.state.sites[from].epoch, wire };
        if from == to {
            self.local.push(letter);
        } else {
            self.state.letters.insert(letter);
        }
    }

    /// Messages of a node to itself arrive at once.
    pub(super) fn run_local(&mut self) {
        while !self.local.is_empty() {
            let letter = self.local.remove(0);
            self.deliver(letter);
        }
    }

    pub(super) fn deliver(&mut self, letter: Letter) {
        let Letter { from, to, epoch, wire } = letter;
        let own = self.state.sites[to].epoch;
        let asks = matches!(wire, Wire::Prepare(_) | Wire::Accept(_));
        let ignored = broken(if asks { Fault::AcceptorIgnoresEpoch } else { Fault::CoordinatorIgnoresEpoch });
        if matches!(wire, Wire::Sample { .. }) {
            return self.on_sample(letter);
        }
        if epoch != own && !ignored {
            return;
        }
        let votes = self.bounds.configuration(own).is_voter(id(to)) || broken(Fault::RemovedNodeVotes);
        match wire {
            Wire::Prepare(ballot) if votes => {
                let (answer, change) = self.state.sites[to].register.prepare(ballot);
                self.answer(to, from, ballot, answer, change);
            }
            Wire::Accept(ballot) if votes => {
                let Some(revision) = self.state.proposed.get(&ballot).cloned() else { return };
                let (answer, change) = self.state.sites[to].register.accept(ballot, &revision, 0);
                self.answer(to, from, ballot, answer, change);
            }
            Wire::Prepare(_) | Wire::Accept(_) => {}
            wire => self.hear(from, to, wire),
        }
    }

    fn answer(
        &mut self,
        at: usize,
        to: usize,
        ballot: Ballot,
        answer: Answer,
        change: Option<coequal_protocol::record::Change>,
    ) {
        if let Some(change) = change {
            let register = &mut self.state.sites[at].register;
            let before = register.clone();
            register.apply(&change);
            if !invariant_promise_never_falls(&before, register) {
                self.fail(format!("node {at} takes something back (I4)"));
            }
        }
        let wire = match answer {
            Answer::Promised { held, chosen } => Wire::Promised { ballot, held: held.map(|held| held.ballot), chosen },
            Answer::Accepted => Wire::Accepted(ballot),
            Answer::Refused { promised } => Wire::Refused { ballot, promised },
        };
        self.send(at, to, wire);
    }

    fn hear(&mut self, from: usize, at: usize, wire: Wire) {
        let configuration = self.bounds.configuration(self.state.sites[at].epoch);
        let held = match wire {
            Wire::Promised { held: Some(ballot), .. } => {
                self.state.proposed.get(&ballot).map(|revision| Held { ballot, revision: Arc::clone(revision) })
            }
            _ => None,
        };
        let Some(active) = &mut self.state.sites[at].active else { return };
        let step = match wire {
            Wire::Promised { ballot, chosen, .. } => {
                active.proposal.on_promised(configuration, id(from), ballot, held, chosen)
            }
            Wire::Accepted(ballot) => active.proposal.on_accepted(configuration, id(from), ballot),
            Wire::Refused { ballot, promised } => active.proposal.on_refused(ballot, promised),
            _ => Step::Wait,
        };
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => self.propose(at, ballot, revision),
            Step::Lost { promised } => {
                active.floor = active.floor.max(promised);
                active.backs_off = true;
            }
            Step::Unknown => self.state.sites[at].active = None,
            Step::Done { chosen, .. } => self.finish(at, chosen),
        }
    }

    fn propose(&mut self, at: usize, ballot: Ballot, revision: Arc<Revision>) {
        let known = self.state.proposed.entry(ballot).or_insert_with(|| Arc::clone(&revision));
        if *known != revision {
            self.fail(format!("two values are proposed at {ballot} (I2)"));
        }
        self.broadcast(at, Wire::Accept(ballot));
    }

    fn finish(&mut self, at: usize, chosen: Option<Held>) {
        let Some(active) = self.state.sites[at].active.take() else { return };
        if let Some(held) = &chosen {
            self.learn(at, held);
        }
        if active.settles {
            return self.settled(at, chosen);
        }
        if let Some(held) = chosen {
            self.state.acknowledged = self.state.acknowledged.max(held.ballot);
        }
    }

    /// What is chosen enters the feed.
    pub(super) fn learn(&mut self, at: usize, held: &Held) {
        let site = &mut self.state.sites[at];
        let Some(change) = site.register.learn(held.ballot, Some(&held.revision), site.head + 1) else { return };
        site.register.apply(&change);
        site.head += 1;
    }
}
