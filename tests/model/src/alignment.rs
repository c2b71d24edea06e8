//! Nodes that align while others write, with or without a change of voters on the way: hello, stream, sample, drain and
//! settle in every order, on the protocol's own code. One document; what is not delivered is lost.

mod coordinating;

use crate::common::{put, settle};
use crate::explore::{Happening, Small};
use coequal_protocol::clock::HybridClock;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::hot_alignment::{
    Alignment, AlignmentPhase, SourceSample, invariant_aligned_means_drained_and_settled,
};
use coequal_protocol::membership::{MemberView, invariant_joint_ends_aligned, invariant_step_is_safe, next_change};
use coequal_protocol::proposal::Proposal;
use coequal_protocol::query::{Query, QueryStep};
use coequal_protocol::register::invariant_one_value_per_ballot;
use coequal_protocol::{Ballot, Held, Key, Register, Revision};
use coequal_types::settings::majority;
use coequal_types::{Configuration, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What travels. Values are looked up by ballot: there is one for each (I2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    Prepare(Ballot),
    Promised { ballot: Ballot, held: Option<Ballot>, chosen: bool },
    Accept(Ballot),
    Accepted(Ballot),
    Refused { ballot: Ballot, promised: Ballot },
    Sample { alignment: u64, head: u64, behind: u64, pending: bool, acknowledged: Ballot },
}

/// A message on its way, with the epoch of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub epoch: u64,
    pub wire: Wire,
}

/// The proposal under way at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Active {
    pub proposal: Proposal,
    /// Whether it only settles, for the node's own alignment.
    pub settles: bool,
    pub backs_off: bool,
    pub floor: Ballot,
}

/// An alignment on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aligning {
    pub alignment: Alignment,
    /// What was acknowledged when the first sample that counts was taken.
    pub point: Option<Ballot>,
    pub reading: Option<Query>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    pub up: bool,
    pub epoch: u64,
    pub register: Register,
    pub head: u64,
    pub cursors: BTreeMap<usize, u64>,
    pub clock: HybridClock,
    pub active: Option<Active>,
    pub aligning: Option<Aligning>,
    pub aligned: u64,
    pub new_disk: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub sites: Vec<Site>,
    /// Newest epoch that exists.
    pub newest: u64,
    pub letters: BTreeSet<Letter>,
    pub begun: u32,
    pub proposed: BTreeMap<Ballot, Arc<Revision>>,
    /// The newest acknowledged write.
    pub acknowledged: Ballot,
    pub settled_by_proposal: bool,
    pub violation: Option<String>,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Write(usize),
    Deliver(Letter),
    Retry(usize),
    Adopt(usize),
    Sample { by: usize, from: usize },
    Pull { by: usize, from: usize },
    Settle { by: usize, from: usize },
    Change,
    Die(usize),
}

/// The bounds of one search.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub name: &'static str,
    /// The configurations, from epoch 1 on.
    pub epochs: Vec<Configuration>,
    pub nodes: usize,
    /// Who writes, one after the other.
    pub writers: Vec<usize>,
    /// Who aligns from the beginning; whether with a new disk.
    pub returns: Option<(usize, bool)>,
    /// Who has a new disk when it aligns with a later epoch.
    pub fresh: Option<usize>,
    /// Whose disk is lost for good at some time.
    pub dies: Option<usize>,
    /// Who aligns with a joint epoch, one small step after the other.
    pub aligns: Vec<usize>,
    /// Who counts as aligned with a joint epoch when it adopts it: the aligning of others is looked at.
    pub counts: Option<usize>,
    /// Rounds that a proposal may lose before it is given up.
    pub rounds_max: u32,
}

pub(crate) fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

fn index(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).unwrap()
}

fn document() -> Key {
    crate::common::key("a")
}

impl Bounds {
    pub(crate) fn configuration(&self, epoch: u64) -> &Configuration {
        &self.epochs[usize::try_from(epoch - 1).unwrap()]
    }

    fn site(&self, at: usize) -> Site {
        let mut site = Site {
            up: true,
            epoch: 1,
            register: Register::default(),
            head: 0,
            cursors: BTreeMap::new(),
            clock: HybridClock::default(),
            active: None,
            aligning: None,
            aligned: 0,
            new_disk: self.fresh == Some(at),
        };
        if let Some((_, new_disk)) = self.returns.filter(|(returning, _)| *returning == at) {
            site.new_disk = new_disk;
            self.align(at, &mut site);
        }
        site
    }

    fn align(&self, at: usize, site: &mut Site) {
        let alignment = Alignment::new(site.epoch, id(at), self.configuration(site.epoch), site.new_disk);
        site.aligning = Some(Aligning { alignment, point: None, reading: None });
    }

    /// I6, G1: what was acknowledged is known to every majority of the voters.
    fn is_everywhere(&self, state: &State) -> Result<(), String> {
        let configuration = self.configuration(state.newest);
        if configuration.joint_with.is_some() {
            return Ok(());
        }
        let voters = &configuration.voters;
        let lacks = |node: &&NodeId| state.sites[index(**node)].register.accepted_ballot() < state.acknowledged;
        let lacking: Vec<&NodeId> = voters.iter().filter(lacks).collect();
        if lacking.len() >= majority(u32::try_from(voters.len()).unwrap()) as usize {
            return Err(format!("{} was acknowledged and is unknown to {lacking:?} of {voters:?}", state.acknowledged));
        }
        Ok(())
    }
}

impl Small for Bounds {
    type State = State;
    type Action = Action;

    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self) -> State {
        State {
            sites: (0..self.nodes).map(|at| self.site(at)).collect(),
            newest: 1,
            letters: BTreeSet::new(),
            begun: 0,
            proposed: BTreeMap::new(),
            acknowledged: Ballot::NONE,
            settled_by_proposal: false,
            violation: None,
        }
    }

    fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        if let Some(at) = self.writers.get(state.begun as usize).filter(|at| state.sites[**at].active.is_none()) {
            actions.push(Action::Write(*at));
        }
        let open = |letter: &&Letter| state.sites[letter.to].up;
        actions.extend(state.letters.iter().filter(open).map(|letter| Action::Deliver(*letter)));
        for (at, site) in state.sites.iter().enumerate().filter(|(_, site)| site.up) {
            if site.active.as_ref().is_some_and(|a| a.backs_off && a.proposal.lost_rounds() <= self.rounds_max) {
                actions.push(Action::Retry(at));
            }
            if site.epoch < state.newest {
                actions.push(Action::Adopt(at));
            }
            if self.dies == Some(at) {
                actions.push(Action::Die(at));
            }
            if let Some(aligning) = &site.aligning {
                self.aligning_steps(state, at, aligning, actions);
            }
        }
        if (state.newest as usize) < self.epochs.len() {
            actions.push(Action::Change);
        }
    }

    fn follow(&self, before: &State, action: Action) -> Option<State> {
        let mut world = World { bounds: self, state: before.clone(), local: Vec::new() };
        match action {
            Action::Write(at) => {
                world.state.begun += 1;
                world.start(at, put(&before.begun.to_string()), false);
            }
            Action::Deliver(letter) => {
                world.state.letters.remove(&letter);
                let without = world.state.clone();
                world.deliver(letter);
                world.run_local();
                return (world.state != without).then_some(world.state);
            }
            Action::Retry(at) => world.start_round(at),
            Action::Adopt(at) => world.adopt(at),
            Action::Sample { by, from } => world.sample(by, from),
            Action::Pull { by, from } => world.pull(by, from),
            Action::Settle { by, from } => world.settle(by, from),
            Action::Change => world.change(),
            Action::Die(at) => world.state.sites[at].up = false,
        }
        world.run_local();
        (world.state != *before).then_some(world.state)
    }

    fn judge(&self, state: &State) -> Option<String> {
        if !invariant_one_value_per_ballot(state.sites.iter().map(|site| &site.register)) {
            return Some("two values at one ballot (I2)".to_owned());
        }
        state.violation.clone().or_else(|| self.is_everywhere(state).err())
    }

    fn happens(&self) -> Vec<Happening<Self>> {
        let mut happens: Vec<Happening<Self>> = vec![
            ("a write is acknowledged", |_, state| !state.acknowledged.is_none()),
            ("a node that lacked an acknowledged write is aligned", |_, state| {
                state.sites.iter().any(|site| site.aligned > 0 && !site.register.chosen_ballot().is_none())
            }),
            ("a pending key is settled by a proposal", |_, state| state.settled_by_proposal),
        ];
        if self.epochs.len() > 1 {
            happens.push(("the change of voters is over", |_, state| state.newest == 3));
        }
        happens
    }
}

impl Bounds {
    fn aligning_steps(&self, state: &State, at: usize, aligning: &Aligning, actions: &mut Vec<Action>) {
        let phase = aligning.alignment.phase();
        let up = |node: &NodeId| state.sites[index(*node)].up;
        for node in aligning.alignment.to_sample().iter().filter(|node| up(node)) {
            let from = index(*node);
            let asked = |letter: &Letter| {
                (letter.from, letter.to) == (from, at)
                    && matches!(letter.wire, Wire::Sample { alignment, .. } if alignment == aligning.alignment.id)
            };
            if !state.letters.iter().any(asked) {
                actions.push(Action::Sample { by: at, from });
            }
        }
        for (node, _) in aligning.alignment.heads().iter().filter(|(node, _)| up(node)) {
            actions.push(Action::Pull { by: at, from: index(*node) });
        }
        if phase == AlignmentPhase::Settling && !state.sites[at].active.as_ref().is_some_and(|a| a.settles) {
            let voters = self.configuration(state.sites[at].epoch).all_voters();
            let asks = |node: &&NodeId| aligning.reading.as_ref().is_none_or(|query| !query.answered().contains(node));
            let open = voters.iter().filter(asks).filter(|node| up(node));
            actions.extend(open.map(|node| Action::Settle { by: at, from: index(*node) }));
        }
    }
}

/// A state while something happens in it.
pub struct World<'a> {
    pub bounds: &'a Bounds,
    pub state: State,
    local: Vec<Letter>,
}

impl World<'_> {
    fn fail(&mut self, what: String) {
        self.state.violation.get_or_insert(what);
    }

    /// A node hears of the next epoch; every round begins again under it (I5), and it aligns.
    fn adopt(&mut self, at: usize) {
        let bounds = self.bounds;
        let site = &mut self.state.sites[at];
        site.epoch += 1;
        if let Some(active) = site.active.as_mut().filter(|_| !broken(Fault::RoundKeptAcrossEpochs)) {
            active.proposal.abandon_round();
            active.backs_off = true;
        }
        if bounds.configuration(site.epoch).joint_with.is_some() && bounds.aligns.contains(&at) {
            if site.active.as_ref().is_some_and(|active| active.settles) {
                site.active = None;
            }
            bounds.align(at, site);
        }
    }

    /// A source is asked, and answers with what it has now; the answer travels.
    fn sample(&mut self, by: usize, from: usize) {
        let Some(aligning) = &self.state.sites[by].aligning else { return };
        let (alignment, needed) = (aligning.alignment.id, aligning.alignment.epoch());
        let source = &self.state.sites[from];
        // A source that the epoch has not reached says so, and takes the new epoch up before it answers.
        let epoch = if broken(Fault::SampleBeforeAdoption) { needed.max(source.epoch) } else { source.epoch };
        if epoch < needed {
            return;
        }
        let cursor = self.state.sites[by].cursors.get(&from).copied().unwrap_or(0);
        let behind = u64::from(source.register.feed_sequence > cursor);
        let (head, pending) = (source.head, source.register.is_pending());
        let wire = Wire::Sample { alignment, head, behind, pending, acknowledged: self.state.acknowledged };
        self.state.letters.insert(Letter { from, to: by, epoch, wire });
    }

    fn on_sample(&mut self, letter: Letter) {
        let Wire::Sample { alignment, head, behind, pending, acknowledged } = letter.wire else { return };
        let site = &mut self.state.sites[letter.to];
        let Some(aligning) = &mut site.aligning else { return };
        if aligning.alignment.id != alignment && !broken(Fault::AnyAlignmentAnswer) {
            return;
        }
        let pending = if pending { vec![document()] } else { vec![] };
        let epoch = if broken(Fault::AnyAlignmentAnswer) { aligning.alignment.epoch() } else { letter.epoch };
        let sample = SourceSample { feed: 1, head, behind, pending };
        if aligning.alignment.on_sample(id(letter.from), epoch, sample) {
            aligning.point = Some(aligning.point.map_or(acknowledged, |point| point.min(acknowledged)));
        }
        self.look_at_alignment(letter.to);
    }

    /// All that is in a source's feed behind the cursor.
    fn pull(&mut self, by: usize, from: usize) {
        let source = &self.state.sites[from];
        let (head, held) = (source.head, source.register.chosen.clone());
        self.state.sites[by].cursors.insert(from, head);
        if let Some(held) = held {
            self.learn(by, &held);
        }
        if let Some(aligning) = &mut self.state.sites[by].aligning {
            aligning.alignment.on_batch(id(from), 1, head, 0);
        }
        self.look_at_alignment(by);
    }

    /// One voter answers the read that settles the document.
    fn settle(&mut self, by: usize, from: usize) {
        let epoch = self.state.sites[by].epoch;
        let source = &self.state.sites[from];
        if source.epoch != epoch && !broken(Fault::AcceptorIgnoresEpoch) {
            return;
        }
        let (accepted, chosen) = (source.register.accepted_ballot(), !source.register.is_pending());
        let revision = source.register.accepted.as_ref().map(|held| Arc::clone(&held.revision));
        let configuration = self.bounds.configuration(epoch);
        let Some(aligning) = &mut self.state.sites[by].aligning else { return };
        let reading = aligning.reading.get_or_insert_with(|| Query::new(None));
        match reading.on_answer(configuration, id(from), accepted, chosen, revision) {
            QueryStep::Wait => {}
            QueryStep::Done(held) => self.settled(by, held),
            QueryStep::Settle => {
                aligning.reading = None;
                self.state.settled_by_proposal = true;
                self.start(by, settle(), true);
            }
        }
    }

    fn settled(&mut self, at: usize, held: Option<Held>) {
        if let Some(held) = held {
            self.learn(at, &held);
        }
        if let Some(aligning) = &mut self.state.sites[at].aligning {
            aligning.reading = None;
            aligning.alignment.on_settled(&document());
        }
        self.look_at_alignment(at);
    }

    fn look_at_alignment(&mut self, at: usize) {
        let site = &mut self.state.sites[at];
        let Some(aligning) = &mut site.aligning else { return };
        if aligning.alignment.wants_own_pending() {
            let own = if site.register.is_pending() { vec![document()] } else { vec![] };
            aligning.alignment.take_own_pending(own);
        }
        if aligning.alignment.settles_own() {
            let pending = site.register.is_pending();
            aligning.alignment.drop_own_decided(|_| pending);
        }
        if !invariant_aligned_means_drained_and_settled(&aligning.alignment) {
            self.fail(format!("node {at} is aligned, and not drained or settled"));
        } else if aligning.alignment.phase() == AlignmentPhase::Aligned {
            let (point, held) = (aligning.point.unwrap_or_default(), site.register.chosen_ballot());
            site.aligned = aligning.alignment.epoch();
            site.aligning = None;
            if held < point {
                self.fail(format!("node {at} is aligned without {point}, which was acknowledged before (G4)"));
            }
        }
    }

    /// A caretaker does what is next, by what the nodes say.
    fn change(&mut self) {
        let old = self.bounds.configuration(self.state.newest);
        let next = self.bounds.configuration(self.state.newest + 1);
        if old.joint_with.is_some() {
            let site = |at: &usize| &self.state.sites[*at];
            let aligned = |at: &usize| if self.bounds.counts == Some(*at) { site(at).epoch } else { site(at).aligned };
            let view = |node: &NodeId| MemberView {
                stays: true,
                reachable: true,
                aligned_epoch: aligned(&index(*node)),
                ..MemberView::default()
            };
            let views = old.all_voters().iter().map(|node| (*node, view(node))).collect();
            let Some(found) = next_change(old, &views) else { return };
            assert_eq!(found.voters, next.voters);
            if !invariant_joint_ends_aligned(old, &found, |node| views[node].aligned_epoch) {
                return self.fail("the joint epoch ends before a majority is aligned (I6)".to_owned());
            }
        } else if !invariant_step_is_safe(old, next) {
            return self.fail("the voters change without a joint epoch (I6)".to_owned());
        }
        self.state.newest += 1;
    }
}
