//! Nodes with several documents and a change feed, and rounds that go on one contact at a time, so that a random
//! schedule may put anything between two contacts.

use super::Rng;
use coequal_protocol::message::Operation;
use coequal_protocol::proposal::{Proposal, Step};
use coequal_protocol::query::{Query, QueryStep};
use coequal_protocol::register::Answer;
use coequal_protocol::{Ballot, Held, Key, Register, Revision};
use coequal_types::{Configuration, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node: the registers of its documents, its feed of chosen revisions, its epoch.
pub struct Site {
    pub id: NodeId,
    pub up: bool,
    pub epoch: u64,
    pub registers: BTreeMap<Key, Register>,
    pub feed: BTreeMap<u64, Key>,
    pub head: u64,
}

impl Site {
    pub fn new(id: u64) -> Self {
        Self { id: NodeId(id), up: true, epoch: 1, registers: BTreeMap::new(), feed: BTreeMap::new(), head: 0 }
    }

    pub fn register(&self, key: &Key) -> Register {
        self.registers.get(key).cloned().unwrap_or_default()
    }

    pub fn pending(&self) -> Vec<Key> {
        self.registers.iter().filter(|(_, register)| register.is_pending()).map(|(key, _)| key.clone()).collect()
    }

    pub fn prepare(&mut self, key: &Key, ballot: Ballot) -> Answer {
        let register = self.registers.entry(key.clone()).or_default();
        let (answer, change) = register.prepare(ballot);
        change.iter().for_each(|change| register.apply(change));
        answer
    }

    pub fn accept(&mut self, key: &Key, ballot: Ballot, revision: &Arc<Revision>) -> Answer {
        let register = self.registers.entry(key.clone()).or_default();
        let (answer, change) = register.accept(ballot, revision, 0);
        change.iter().for_each(|change| register.apply(change));
        answer
    }

    /// A chosen revision enters the feed, and its key's older entry leaves it.
    pub fn learn(&mut self, key: &Key, held: &Held) {
        let register = self.registers.entry(key.clone()).or_default();
        let former = register.feed_sequence;
        let Some(change) = register.learn(held.ballot, Some(&held.revision), self.head + 1) else { return };
        register.apply(&change);
        self.head += 1;
        self.feed.remove(&former);
        self.feed.insert(self.head, key.clone());
    }
}

/// What rounds share: who is where, dice, loss, and ballots that are never used twice.
pub struct Field {
    pub sites: Vec<Site>,
    pub rng: Rng,
    pub loss: u64,
    pub last_ballot: u64,
}

impl Field {
    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.sites.len()).collect();
        self.rng.shuffle(&mut order);
        order
    }

    pub fn site(&self, id: NodeId) -> Option<usize> {
        self.sites.iter().position(|site| site.id == id)
    }
}

/// What a contact led to.
#[derive(Debug, Clone)]
pub enum Progress {
    Going,
    /// The operations are done; `None` when the document never existed.
    Done(Option<Held>),
    Over,
}

/// A proposal on its way from contact to contact.
pub struct Round {
    pub by: NodeId,
    pub key: Key,
    configuration: Arc<Configuration>,
    proposal: Proposal,
    contacts: Vec<usize>,
    tries: u32,
}

impl Round {
    pub fn new(by: NodeId, key: Key, operation: Operation, configuration: Arc<Configuration>) -> Self {
        let proposal = Proposal::new(vec![operation]);
        Self { by, key, configuration, proposal, contacts: Vec::new(), tries: 0 }
    }

    pub fn epoch(&self) -> u64 {
        self.configuration.epoch
    }

    /// A new epoch: every round begins again under it (I5).
    pub fn restart(&mut self, configuration: Arc<Configuration>) {
        self.configuration = configuration;
        self.proposal.abandon_round();
        self.contacts.clear();
    }

    /// One contact with one node.
    pub fn step(&mut self, field: &mut Field) -> Progress {
        let alive = field.site(self.by).is_some_and(|by| field.sites[by].up);
        if !alive {
            return Progress::Over;
        }
        let Some(to) = self.contacts.pop() else { return self.next_try(field) };
        let site = &mut field.sites[to];
        let reached = site.up && site.epoch == self.configuration.epoch && self.configuration.is_voter(site.id);
        if !reached || field.rng.chance(field.loss) {
            return Progress::Going;
        }
        let (from, ballot) = (site.id, self.proposal.ballot());
        let answer = match self.proposal.accept_under_way() {
            Some((revision, _)) => site.accept(&self.key, ballot, &revision),
            None => site.prepare(&self.key, ballot),
        };
        let step = match answer {
            Answer::Promised { held, chosen } => {
                self.proposal.on_promised(&self.configuration, from, ballot, held, chosen)
            }
            Answer::Accepted => self.proposal.on_accepted(&self.configuration, from, ballot),
            Answer::Refused { promised } => self.proposal.on_refused(ballot, promised),
        };
        match step {
            Step::Wait => Progress::Going,
            Step::Accept { .. } => {
                self.contacts = field.order();
                Progress::Going
            }
            Step::Lost { .. } => {
                self.contacts.clear();
                Progress::Going
            }
            Step::Done { chosen, .. } => Progress::Done(chosen),
            Step::Unknown => Progress::Over,
        }
    }

    /// Everybody was contacted: once more from the beginning, or an end that nobody knows.
    fn next_try(&mut self, field: &mut Field) -> Progress {
        self.tries += 1;
        if self.tries > 4 {
            return Progress::Over;
        }
        field.last_ballot += 1;
        let incarnation = 1;
        self.proposal.prepare(Ballot::ordinary(field.last_ballot, self.by, incarnation));
        self.contacts = field.order();
        Progress::Going
    }
}

/// A quorum read on its way from contact to contact.
pub struct Reading {
    pub key: Key,
    configuration: Arc<Configuration>,
    query: Query,
    contacts: Vec<usize>,
}

impl Reading {
    pub fn new(key: Key, configuration: Arc<Configuration>, field: &mut Field) -> Self {
        Self { key, configuration, query: Query::new(None), contacts: field.order() }
    }

    /// `None` when nobody is left to ask.
    pub fn step(&mut self, field: &Field) -> Option<QueryStep> {
        let site = &field.sites[self.contacts.pop()?];
        if !site.up || site.epoch != self.configuration.epoch {
            return Some(QueryStep::Wait);
        }
        let register = site.register(&self.key);
        let (accepted, chosen) = (register.accepted_ballot(), !register.is_pending());
        let revision = register.accepted.map(|held| held.revision);
        Some(self.query.on_answer(&self.configuration, site.id, accepted, chosen, revision))
    }
}
