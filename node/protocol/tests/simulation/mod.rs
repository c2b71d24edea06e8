//! A world of acceptors and coordinators of one document: messages are lost, repeated and late, nodes die with
//! all that is not yet on their disk, clients ask again. The rules are the real ones; the wires and disks are not.

#![allow(dead_code, clippy::unwrap_used)]

mod check;
mod coordinator;

use crate::common::{Rng, configuration, hash_of};
use coequal_protocol::clock::HybridClock;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::{Condition, Operation};
use coequal_protocol::proposal::Proposal;
use coequal_protocol::query::Query;
use coequal_protocol::quorum::NodeSet;
use coequal_protocol::record::Change;
use coequal_protocol::register::{
    Answer, invariant_chosen_is_accepted_and_fed, invariant_promise_covers_accepted, invariant_promise_never_falls,
};
use coequal_protocol::{Ballot, Held, Register, Revision};
use coequal_types::settings::majority;
use coequal_types::{Configuration, Incarnation, NodeId, WriteQuorum};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What travels.
#[derive(Debug, Clone, Hash)]
pub enum Wire {
    Prepare(Ballot),
    Promised(Ballot, Option<HeldHash>, bool),
    Accept(Ballot, HashedRevision),
    Accepted(Ballot),
    Refused(Ballot, Ballot),
    Query(u64, Ballot),
    QueryAnswer(u64, Ballot, bool, Option<HashedRevision>),
    Chosen(Ballot, Option<HashedRevision>),
}

/// A revision that hashes by its stamp and version: enough to tell two runs apart.
#[derive(Debug, Clone)]
pub struct HashedRevision(pub Arc<Revision>);

impl std::hash::Hash for HashedRevision {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.version, self.0.stamp, &self.0.body).hash(state);
    }
}

#[derive(Debug, Clone, Hash)]
pub struct HeldHash(pub Ballot, pub HashedRevision);

impl HeldHash {
    fn of(held: Held) -> Self {
        Self(held.ballot, HashedRevision(held.revision))
    }
    fn into_held(self) -> Held {
        Held { ballot: self.0, revision: self.1.0 }
    }
}

/// A message on its way.
#[derive(Debug, Clone, Hash)]
pub struct Letter {
    from: usize,
    to: usize,
    wire: Wire,
}

/// How a client's request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    Unknown,
    NotApplied,
    Written { version: u64, stamp: Ballot },
    Rejected { at_version: u64 },
    Read(Option<(u64, Ballot)>),
}

/// One request of one client.
#[derive(Debug, Clone)]
pub struct Call {
    pub number: u128,
    pub operation: Option<Operation>,
    pub generated: bool,
    /// When the first try of this request began.
    pub began: u64,
    pub ended: u64,
    pub outcome: Outcome,
}

/// A node: acceptor, and coordinator of clients.
pub struct Node {
    id: NodeId,
    up: bool,
    incarnation: Incarnation,
    live: Register,
    log: Vec<Change>,
    durable: usize,
    gated: Vec<(usize, Letter)>,
    clock: HybridClock,
    skew: u64,
    active: Option<Active>,
    waiting: VecDeque<usize>,
    recent: Option<Held>,
    query: Option<(u64, Query, Option<usize>)>,
    queries: u64,
}

/// The proposal under way at a node, and the calls that it carries.
pub struct Active {
    proposal: Proposal,
    calls: Vec<usize>,
    backs_off: bool,
    floor: Ballot,
}

/// Everything.
pub struct World {
    pub seed: u64,
    rng: Rng,
    configuration: Configuration,
    nodes: Vec<Node>,
    coordinators: usize,
    letters: Vec<Letter>,
    loss: u64,
    repeat: u64,
    step: u64,
    feed: u64,
    pub calls: Vec<Call>,
    /// Every value that was ever sent in an accept, by ballot (I2).
    proposed: BTreeMap<Ballot, Arc<Revision>>,
    /// Durable accepts by ballot.
    votes: BTreeMap<Ballot, NodeSet>,
    pub trace: u64,
    pub failure: Option<String>,
}

/// Where a run ended.
pub struct Report {
    pub trace: u64,
    pub failure: Option<String>,
    pub acknowledged: u64,
    pub chain: u64,
}

/// One schedule from one seed.
pub fn run(seed: u64) -> Report {
    let mut world = World::new(seed);
    let long = world.rng.chance(40);
    let calls = if long { 24 + world.rng.below(20) } else { 3 + world.rng.below(8) };
    let steps = calls * (30 + world.rng.below(70));
    world.spin(steps, calls);
    world.heal();
    let chain = world.judge();
    let acknowledged = world.calls.iter().filter(|c| matches!(c.outcome, Outcome::Written { .. })).count() as u64;
    Report { trace: world.trace, failure: world.failure, acknowledged, chain }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let count = if rng.chance(650) { 3 } else { 5 };
        let ids: Vec<u64> = (1..=count).collect();
        let mut configuration = configuration(&ids, None);
        configuration.settings.write_quorum = match rng.below(12) {
            0 => WriteQuorum::All,
            1 => WriteQuorum::Count(u32::try_from(count).unwrap() - 1),
            _ => WriteQuorum::Majority,
        };
        let nodes = ids.iter().map(|id| Node::new(NodeId(*id), rng.below(3) as u64)).collect();
        let (coordinators, loss) = (2 + rng.below(2), *rng.pick(&[0, 50, 150, 300]));
        let repeat = *rng.pick(&[0, 50, 200]);
        Self {
            seed,
            rng,
            configuration,
            nodes,
            coordinators,
            letters: Vec::new(),
            loss,
            repeat,
            step: 0,
            feed: 0,
            calls: Vec::new(),
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            trace: seed,
            failure: None,
        }
    }

    fn note(&mut self, what: &impl std::hash::Hash) {
        self.trace = self.trace.rotate_left(5) ^ hash_of(what);
    }

    fn fail(&mut self, what: String) {
        let seed = self.seed;
        self.failure.get_or_insert_with(|| format!("seed {seed}: {what}"));
    }

    fn spin(&mut self, steps: usize, calls: usize) {
        let crashes = if broken(Fault::IncarnationReused) { 25 } else { *self.rng.pick(&[0, 4, 15]) };
        for _ in 0..steps {
            self.step += 1;
            let dice = self.rng.below(1000) as u64;
            match dice {
                _ if dice < crashes => self.crash_one(),
                _ if dice < 40 => self.restart_one(),
                _ if dice < 70 && self.calls.len() < calls => self.call(),
                _ if dice < 300 => self.sync_one(),
                _ if dice < 350 => self.poke_coordinator(),
                _ if dice < 355 => self.expire_one(),
                _ => self.deliver_one(),
            }
            if self.failure.is_some() {
                return;
            }
        }
    }

    fn crash_one(&mut self) {
        let at = self.rng.below(self.nodes.len());
        if self.nodes[at].up {
            self.crash(at);
        }
    }

    fn restart_one(&mut self) {
        let at = self.rng.below(self.nodes.len());
        self.restart(at);
    }

    /// Power cut: what is not on disk is gone, and whoever waits for an answer gets none.
    fn crash(&mut self, at: usize) {
        self.note(&("crash", at));
        let node = &mut self.nodes[at];
        node.up = false;
        node.log.truncate(node.durable);
        node.live = Register::default();
        let forgotten =
            |change: &Change| matches!(change, Change::Promise { .. }) && broken(Fault::PromiseOnlyInMemory);
        node.log.iter().filter(|change| !forgotten(change)).for_each(|change| node.live.apply(change));
        node.gated.clear();
        (node.recent, node.query) = (None, None);
        let waiting: Vec<usize> = node.waiting.drain(..).collect();
        let active = node.active.take().map(|active| active.calls).unwrap_or_default();
        for call in waiting.into_iter().chain(active) {
            self.end(call, Outcome::Unknown);
        }
        for call in 0..self.calls.len() {
            // A read that was under way there.
            if self.calls[call].operation.is_none() && self.calls[call].outcome == Outcome::Pending {
                self.end_read_of(at, call);
            }
        }
    }

    fn restart(&mut self, at: usize) {
        if self.nodes[at].up {
            return;
        }
        self.note(&("restart", at));
        let reused = broken(Fault::IncarnationReused);
        let node = &mut self.nodes[at];
        node.up = true;
        node.incarnation += u32::from(!reused);
        // Whatever the clock had reached is lost: only the incarnation keeps ballots apart.
        node.clock = HybridClock::default();
    }

    fn sync_one(&mut self) {
        let at = self.rng.below(self.nodes.len());
        self.sync(at);
    }

    /// The disk catches up; answers that waited for it leave.
    fn sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.up {
            return;
        }
        let fresh: Vec<Ballot> = node.log[node.durable..]
            .iter()
            .filter_map(|change| match change {
                Change::Accept { ballot, .. } => Some(*ballot),
                _ => None,
            })
            .collect();
        node.durable = node.log.len();
        let id = node.id;
        let letters: Vec<Letter> = node.gated.drain(..).map(|(_, letter)| letter).collect();
        self.note(&("sync", at, letters.len()));
        self.letters.extend(letters);
        for ballot in fresh {
            self.votes.entry(ballot).or_default().insert(id);
        }
    }

    fn deliver_one(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let at = self.rng.below(self.letters.len());
        let letter = self.letters.swap_remove(at);
        if self.rng.chance(self.repeat) {
            self.letters.push(letter.clone());
        }
        if !self.rng.chance(self.loss) {
            self.deliver(letter);
        }
    }

    fn deliver(&mut self, letter: Letter) {
        if !self.nodes[letter.to].up {
            return;
        }
        self.note(&letter);
        let Letter { from, to, wire } = letter;
        match wire {
            Wire::Prepare(ballot) => {
                let (answer, change) = self.nodes[to].live.prepare(ballot);
                if from != to {
                    self.nodes[to].recent = None;
                }
                self.observe(to, ballot);
                self.answer(to, from, ballot, answer, change);
            }
            Wire::Accept(ballot, revision) => {
                let (answer, change) = self.nodes[to].live.accept(ballot, &revision.0, 0);
                self.observe(to, ballot);
                self.answer(to, from, ballot, answer, change);
                if broken(Fault::AcceptedIsFed) {
                    self.learn(to, ballot, None);
                }
            }
            Wire::Query(read, known) => {
                let register = &self.nodes[to].live;
                let (accepted, chosen) = (register.accepted_ballot(), !register.is_pending());
                let held = register.accepted.clone().filter(|held| held.ballot > known);
                let revision = held.map(|held| HashedRevision(held.revision));
                self.send_durable(to, from, Wire::QueryAnswer(read, accepted, chosen, revision));
            }
            Wire::Chosen(ballot, revision) => self.learn(to, ballot, revision.map(|r| r.0)),
            Wire::Promised(..) | Wire::Accepted(..) | Wire::Refused(..) | Wire::QueryAnswer(..) => {
                self.on_answer(from, to, wire);
            }
        }
    }

    fn answer(&mut self, at: usize, to: usize, ballot: Ballot, answer: Answer, change: Option<Change>) {
        self.record(at, change);
        match answer {
            Answer::Promised { held, chosen } => {
                self.send_durable(at, to, Wire::Promised(ballot, held.map(HeldHash::of), chosen));
            }
            Answer::Accepted => self.send_durable(at, to, Wire::Accepted(ballot)),
            Answer::Refused { promised } => self.send(at, to, Wire::Refused(ballot, promised)),
        }
    }

    fn record(&mut self, at: usize, change: Option<Change>) {
        let Some(change) = change else { return };
        let node = &mut self.nodes[at];
        let before = node.live.clone();
        node.live.apply(&change);
        node.log.push(change);
        let sound = invariant_promise_covers_accepted(&node.live)
            && invariant_chosen_is_accepted_and_fed(&node.live)
            && invariant_promise_never_falls(&before, &node.live);
        if !sound {
            let what = format!("register of node {at} is unsound: {:?}", self.nodes[at].live);
            self.fail(what);
        }
    }

    fn learn(&mut self, at: usize, ballot: Ballot, revision: Option<Arc<Revision>>) {
        self.feed += 1;
        let change = self.nodes[at].live.learn(ballot, revision.as_ref(), self.feed);
        self.record(at, change);
        let node = &mut self.nodes[at];
        if node.recent.as_ref().is_some_and(|held| held.ballot < ballot) {
            node.recent = None;
        }
    }

    fn send(&mut self, from: usize, to: usize, wire: Wire) {
        self.letters.push(Letter { from, to, wire });
    }

    /// An answer leaves when everything before it is on disk (I3).
    fn send_durable(&mut self, from: usize, to: usize, wire: Wire) {
        let node = &mut self.nodes[from];
        let letter = Letter { from, to, wire };
        if node.log.len() > node.durable && !broken(Fault::AnswerBeforeFsync) {
            node.gated.push((node.log.len(), letter));
        } else {
            self.letters.push(letter);
        }
    }

    fn observe(&mut self, at: usize, ballot: Ballot) {
        let physical = self.physical(at);
        self.nodes[at].clock.observe(ballot.time, physical);
    }

    /// Clocks stand still for long and differ: ballots of different nodes meet at equal times.
    fn physical(&self, at: usize) -> u64 {
        let stands = broken(Fault::IncarnationReused);
        if stands { 1 } else { 1 + self.step / 64 + self.nodes[at].skew }
    }

    fn majority(&self) -> usize {
        majority(u32::try_from(self.nodes.len()).unwrap()) as usize
    }

    /// Ends a call, if it has not ended.
    fn end(&mut self, call: usize, outcome: Outcome) {
        if self.calls[call].outcome != Outcome::Pending {
            return;
        }
        self.note(&("end", call, format!("{outcome:?}")));
        let step = self.step;
        let call = &mut self.calls[call];
        call.ended = step;
        call.outcome = outcome;
    }
}

impl Node {
    fn new(id: NodeId, skew: u64) -> Self {
        Self {
            id,
            up: true,
            incarnation: 1,
            live: Register::default(),
            log: Vec::new(),
            durable: 0,
            gated: Vec::new(),
            clock: HybridClock::default(),
            skew,
            active: None,
            waiting: VecDeque::new(),
            recent: None,
            query: None,
            queries: 0,
        }
    }
}

/// What a conditional write expects to find.
pub fn expected_version(operation: &Operation) -> Option<u64> {
    match operation.condition {
        Condition::Version(version) => Some(version),
        _ => None,
    }
}
