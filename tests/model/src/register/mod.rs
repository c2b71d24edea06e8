//! One document on a few nodes, every order of events: the real register, proposal, query and operation code, with a
//! coordinator around them as a node has it.
//!
//! Any message may stay away for ever, so loss needs no step of its own; `repeats` and `crashes` bound what else the
//! world does. Values travel by their ballot: a ballot with two values is a violation by itself (I2).

mod coordinator;
mod judge;

use coequal_protocol::clock::HybridClock;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::Operation;
use coequal_protocol::promises::{Keep, Promises, invariant_held_promises_are_bounded};
use coequal_protocol::proposal::Proposal;
use coequal_protocol::query::Query;
use coequal_protocol::record::Change;
use coequal_protocol::register::{
    Answer, invariant_chosen_is_accepted_and_fed, invariant_promise_covers_accepted, invariant_promise_never_falls,
};
use coequal_protocol::tombstone_collection::Guard;
use coequal_protocol::{Ballot, Held, Key, Register, Revision};
use coequal_types::Configuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    Prepare(Ballot),
    Promised { ballot: Ballot, held: Option<Ballot>, chosen: bool },
    Accept(Ballot),
    Accepted(Ballot),
    Refused { ballot: Ballot, promised: Ballot },
    Query { read: u32, known: Ballot },
    Answer { read: u32, accepted: Ballot, chosen: bool, carries: bool },
    Chosen(Ballot),
}

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub wire: Wire,
}

/// What a client will ask for, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which node it asks.
    pub at: usize,
    /// What it asks for.
    pub what: What,
    /// The call that has to be over before: a client does one thing after the other.
    pub after: Option<usize>,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A write; `generated` says that the node makes up the key for it.
    Write { operation: Operation, generated: bool },
    /// The write of an earlier call once more, after "unknown".
    Again(usize),
    /// A linearizable read.
    Read,
}

/// How a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    NotBegun,
    Pending,
    Unknown,
    NotApplied,
    Written { version: u64, stamp: Ballot },
    Rejected { at_version: u64 },
    Read(Option<(u64, Ballot)>),
}

impl Outcome {
    pub fn is_over(self) -> bool {
        !matches!(self, Self::NotBegun | Self::Pending)
    }
}

/// A call and what had ended when it began, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    pub outcome: Outcome,
    pub ended_before: u32,
}

/// The proposal under way at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Active {
    pub proposal: Proposal,
    pub call: Option<usize>,
    pub backs_off: bool,
    pub floor: Ballot,
}

/// The read under way at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    pub read: u32,
    pub query: Query,
    pub call: usize,
}

/// A node: acceptor, and coordinator of clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub incarnation: u32,
    pub live: Register,
    pub durable: Register,
    pub unsynced: Vec<Change>,
    /// Promises in memory, and the bound that is on disk.
    pub promises: Promises,
    /// The newest bound, and whether it is on its way to the disk.
    pub bound: u64,
    pub bound_unsynced: bool,
    pub gated: Vec<Letter>,
    pub clock: HybridClock,
    pub active: Option<Active>,
    pub recent: Option<Held>,
    pub reading: Option<Reading>,
    pub reads: u32,
}

impl Node {
    fn is_unsynced(&self) -> bool {
        self.bound_unsynced || !self.unsynced.is_empty()
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub nodes: Vec<Node>,
    pub letters: BTreeSet<Letter>,
    pub calls: Vec<Call>,
    pub crashes: u8,
    pub repeats: u8,
    /// Every value that was ever sent in an accept (I2).
    pub proposed: BTreeMap<Ballot, Arc<Revision>>,
    /// Durable accepts.
    pub votes: BTreeMap<Ballot, BTreeSet<usize>>,
    pub violation: Option<String>,
    /// What happened at least once, for the properties that show that the model is not empty.
    pub seen: Seen,
}

/// Things that have to happen somewhere, else the search proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub lost_round: bool,
    pub one_round: bool,
    pub creation: bool,
    pub read_settles: bool,
    pub promise_in_memory: bool,
    pub promise_lost: bool,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client asks.
    Begin(usize),
    /// A message arrives.
    Deliver(Letter),
    /// A message arrives and will arrive again.
    DeliverCopy(Letter),
    /// A coordinator that lost a round begins another one.
    Retry(usize),
    /// The deadline of a write passes.
    Expire(usize),
    /// The disk of a node catches up.
    Sync(usize),
    /// A node dies and starts anew.
    Crash(usize),
}

/// The bounds of one search.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub name: &'static str,
    pub configuration: Configuration,
    pub plan: Vec<Plan>,
    pub crashes: u8,
    pub repeats: u8,
    /// Rounds that a proposal may lose before it is given up.
    pub rounds_max: u32,
    /// Whether the disk takes its time: answers wait for it, and a crash loses what it has not taken yet.
    pub slow_disk: bool,
    /// The bound of promises in memory that every disk has at the start; times begin at 1.
    pub bound: u64,
    /// How far the clock of the second node is ahead of the others.
    pub ahead: u64,
    /// Two nodes that never hear of each other.
    pub cut: Option<(usize, usize)>,
    /// Whether others are told what was chosen (the feed).
    pub tells: bool,
    /// Whether deadlines pass.
    pub expires: bool,
    /// The rule that is broken on purpose.
    pub fault: Option<Fault>,
}

impl Bounds {
    pub fn start(&self) -> State {
        let mut promises = Promises::default();
        promises.raise_bound(self.bound);
        let node = Node {
            incarnation: 1,
            live: Register::default(),
            durable: Register::default(),
            unsynced: Vec::new(),
            promises,
            bound: self.bound,
            bound_unsynced: false,
            gated: Vec::new(),
            clock: HybridClock::default(),
            active: None,
            recent: None,
            reading: None,
            reads: 0,
        };
        let mut nodes = vec![node; self.configuration.voters.len()];
        nodes[1].clock = HybridClock::starting_above(self.ahead);
        State {
            nodes,
            letters: BTreeSet::new(),
            calls: vec![Call { outcome: Outcome::NotBegun, ended_before: 0 }; self.plan.len()],
            crashes: 0,
            repeats: 0,
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            violation: None,
            seen: Seen::default(),
        }
    }

    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        for (call, plan) in self.plan.iter().enumerate() {
            if state.calls[call].outcome == Outcome::NotBegun && self.may_begin(state, plan) {
                actions.push(Action::Begin(call));
            }
        }
        let untouched = self.start().nodes;
        for (at, node) in state.nodes.iter().enumerate() {
            if let Some(active) = &node.active {
                if active.backs_off && active.proposal.lost_rounds() <= self.rounds_max {
                    actions.push(Action::Retry(at));
                }
                if self.expires {
                    actions.push(Action::Expire(at));
                }
            }
            if node.is_unsynced() {
                actions.push(Action::Sync(at));
            }
            if state.crashes < self.crashes && *node != untouched[at] {
                actions.push(Action::Crash(at));
            }
        }
        for letter in &state.letters {
            actions.push(Action::Deliver(*letter));
            if state.repeats < self.repeats {
                actions.push(Action::DeliverCopy(*letter));
            }
        }
    }

    fn may_begin(&self, state: &State, plan: &Plan) -> bool {
        let node = &state.nodes[plan.at];
        let is_over = |call: usize| state.calls[call].outcome.is_over();
        let free = match plan.what {
            What::Read => node.reading.is_none(),
            What::Again(call) => node.active.is_none() && state.calls[call].outcome == Outcome::Unknown,
            What::Write { .. } => node.active.is_none(),
        };
        free && plan.after.is_none_or(is_over)
    }

    /// The document: of a kind that nodes make up, if one of them does.
    pub(super) fn key(&self) -> Key {
        let made_up = self.plan.iter().any(|plan| matches!(plan.what, What::Write { generated: true, .. }));
        Key::of("things", if made_up { "00000000-0000-7000-8000-000000000000" } else { "k" })
    }

    /// What follows, or nothing when nothing changes but that a message is gone: that is its loss.
    pub fn follow(&self, before: &State, action: Action) -> Option<State> {
        let mut world = World { bounds: self, state: before.clone(), local: Vec::new() };
        match action {
            Action::Begin(call) => world.begin(call),
            Action::Deliver(letter) => {
                world.state.letters.remove(&letter);
                let without = world.state.clone();
                world.deliver(letter);
                world.run_local();
                return (world.state != without).then_some(world.state);
            }
            Action::DeliverCopy(letter) => {
                let without = world.state.clone();
                world.deliver(letter);
                world.run_local();
                let changed = world.state != without;
                world.state.repeats += 1;
                return changed.then_some(world.state);
            }
            Action::Retry(at) => world.start_round(at),
            Action::Expire(at) => world.expire(at),
            Action::Sync(at) => world.sync(at),
            Action::Crash(at) => world.crash(at),
        }
        world.run_local();
        Some(world.state)
    }
}

/// A state while something happens in it.
pub struct World<'a> {
    bounds: &'a Bounds,
    pub state: State,
    local: Vec<Letter>,
}

impl World<'_> {
    fn fail(&mut self, what: String) {
        self.state.violation.get_or_insert(what);
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        let letter = Letter { from, to, wire };
        if self.bounds.cut.is_some_and(|cut| cut == (from, to) || cut == (to, from)) {
            return;
        }
        if from == to {
            self.local.push(letter);
        } else {
            self.state.letters.insert(letter);
        }
    }

    /// Messages of a node to itself arrive at once.
    fn run_local(&mut self) {
        while !self.local.is_empty() {
            let letter = self.local.remove(0);
            self.deliver(letter);
        }
    }

    fn value(&self, ballot: Ballot) -> Option<Held> {
        self.state.proposed.get(&ballot).map(|revision| Held { ballot, revision: Arc::clone(revision) })
    }

    fn deliver(&mut self, letter: Letter) {
        let Letter { from, to, wire } = letter;
        match wire {
            Wire::Prepare(ballot) => {
                let key = self.bounds.key();
                let node = &self.state.nodes[to];
                let (answer, keep) = node.promises.prepare(&Guard::default(), &key, &node.live, ballot);
                let change = self.keep(to, &key, ballot, keep);
                if from != to {
                    self.state.nodes[to].recent = None;
                }
                self.answer(to, from, ballot, answer, change);
            }
            Wire::Accept(ballot) => {
                let Some(held) = self.value(ballot) else { return };
                let key = self.bounds.key();
                let node = &mut self.state.nodes[to];
                let guard = Guard::default();
                let (answer, change) = node.promises.accept(&guard, &key, &node.live, ballot, &held.revision);
                if answer == Answer::Accepted {
                    node.promises.release(&key, ballot);
                }
                self.answer(to, from, ballot, answer, change);
                if broken(Fault::AcceptedIsFed) {
                    self.learn(to, ballot, None);
                }
            }
            Wire::Query { read, known } => {
                let register = &self.state.nodes[to].live;
                let (accepted, chosen) = (register.accepted_ballot(), !register.is_pending());
                let carries = accepted > known;
                self.send_durable(to, from, Wire::Answer { read, accepted, chosen, carries });
            }
            Wire::Chosen(ballot) => {
                let revision = self.value(ballot).map(|held| held.revision);
                self.learn(to, ballot, revision.as_ref());
            }
            Wire::Promised { .. } | Wire::Accepted(_) | Wire::Refused { .. } | Wire::Answer { .. } => {
                self.on_answer(from, to, wire);
            }
        }
    }

    /// A promise stays in memory, or is to be recorded; the bound is moved as soon as a ballot comes near it.
    fn keep(&mut self, at: usize, key: &Key, ballot: Ballot, keep: Keep) -> Option<Change> {
        let node = &mut self.state.nodes[at];
        if keep != Keep::Nothing && ballot.time >= node.bound {
            (node.bound, node.bound_unsynced) = (ballot.time + 1, true);
        }
        let change = match keep {
            Keep::Nothing => None,
            Keep::InMemory => {
                node.promises.hold(key, ballot);
                self.state.seen.promise_in_memory = true;
                None
            }
            Keep::OnDisk(change) => Some(change),
        };
        let sound = invariant_held_promises_are_bounded(&self.state.nodes[at].promises);
        if !sound && !broken(Fault::PromiseAboveBound) {
            self.fail(format!("node {at} holds a promise in memory above the bound on disk (I3)"));
        }
        change
    }

    fn answer(&mut self, at: usize, to: usize, ballot: Ballot, answer: Answer, change: Option<Change>) {
        self.record(at, change);
        if !self.bounds.slow_disk {
            self.sync(at);
        }
        match answer {
            Answer::Promised { held, chosen } => {
                let held = held.map(|held| held.ballot);
                self.send_durable(at, to, Wire::Promised { ballot, held, chosen });
            }
            Answer::Accepted => self.send_durable(at, to, Wire::Accepted(ballot)),
            Answer::Refused { promised } => self.send(at, to, Wire::Refused { ballot, promised }),
        }
    }

    fn record(&mut self, at: usize, change: Option<Change>) {
        let Some(change) = change else { return };
        let node = &mut self.state.nodes[at];
        let before = node.live.clone();
        node.live.apply(&change);
        node.unsynced.push(change);
        let sound = invariant_promise_covers_accepted(&node.live)
            && invariant_chosen_is_accepted_and_fed(&node.live)
            && invariant_promise_never_falls(&before, &node.live);
        if !sound {
            let what = format!("the register of node {at} is unsound: {:?}", self.state.nodes[at].live);
            self.fail(what);
        }
    }

    fn learn(&mut self, at: usize, ballot: Ballot, revision: Option<&Arc<Revision>>) {
        // The place in the feed says nothing in this model, only that there is one.
        let change = self.state.nodes[at].live.learn(ballot, revision, 1);
        self.record(at, change);
        if !self.bounds.slow_disk {
            self.sync(at);
        }
        let node = &mut self.state.nodes[at];
        if node.recent.as_ref().is_some_and(|held| held.ballot < ballot) {
            node.recent = None;
        }
    }

    /// An answer leaves when everything before it is on disk (I3).
    fn send_durable(&mut self, from: usize, to: usize, wire: Wire) {
        if self.state.nodes[from].unsynced.is_empty() || broken(Fault::AnswerBeforeFsync) {
            self.send(from, to, wire);
        } else {
            self.state.nodes[from].gated.push(Letter { from, to, wire });
        }
    }

    fn sync(&mut self, at: usize) {
        let node = &mut self.state.nodes[at];
        node.bound_unsynced = false;
        node.promises.raise_bound(node.bound);
        for change in std::mem::take(&mut node.unsynced) {
            if matches!(change, Change::Promise { .. }) && broken(Fault::PromiseOnlyInMemory) {
                continue;
            }
            node.durable.apply(&change);
            if let Change::Accept { ballot, .. } = change {
                self.state.votes.entry(ballot).or_default().insert(at);
            }
        }
        for letter in std::mem::take(&mut self.state.nodes[at].gated) {
            self.send(letter.from, letter.to, letter.wire);
        }
    }

    /// Power cut and restart: what is not on disk is gone, and whoever waits gets no answer.
    fn crash(&mut self, at: usize) {
        self.state.crashes += 1;
        let node = &mut self.state.nodes[at];
        self.state.seen.promise_lost |= node.promises.held() > 0;
        node.bound = node.promises.bound();
        node.bound_unsynced = false;
        node.promises = Promises::after_start(node.bound);
        node.live = node.durable.clone();
        node.unsynced.clear();
        node.gated.clear();
        node.recent = None;
        node.incarnation += u32::from(!broken(Fault::IncarnationReused));
        // Whatever the clock had reached is lost: only the incarnation keeps ballots apart.
        node.clock = HybridClock::default();
        let read = node.reading.take().map(|reading| reading.call);
        let write = node.active.take().and_then(|active| active.call);
        for call in read.into_iter().chain(write) {
            self.end(call, Outcome::Unknown);
        }
    }

    /// Ends a call, if it has not ended.
    fn end(&mut self, call: usize, outcome: Outcome) {
        let call = &mut self.state.calls[call];
        if call.outcome == Outcome::Pending {
            call.outcome = outcome;
        }
    }
}
