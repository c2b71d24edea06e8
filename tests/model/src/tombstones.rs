//! Tombstones that are collected while messages are late: the steps of the low bound, adopting, aligning, restarts and
//! writes in every order, on the protocol's own code. One document; what is not delivered is lost, or comes later.
//!
//! How a node aligns in small steps is looked at in `alignment`; here it does so at once, with one other node.

mod searches;
mod world;

pub use searches::{all, two_die};

use crate::collecting::Fault as Rule;
use crate::explore::{Happening, Small};
use coequal_protocol::clock::HybridClock;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::Operation;
use coequal_protocol::proposal::Proposal;
use coequal_protocol::register::{invariant_chosen_is_accepted_and_fed, invariant_promise_covers_accepted};
use coequal_protocol::tombstone_collection::{Guard, invariant_complete_has_nothing_pending, is_collected};
use coequal_protocol::{Ballot, Held, Register, Revision};
use coequal_types::settings::majority;
use coequal_types::{Configuration, LowBound, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use world::World;

/// What travels. Values are looked up by ballot: there is one for each (I2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    Prepare(Ballot),
    Promised { ballot: Ballot, held: Option<Ballot>, chosen: bool },
    Accept(Ballot),
    Accepted(Ballot),
    Refused { ballot: Ballot, promised: Ballot },
    Copy(Ballot),
}

/// A message on its way, with the epoch of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub epoch: u64,
    pub wire: Wire,
}

/// What a client asks for, one thing after the other.
#[derive(Debug, Clone)]
pub struct Call {
    /// The node that it asks.
    pub at: usize,
    pub operation: Operation,
    /// Whether the node makes up the key for it.
    pub generated: bool,
    /// The epoch that has to be there first.
    pub since: usize,
}

/// The proposal under way at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Active {
    pub proposal: Proposal,
    /// Whether a client waits for it.
    pub called: bool,
    pub backs_off: bool,
    pub floor: Ballot,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    pub register: Register,
    pub epoch: u64,
    /// What it says, durably, that it is complete up to.
    pub complete: u64,
    pub incarnation: u32,
    pub clock: HybridClock,
    pub active: Option<Active>,
    /// Whether it does not know the low bound of its epoch, as no node should.
    pub forgot: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub sites: Vec<Site>,
    /// Agreed and collected, of each epoch from 1 on.
    pub steps: Vec<(u64, u64)>,
    pub letters: BTreeSet<Letter>,
    pub begun: usize,
    pub repeats: u8,
    pub restarts: u8,
    pub proposed: BTreeMap<Ballot, Arc<Revision>>,
    /// Who accepted what, as sets of bits.
    pub votes: BTreeMap<Ballot, u8>,
    /// What was chosen last.
    pub current: Option<Held>,
    /// The newest chosen tombstone.
    pub deleted: Option<Held>,
    /// The stamp of the last write that a client was told of.
    pub acknowledged: Ballot,
    pub violation: Option<String>,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Call,
    Deliver(Letter),
    /// A message arrives and will arrive again.
    DeliverCopy(Letter),
    Retry(usize),
    /// The caretaker takes the next step of the bound.
    Caretake,
    Adopt(usize),
    Align {
        by: usize,
        from: usize,
    },
    Restart(usize),
    /// Housekeeping: what is collected goes from the disk. Nothing may depend on when.
    Sweep(usize),
}

/// The bounds of one search.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub name: &'static str,
    pub configuration: Configuration,
    pub plan: Vec<Call>,
    /// Calls that are over before the search begins: who was there then. What was sent to others is late.
    pub before: Vec<BTreeSet<usize>>,
    /// Whether those who were there know that it was chosen.
    pub told: bool,
    pub repeats: u8,
    pub restarts: u8,
    /// Who may die.
    pub restarting: Vec<usize>,
    /// Whether there is housekeeping; else what is collected goes when its register is looked at.
    pub sweeps: bool,
    pub rounds_max: u32,
    pub epochs_max: usize,
    /// A rule of the nodes, not of the functions, that is broken on purpose.
    pub rule: Rule,
    /// Whether what only the invariants of collecting forbid counts as wrong, or nothing but what a client sees.
    pub judges_invariants: bool,
}

pub(crate) fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

impl Bounds {
    fn configuration(&self, state: &State, epoch: u64) -> Configuration {
        let (agreed, collected) = state.steps[usize::try_from(epoch - 1).unwrap()];
        Configuration { epoch, low_bound: LowBound { agreed, collected }, ..self.configuration.clone() }
    }

    /// What a node has to hold itself to, by what is on its disk.
    fn guard(state: &State, at: usize) -> Guard {
        let site = &state.sites[at];
        let (agreed, collected) = state.steps[usize::try_from(site.epoch - 1).unwrap()];
        Guard { bound: LowBound { agreed, collected }, complete: site.complete }
    }

    /// A register without what is collected, as every handler sees it first.
    fn seen(state: &State, at: usize) -> Register {
        let mut register = state.sites[at].register.clone();
        if let Some(change) = Self::guard(state, at).cleared(&register) {
            register.apply(&change);
        }
        register
    }

    /// Section 10: where a delete counts as collected, nothing that it deleted is shown.
    fn nothing_is_revived(state: &State) -> Result<(), String> {
        let Some(deleted) = &state.deleted else { return Ok(()) };
        for at in 0..state.sites.len() {
            if Self::guard(state, at).bound.collected < deleted.ballot.time {
                continue;
            }
            let shown = Self::seen(state, at).chosen.filter(|held| is_revived(&held.revision, &deleted.revision));
            if let Some(held) = shown {
                return Err(format!("node {at} shows {}, which was deleted and collected (section 10)", held.ballot));
            }
        }
        Ok(())
    }

    /// G1: what was chosen last is known to every majority, unless it is a tombstone that is collected.
    fn nothing_is_lost(&self, state: &State) -> Result<(), String> {
        let collected = state.steps.last().map_or(0, |(_, collected)| *collected);
        let is_gone = |held: &&Held| is_collected(held.ballot, &held.revision, collected);
        let Some(current) = state.current.as_ref().filter(|held| !is_gone(held)) else { return Ok(()) };
        let holds = |held: &Held| held.revision.descends_from(current.revision.stamp);
        let lacks = |at: &usize| !Self::seen(state, *at).accepted.as_ref().is_some_and(holds);
        let lacking: Vec<usize> = (0..state.sites.len()).filter(lacks).collect();
        if lacking.len() >= majority(u32::try_from(state.sites.len()).unwrap()) as usize {
            return Err(format!("{} was chosen last and is unknown to {lacking:?} (G1)", current.ballot));
        }
        Ok(())
    }

    fn registers_are_sound(state: &State) -> Result<(), String> {
        for (at, site) in state.sites.iter().enumerate() {
            let register = Self::seen(state, at);
            if !invariant_promise_covers_accepted(&register) || !invariant_chosen_is_accepted_and_fed(&register) {
                return Err(format!("the register of node {at} is unsound: {register:?}"));
            }
            if !invariant_complete_has_nothing_pending(&register, site.complete) {
                return Err(format!("node {at} is complete up to {} and holds less undecided", site.complete));
            }
        }
        Ok(())
    }

    /// A message that can change nothing any more: an answer to a round that is over, a request of an epoch that is over.
    fn is_spent(&self, state: &State, letter: &Letter) -> bool {
        match letter.wire {
            Wire::Prepare(_) | Wire::Accept(_) => {
                let counts = self.rule == Rule::LateTaken || broken(Fault::AcceptorIgnoresEpoch);
                letter.epoch < state.sites[letter.to].epoch && !counts
            }
            Wire::Promised { ballot, .. } | Wire::Accepted(ballot) | Wire::Refused { ballot, .. } => {
                let active = state.sites[letter.to].active.as_ref();
                active.is_none_or(|active| active.backs_off || active.proposal.ballot() != ballot)
            }
            Wire::Copy(_) => false,
        }
    }
}

/// Whether a revision goes back to something that was deleted, by another way than over the tombstone.
fn is_revived(revision: &Revision, tombstone: &Revision) -> bool {
    let dead = tombstone.history.iter().map(|entry| entry.stamp).filter(|stamp| *stamp != tombstone.stamp);
    !revision.descends_from(tombstone.stamp) && dead.into_iter().any(|stamp| revision.descends_from(stamp))
}

impl Small for Bounds {
    type State = State;
    type Action = Action;

    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self) -> State {
        let site = Site {
            register: Register::default(),
            epoch: 1,
            complete: 0,
            incarnation: 1,
            clock: HybridClock::default(),
            active: None,
            forgot: false,
        };
        let mut state = State {
            sites: vec![site; self.configuration.voters.len()],
            steps: vec![(0, 0)],
            letters: BTreeSet::new(),
            begun: 0,
            repeats: 0,
            restarts: 0,
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            current: None,
            deleted: None,
            acknowledged: Ballot::NONE,
            violation: None,
        };
        for among in &self.before {
            state = self.follow(&state, Action::Call).unwrap();
            let between = |letter: &&Letter| {
                let arrives = self.told || !matches!(letter.wire, Wire::Copy(_));
                among.contains(&letter.from) && among.contains(&letter.to) && arrives
            };
            while let Some(letter) = state.letters.iter().find(between).copied() {
                let without = State { letters: &state.letters - &BTreeSet::from([letter]), ..state.clone() };
                state = self.follow(&state, Action::Deliver(letter)).unwrap_or(without);
            }
        }
        state
    }

    fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        let idle = !state.sites.iter().any(|site| site.active.as_ref().is_some_and(|active| active.called));
        if let Some(call) = self.plan.get(state.begun).filter(|call| idle && state.steps.len() >= call.since) {
            actions.extend(state.sites[call.at].active.is_none().then_some(Action::Call));
        }
        for letter in &state.letters {
            actions.push(Action::Deliver(*letter));
            if state.repeats < self.repeats && matches!(letter.wire, Wire::Accept(_) | Wire::Copy(_)) {
                actions.push(Action::DeliverCopy(*letter));
            }
        }
        if state.steps.len() < self.epochs_max {
            actions.push(Action::Caretake);
        }
        for (at, site) in state.sites.iter().enumerate() {
            if site.active.as_ref().is_some_and(|a| a.backs_off && a.proposal.lost_rounds() <= self.rounds_max) {
                actions.push(Action::Retry(at));
            }
            if (site.epoch as usize) < state.steps.len() {
                actions.push(Action::Adopt(at));
            }
            if state.restarts < self.restarts && self.restarting.contains(&at) {
                actions.push(Action::Restart(at));
            }
            if self.sweeps && !site.forgot && Self::guard(state, at).cleared(&site.register).is_some() {
                actions.push(Action::Sweep(at));
            }
            if Self::guard(state, at).bound.agreed > site.complete {
                let same = |from: &usize| *from != at && state.sites[*from].epoch == site.epoch;
                let sources = (0..state.sites.len()).filter(same);
                actions.extend(sources.map(|from| Action::Align { by: at, from }));
            }
        }
    }

    fn follow(&self, before: &State, action: Action) -> Option<State> {
        let mut world = World::new(self, before.clone());
        match action {
            Action::Call => world.call(),
            Action::Deliver(letter) => {
                world.state.letters.remove(&letter);
                let without = world.state.clone();
                world.deliver(letter);
                let after = world.finish();
                return (after != without).then_some(after);
            }
            Action::DeliverCopy(letter) => {
                world.deliver(letter);
                let mut after = world.finish();
                let changed = after != *before;
                after.repeats += 1;
                return changed.then_some(after);
            }
            Action::Retry(at) => world.start_round(at),
            Action::Caretake => world.caretake(),
            Action::Adopt(at) => world.adopt(at),
            Action::Align { by, from } => world.align(by, from),
            Action::Restart(at) => world.restart(at),
            Action::Sweep(at) => world.sweep(at),
        }
        let after = world.finish();
        (after != *before).then_some(after)
    }

    fn judge(&self, state: &State) -> Option<String> {
        let wrong = state.violation.clone();
        let wrong = wrong.or_else(|| Self::nothing_is_revived(state).err());
        let wrong = wrong.or_else(|| self.nothing_is_lost(state).err());
        wrong.or_else(|| Self::registers_are_sound(state).err().filter(|_| self.judges_invariants))
    }

    fn happens(&self) -> Vec<Happening<Self>> {
        let mut happens: Vec<Happening<Self>> = vec![
            ("a tombstone is collected by every node", |_, state| {
                is_everywhere_collected(state) && state.deleted.is_some()
            }),
            ("a copy from before comes to a node that has collected", |_, state| {
                let collected = |at: usize| Self::guard(state, at).bound.collected;
                let is_late =
                    |letter: &Letter| matches!(letter.wire, Wire::Copy(ballot) if ballot.time <= collected(letter.to));
                state.letters.iter().any(is_late)
            }),
            ("a document is created again where its tombstone was collected, and acknowledged", |_, state| {
                let newest = state.current.as_ref().filter(|held| held.revision.stamp == state.acknowledged);
                is_everywhere_collected(state) && newest.is_some_and(|held| held.revision.version == 1)
            }),
        ];
        if self.restarts > 0 {
            happens.push(("a node dies after it has collected", |_, state| {
                let again = |site: &Site| site.incarnation > 1 && site.epoch >= 3;
                state.restarts > 0 && state.sites.iter().any(again)
            }));
        }
        happens
    }
}

/// Whether every node is in an epoch that has collected something.
fn is_everywhere_collected(state: &State) -> bool {
    (0..state.sites.len()).all(|at| Bounds::guard(state, at).bound.collected > 0)
}

/// Whether a restarted node does not know the low bound.
fn forgets() -> bool {
    broken(Fault::LowBoundNotKept)
}
