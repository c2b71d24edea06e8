//! The world of [`run`]: one document, its coordinators with clocks far apart, and configurations that reach the nodes at
//! different times.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod wire;

use crate::common::{self, Rng, configuration, delete, hash_of, put};
use coequal_protocol::clock::HybridClock;
use coequal_protocol::faults::{Fault as Deliberate, broken};
use coequal_protocol::message::Operation;
use coequal_protocol::proposal::{Proposal, Step};
use coequal_protocol::query::{Query, QueryStep};
use coequal_protocol::quorum::NodeSet;
use coequal_protocol::record::Change;
use coequal_protocol::register::Answer;
use coequal_protocol::tombstone_collection::{
    Guard, MemberWord, NextBound, invariant_below_the_bound_nothing_is_taken, invariant_bound_step_is_safe,
    invariant_collected_is_complete_everywhere, is_collected, next_bound,
};
use coequal_protocol::{Ballot, Held, Register, Revision};
use coequal_types::{Configuration, LowBound, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wire::{Letter, Value, Wire};

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// What is at or below the agreed bound is taken, and proposers do not move above it.
    BoundNotHeld,
    /// The same, and messages of older epochs count too: the classic late accept.
    LateTaken,
    /// A bound is collected as soon as it is agreed on.
    CollectedEarly,
    /// Copies of what was collected are taken.
    StaleCopiesTaken,
    /// Forgetting a tombstone forgets every promise too.
    PromisesForgotten,
    /// A coordinator takes "nothing there" for "not applied", however old its accept is.
    OldAcceptsForgotten,
}

struct Node {
    register: Register,
    /// Index into the world's configurations.
    epoch: usize,
    aligned: u64,
    complete: u64,
    incarnation: u32,
    clock: HybridClock,
    skew: u64,
    active: Option<(Proposal, Ballot)>,
    feed: u64,
    /// Copies that it has taken or passed over: its cursor is behind them, and they do not come again.
    seen: BTreeSet<Ballot>,
    /// Whether it does not know the low bound of its epoch, as no node should ([`Deliberate::LowBoundNotKept`]).
    forgot: bool,
}

pub struct World {
    fault: Fault,
    rng: Rng,
    configurations: Vec<Configuration>,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    votes: BTreeMap<(usize, Ballot), NodeSet>,
    /// What was chosen last, and every write that was ever chosen with its stamp.
    current: Option<Held>,
    written: BTreeMap<String, Ballot>,
    operations: u64,
    /// Whether a node has made the key up and written it without a prepare.
    made_up: bool,
    step: u64,
    pub trace: u64,
    pub failure: Option<String>,
    pub collections: u64,
    pub restarts: u64,
    pub chosen: u64,
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut rng = Rng::new(seed);
        let node = |skew| Node {
            register: Register::default(),
            epoch: 0,
            aligned: 0,
            complete: 0,
            incarnation: 1,
            clock: HybridClock::default(),
            skew,
            active: None,
            feed: 0,
            seen: BTreeSet::new(),
            forgot: false,
        };
        let nodes = (0..3).map(|_| node(*rng.pick(&[0, 0, 1, 40]))).collect();
        Self {
            fault,
            rng,
            configurations: vec![configuration(&[1, 2, 3], None)],
            nodes,
            letters: Vec::new(),
            votes: BTreeMap::new(),
            current: None,
            written: BTreeMap::new(),
            operations: 0,
            made_up: false,
            step: 0,
            trace: seed,
            failure: None,
            collections: 0,
            restarts: 0,
            chosen: 0,
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn id(at: usize) -> NodeId {
        NodeId(at as u64 + 1)
    }

    fn configuration_of(&self, at: usize) -> Configuration {
        self.configurations[self.nodes[at].epoch].clone()
    }

    fn guard(&self, at: usize) -> Guard {
        let node = &self.nodes[at];
        let bound = if node.forgot { LowBound::default() } else { self.configuration_of(at).low_bound };
        Guard { bound, complete: node.complete }
    }

    fn unbound(&self) -> bool {
        matches!(self.fault, Fault::BoundNotHeld | Fault::LateTaken)
    }

    /// The register without what is collected, as every handler sees it first.
    fn clear(&mut self, at: usize) -> Register {
        if let Some(change) = self.guard(at).cleared(&self.nodes[at].register) {
            self.collections += 1;
            let register = &mut self.nodes[at].register;
            register.apply(&change);
            if self.fault == Fault::PromisesForgotten && register.accepted.is_none() {
                *register = Register::default();
            }
        }
        self.nodes[at].register.clone()
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        let epoch = self.nodes[from].epoch;
        self.letters.push(Letter { from, to, epoch, wire });
    }

    fn broadcast(&mut self, from: usize, wire: &Wire) {
        (0..self.nodes.len()).for_each(|to| self.send(from, to, wire.clone()));
    }

    fn physical(&self, at: usize) -> u64 {
        // Unix milliseconds of the hybrid clock; a skewed node is far behind for long.
        (self.step / 24).saturating_sub(self.nodes[at].skew)
    }

    fn spin(&mut self, steps: u64) {
        let quiet = self.rng.chance(300);
        for _ in 0..steps {
            self.step += 1;
            match self.rng.below(1000) {
                0..40 => self.call(),
                40..60 => self.retry(),
                60..65 => self.give_up(),
                65..70 => self.restart(),
                70..130 => self.gossip(),
                130..190 => self.adopt(),
                190..250 => self.align(),
                250..300 => self.caretake(),
                _ if quiet && self.rng.chance(700) => self.letters.pop().into_iter().for_each(|l| self.receive(l)),
                _ => self.deliver(),
            }
            if self.failure.is_some() {
                return;
            }
        }
        self.heal();
    }

    /// A client asks: writes and deletes by turns, now and then as if the node had made up the key itself.
    fn call(&mut self) {
        let at = self.rng.below(3);
        if self.nodes[at].active.is_some() {
            return;
        }
        self.operations += 1;
        let operation: Operation = if self.rng.chance(450) { delete() } else { put(&self.operations.to_string()) };
        // Only the node that made the key up may do so, once: whoever names the key later prepares.
        // Rarely at the very beginning: somebody may have guessed the key, and what he wrote was collected before.
        let likely = if self.collections > 0 { 500 } else { 30 };
        let created = self.rng.chance(likely) && operation.kind != delete().kind && !self.made_up;
        self.made_up |= created;
        let mut proposal = Proposal::new(vec![operation]);
        if created {
            let time = self.time_above(at, 0);
            let step = proposal
                .accept_directly(Ballot::creation(time, Self::id(at), self.nodes[at].incarnation), None)
                .unwrap();
            self.nodes[at].active = Some((proposal, Ballot::NONE));
            return self.take(at, step);
        }
        self.nodes[at].active = Some((proposal, Ballot::NONE));
        self.start_round(at);
    }

    fn time_above(&mut self, at: usize, floor: u64) -> u64 {
        let physical = self.physical(at);
        self.nodes[at].clock.next_above(floor, physical)
    }

    fn start_round(&mut self, at: usize) {
        let register = self.clear(at);
        let Some((proposal, floor)) = &self.nodes[at].active else { return };
        let floor = register.promised.max(register.accepted_ballot()).max(*floor).max(proposal.ballot());
        let ballot = Ballot::ordinary(self.time_above(at, floor.time), Self::id(at), self.nodes[at].incarnation);
        let Some((proposal, _)) = &mut self.nodes[at].active else { return };
        proposal.prepare(ballot);
        self.broadcast(at, &Wire::Prepare(ballot));
    }

    fn retry(&mut self) {
        let at = self.rng.below(3);
        if let Some((proposal, _)) = &mut self.nodes[at].active {
            proposal.abandon_round();
            self.start_round(at);
        }
    }

    /// The coordinator dies, or its client stops waiting: what it sent may still arrive.
    fn give_up(&mut self) {
        let at = self.rng.below(3);
        self.nodes[at].active = None;
    }

    /// A node dies and starts anew. Its register, its configuration and what it said of being complete are on its disk;
    /// what its clock had reached is not, but the bound is.
    fn restart(&mut self) {
        let at = self.rng.below(3);
        let agreed = self.configuration_of(at).low_bound.agreed;
        let node = &mut self.nodes[at];
        self.restarts += 1;
        (node.active, node.clock, node.forgot) = (None, HybridClock::default(), broken(Deliberate::LowBoundNotKept));
        node.incarnation += 1;
        if !node.forgot {
            node.clock.raise(agreed);
        }
    }

    fn take(&mut self, at: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Accept { ballot, revision } => self.broadcast(at, &Wire::Accept(ballot, Value(revision))),
            Step::Lost { promised } => {
                if let Some((_, floor)) = &mut self.nodes[at].active {
                    *floor = (*floor).max(promised);
                }
            }
            Step::Done { chosen, .. } => {
                self.nodes[at].active = None;
                if let Some(held) = chosen {
                    self.learn(at, &held);
                }
            }
            Step::Unknown => self.nodes[at].active = None,
        }
    }

    fn learn(&mut self, at: usize, held: &Held) {
        let register = self.clear(at);
        self.nodes[at].feed += 1;
        let change = register.learn(held.ballot, Some(&held.revision), self.nodes[at].feed);
        change.iter().for_each(|change| self.nodes[at].register.apply(change));
    }

    fn gossip(&mut self) {
        let (from, to) = (self.rng.below(3), self.rng.below(3));
        if let Some(held) = self.clear(from).chosen.filter(|held| !self.nodes[to].seen.contains(&held.ballot)) {
            self.send(from, to, Wire::Copy(held.ballot, Value(held.revision)));
        }
    }

    fn deliver(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let at = self.rng.below(self.letters.len());
        let letter = self.letters.swap_remove(at);
        // Copies come again and again, and long after: these are what may revive a document.
        let comes_again = if matches!(letter.wire, Wire::Copy(..)) { 700 } else { 150 };
        if self.rng.chance(comes_again) {
            self.letters.push(letter.clone());
        }
        if !self.rng.chance(100) {
            self.receive(letter);
        }
    }

    fn receive(&mut self, letter: Letter) {
        self.trace = self.trace.rotate_left(5) ^ hash_of(&letter);
        let Letter { from, to, epoch, wire } = letter;
        let copy = matches!(wire, Wire::Copy(..));
        if !copy && epoch != self.nodes[to].epoch && self.fault != Fault::LateTaken {
            return;
        }
        let register = self.clear(to);
        match wire {
            Wire::Prepare(ballot) => {
                let guard = self.guard(to);
                let taken = if self.unbound() { register.prepare(ballot) } else { guard.prepare(&register, ballot) };
                self.answer(to, from, ballot, taken);
            }
            Wire::Accept(ballot, Value(revision)) => {
                let guard = self.guard(to);
                let unbound = self.unbound();
                let (answer, change) = match unbound {
                    true => register.accept(ballot, &revision, 0),
                    false => guard.accept(&register, ballot, &revision),
                };
                let accepted = answer == Answer::Accepted;
                self.answer(to, from, ballot, (answer, change));
                if accepted {
                    self.vote(to, ballot, &revision);
                }
            }
            Wire::Copy(ballot, Value(revision)) => {
                // Not needed while a key that is made up is made up once; no schedule was found that uses its absence.
                let ahead = epoch > self.nodes[to].epoch;
                let stale = self.guard(to).is_stale(&register, ballot) && self.fault != Fault::StaleCopiesTaken;
                if !ahead {
                    self.nodes[to].seen.insert(ballot);
                }
                if !ahead && !stale {
                    self.learn(to, &Held { ballot, revision });
                }
            }
            answer => self.hear(from, to, answer),
        }
    }

    fn answer(&mut self, at: usize, to: usize, ballot: Ballot, taken: (Answer, Option<Change>)) {
        let (answer, change) = taken;
        let held = self.unbound() || invariant_below_the_bound_nothing_is_taken(&self.guard(at), change.as_ref());
        assert!(held, "taken below the bound");
        change.iter().for_each(|change| self.nodes[at].register.apply(change));
        self.send(
            at,
            to,
            match answer {
                Answer::Promised { held, chosen } => {
                    Wire::Promised(ballot, held.map(|held| (held.ballot, Value(held.revision))), chosen)
                }
                Answer::Accepted => Wire::Accepted(ballot),
                Answer::Refused { promised } => Wire::Refused(ballot, promised),
            },
        );
    }

    fn hear(&mut self, from: usize, at: usize, wire: Wire) {
        let mut configuration = self.configuration_of(at);
        if self.fault == Fault::OldAcceptsForgotten {
            configuration.low_bound = LowBound::default();
        }
        let Some((proposal, _)) = &mut self.nodes[at].active else { return };
        let from = Self::id(from);
        let step = match wire {
            Wire::Promised(ballot, held, chosen) => {
                let held = held.map(|(ballot, value)| Held { ballot, revision: value.0 });
                proposal.on_promised(&configuration, from, ballot, held, chosen)
            }
            Wire::Accepted(ballot) => proposal.on_accepted(&configuration, from, ballot),
            Wire::Refused(ballot, promised) => proposal.on_refused(ballot, promised),
            _ => Step::Wait,
        };
        self.take(at, step);
    }

    /// The oracle: the moment at which a quorum of one epoch has accepted a ballot.
    fn vote(&mut self, at: usize, ballot: Ballot, revision: &Arc<Revision>) {
        let epoch = if self.fault == Fault::LateTaken { 0 } else { self.nodes[at].epoch };
        let votes = self.votes.entry((epoch, ballot)).or_default();
        if !votes.insert(Self::id(at)) || votes.len() != 2 {
            return;
        }
        let is_past = |now: &Held| now.ballot > ballot && now.revision.descends_from(revision.stamp);
        if self.current.as_ref().is_some_and(is_past) {
            // A minority's accept on which what is chosen now was built; that a quorum has it by now changes nothing.
            return;
        }
        let collected = self.configuration_of(at).low_bound.collected;
        let gone = |held: &Held| is_collected(held.ballot, &held.revision, collected);
        // A write may stand on one that only a minority accepted: both are chosen then.
        let begins_anew = revision.history.first().is_some_and(|entry| entry.version == 1);
        let follows = match &self.current {
            // Somebody who prepared above the bound may have begun before it was collected.
            Some(held) => revision.descends_from(held.revision.stamp) || (gone(held) && begins_anew),
            None => begins_anew,
        };
        if !follows {
            let current = self.current.as_ref().map(|held| (held.ballot, held.revision.body.clone()));
            self.fail(format!("{:?} chosen at {ballot} does not follow {current:?}", revision.body));
        }
        if let Some(body) = &revision.body {
            let body = String::from_utf8(body.to_vec()).unwrap();
            let first = *self.written.entry(body.clone()).or_insert(revision.stamp);
            if first != revision.stamp {
                self.fail(format!("write {body} was applied twice, at {first} and at {}", revision.stamp));
            }
        }
        self.chosen += 1;
        self.current = Some(Held { ballot, revision: Arc::clone(revision) });
    }

    /// A node hears of a newer configuration; its round begins again under it.
    fn adopt(&mut self) {
        let at = self.rng.below(3);
        self.adopt_next(at);
    }

    fn adopt_next(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.epoch + 1 >= self.configurations.len() {
            return;
        }
        node.epoch += 1;
        node.forgot = false;
        let agreed = self.configurations[node.epoch].low_bound.agreed;
        if !matches!(self.fault, Fault::BoundNotHeld | Fault::LateTaken) {
            node.clock.raise(agreed);
        }
        if let Some((proposal, _)) = &mut node.active {
            proposal.abandon_round();
            self.start_round(at);
        }
    }

    /// Hot alignment of one node in one go: a majority has adopted the epoch, one source is drained, pending keys are read
    /// by a quorum; complete when nothing below the bound is left.
    fn align(&mut self) {
        let at = self.rng.below(3);
        let (epoch, agreed) = (self.nodes[at].epoch, self.configuration_of(at).low_bound.agreed);
        if agreed > self.nodes[at].aligned {
            let others: Vec<usize> = (0..3).filter(|other| *other != at && self.nodes[*other].epoch >= epoch).collect();
            if others.is_empty() {
                return;
            }
            let source = *self.rng.pick(&others);
            let theirs = self.clear(source);
            if self.nodes[source].epoch == epoch
                && let Some(held) = theirs.chosen.clone()
            {
                self.learn(at, &held);
            }
            let undecided = theirs.is_pending() || self.clear(at).is_pending();
            if self.nodes[source].epoch != epoch || (undecided && !self.settle(at)) {
                return;
            }
            self.nodes[at].aligned = agreed;
        }
        let (register, aligned) = (self.clear(at), self.nodes[at].aligned);
        if !register.is_pending() || register.accepted_ballot().time > aligned {
            self.nodes[at].complete = aligned;
        } else {
            self.settle_by_proposal(at);
        }
    }

    fn settle_by_proposal(&mut self, at: usize) {
        if self.nodes[at].active.is_none() {
            self.nodes[at].active = Some((Proposal::new(vec![common::settle()]), Ballot::NONE));
            self.start_round(at);
        }
    }

    /// A quorum read; a key that it finds undecided is left to a proposal.
    fn settle(&mut self, at: usize) -> bool {
        let configuration = self.configuration_of(at);
        let mut query = Query::new(self.clear(at).accepted);
        let mut order = [0, 1, 2];
        self.rng.shuffle(&mut order);
        for other in
            order.into_iter().filter(|other| self.nodes[*other].epoch == self.nodes[at].epoch).collect::<Vec<_>>()
        {
            let register = self.clear(other);
            let (accepted, chosen) = (register.accepted_ballot(), !register.is_pending());
            let revision = register.accepted.map(|held| held.revision);
            match query.on_answer(&configuration, Self::id(other), accepted, chosen, revision) {
                QueryStep::Wait => {}
                QueryStep::Done(held) => {
                    held.iter().for_each(|held| self.learn(at, held));
                    return true;
                }
                QueryStep::Settle => break,
            }
        }
        self.settle_by_proposal(at);
        false
    }

    /// The next bound, by what the nodes say; the horizon is any time at all, because safety uses no clock.
    fn caretake(&mut self) {
        let newest = self.configurations.last().unwrap().clone();
        let highest = self.nodes.iter().map(|node| node.register.promised.time).max().unwrap();
        let horizon = highest + *self.rng.pick(&[0, 1, 2, 40]);
        let early = self.fault == Fault::CollectedEarly;
        let words: BTreeMap<NodeId, MemberWord> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| {
                let complete = if early { u64::MAX } else { node.complete };
                let epoch = if early { newest.epoch } else { self.configurations[node.epoch].epoch };
                (Self::id(at), MemberWord { epoch, complete, horizon, tombstones: 1 })
            })
            .collect();
        if let NextBound::Step(next) = next_bound(&newest, &words, 1) {
            assert!(invariant_bound_step_is_safe(&newest, &next));
            assert!(invariant_collected_is_complete_everywhere(&newest, &next, &words));
            self.configurations.push(*next);
        }
    }

    /// The network heals: everybody gets the newest configuration, and what is chosen, from everybody, late copies too.
    fn heal(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.active = None);
        for at in 0..3 {
            while self.nodes[at].epoch + 1 < self.configurations.len() {
                self.adopt_next(at);
            }
        }
        let late: Vec<Letter> =
            std::mem::take(&mut self.letters).into_iter().filter(|l| matches!(l.wire, Wire::Copy(..))).collect();
        late.into_iter().for_each(|letter| self.receive(letter));
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 0)] {
            if let Some(held) = self.clear(from).chosen.filter(|held| !self.nodes[to].seen.contains(&held.ballot)) {
                let epoch = self.nodes[from].epoch;
                self.receive(Letter { from, to, epoch, wire: Wire::Copy(held.ballot, Value(held.revision)) });
            }
        }
        let states: Vec<Register> = (0..3).map(|at| self.clear(at)).collect();
        let shown = |register: &Register| register.chosen.clone().filter(|held| !held.revision.is_tombstone());
        if states.iter().any(|register| shown(register) != shown(&states[0])) {
            return self.fail(format!("stores differ: {states:?}"));
        }
        // What nobody learned may still be pending; then what they show is what was chosen before it.
        let settled = states.iter().all(|register| !register.is_pending());
        let current = self.current.clone().filter(|held| !held.revision.is_tombstone()).map(|h| h.revision.stamp);
        let here = shown(&states[0]).map(|held| held.revision.stamp);
        if settled && here != current {
            self.fail(format!("{here:?} is shown, and {current:?} was chosen last"));
        }
    }
}

pub fn run(seed: u64, fault: Fault) -> World {
    let mut world = World::new(seed, fault);
    let steps = 200 + world.rng.below(1400) as u64;
    world.spin(steps);
    world
}
