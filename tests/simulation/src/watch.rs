//! Watches the truth: after every turn of a node, the registers that it touched are held against the protocol's
//! invariants, and against what any node was ever seen to hold chosen.

use crate::faults::FaultKind;
use crate::generations::{self, Versions, place};
use crate::history::Violation;
use crate::world::World;
use crate::world::node::SimNode;
use coequal_node::replication::replica::Event;
use coequal_protocol::operation::invariant_history_ends_with_own_stamp;
use coequal_protocol::quorum::is_write_quorum;
use coequal_protocol::record::FeedId;
use coequal_protocol::register::{
    invariant_chosen_is_accepted_and_fed, invariant_promise_covers_accepted, invariant_promise_never_falls,
};
use coequal_protocol::tombstone_collection::has_collected;
use coequal_protocol::{Ballot, Change, Held, Key, Message, Register, RequestId, Revision};
use coequal_types::{DatabaseStatus, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One version of a document, as it was found chosen or in the history of a chosen revision.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its stamp.
    pub stamp: Ballot,
    /// The request that made it, if it had an id.
    pub request: Option<RequestId>,
    /// The revision, when it was itself seen.
    pub revision: Option<Arc<Revision>>,
}

/// What was seen.
#[derive(Default)]
pub struct Watch {
    /// For each document its states by their places.
    pub chosen: BTreeMap<Key, Versions>,
    /// The highest time up to which tombstones may have been collected; 0 where none is.
    pub collected: u64,
    /// Documents that were written again after their tombstones were collected.
    pub begun_again: u64,
    values: BTreeMap<(Key, Ballot), Arc<Revision>>,
    registers: BTreeMap<(usize, Key), Register>,
    /// When each acknowledged write was, and the place of its state, for each document.
    pub acknowledged: BTreeMap<Key, Vec<(u64, u64)>>,
}

impl Watch {
    /// One register of one node, after a turn.
    /// `collected`: the bound that this node goes by.
    fn look(&mut self, at: usize, key: &Key, register: Register, collected: u64) -> Result<(), Violation> {
        let broken = |rule, text: String| Err(Violation::new(rule, format!("node {at}, {key:?}: {text}")));
        if !invariant_promise_covers_accepted(&register) {
            return broken("I4: a promise covers what is accepted", format!("{register:?}"));
        }
        if !invariant_chosen_is_accepted_and_fed(&register) {
            return broken("I10: what is chosen was accepted and has its place in the feed", format!("{register:?}"));
        }
        let slot = (at, key.clone());
        if let Some(before) = self.registers.get(&slot)
            && !invariant_promise_never_falls(before, &register)
            && !falls_by_collecting(before, &register, collected)
        {
            return broken("I4: nothing is taken back", format!("{before:?} became {register:?}"));
        }
        for held in register.accepted.iter().chain(&register.chosen) {
            self.look_at_value(at, key, held)?;
        }
        if let Some(held) = &register.chosen {
            self.look_at_chosen(key, &held.revision)?;
        }
        self.registers.insert(slot, register);
        Ok(())
    }

    fn look_at_value(&mut self, at: usize, key: &Key, held: &Held) -> Result<(), Violation> {
        let known = self.values.entry((key.clone(), held.ballot)).or_insert_with(|| Arc::clone(&held.revision));
        if !Arc::ptr_eq(known, &held.revision) && **known != *held.revision {
            let text = format!("node {at}, {key:?} at {}: {:?} and {known:?}", held.ballot, held.revision);
            return Err(Violation::new("I2: one value for each ballot", text));
        }
        Ok(())
    }

    /// Every chosen revision continues the one history of its document.
    pub fn look_at_chosen(&mut self, key: &Key, revision: &Arc<Revision>) -> Result<(), Violation> {
        let versions = self.chosen.entry(key.clone()).or_default();
        if let Some(at) = generations::place_of(versions, revision.version, revision.stamp)
            && versions.get(&at).is_some_and(|known| known.revision.is_some())
        {
            return Ok(());
        }
        if !invariant_history_ends_with_own_stamp(revision) {
            return Err(Violation::new("a history ends with its own stamp", format!("{key:?}: {revision:?}")));
        }
        let generation = generations::generation_of(versions, revision, self.collected);
        self.begun_again += u64::from(!versions.is_empty() && generation > generations::newest(versions));
        for entry in &revision.history {
            let request = entry.request.map(|(id, _)| id);
            let fresh = Chosen { stamp: entry.stamp, request, revision: None };
            let known = versions.entry(place(generation, entry.version)).or_insert(fresh);
            if known.stamp != entry.stamp {
                let text = format!("{key:?} version {}: {} and {}", entry.version, known.stamp, entry.stamp);
                return Err(Violation::new("one history for each document", text));
            }
        }
        if let Some(known) = versions.get_mut(&place(generation, revision.version)) {
            known.revision = Some(Arc::clone(revision));
        }
        Ok(())
    }

    /// Where a state of a document stands; one that was never seen is taken for one of the newest generation.
    pub fn place_of(&self, key: &Key, version: u64, stamp: Ballot) -> u64 {
        let Some(versions) = self.chosen.get(key) else { return version };
        generations::place_of(versions, version, stamp).unwrap_or_else(|| place(generations::newest(versions), version))
    }

    /// Where a store stands that holds this of a document. Nothing: before the first state, or behind the last tombstone
    /// that was collected, also where the document was written again since.
    pub fn place_of_held(&self, key: &Key, held: Option<&Held>) -> u64 {
        match (held, self.chosen.get(key)) {
            (Some(held), _) => self.place_of(key, held.revision.version, held.revision.stamp),
            (None, Some(versions)) => generations::absences(versions, self.collected).pop().unwrap_or(0),
            (None, None) => 0,
        }
    }

    /// A forced recovery: of a document counts from now on what one of these registers holds and was seen chosen, and what
    /// came before it; all of that counts as acknowledged. Returns the stamps of the states that are lost.
    pub fn go_back(&mut self, key: &Key, registers: &[Register], now_us: u64) -> Vec<Ballot> {
        let none = Versions::new();
        let versions = self.chosen.get(key).unwrap_or(&none);
        // What was chosen may be on a survivor as accepted only, or as what something accepted was made of.
        let accepted = |register: &Register| {
            let history = register.accepted.iter().flat_map(|held| &held.revision.history);
            history.filter_map(|entry| generations::place_of(versions, entry.version, entry.stamp)).max()
        };
        let place = |register: &Register| {
            self.place_of_held(key, register.chosen.as_ref()).max(accepted(register).unwrap_or(0))
        };
        let newest = registers.iter().map(place).max().unwrap_or(0);
        let lost = self.chosen.get_mut(key).map(|versions| versions.split_off(&(newest + 1))).unwrap_or_default();
        self.chosen.retain(|_, versions| !versions.is_empty());
        let acknowledged = self.acknowledged.entry(key.clone()).or_default();
        acknowledged.retain(|(_, place)| *place <= newest);
        acknowledged.push((now_us, newest));
        lost.values().map(|chosen| chosen.stamp).collect()
    }

    /// The place of the newest state of a document that was acknowledged by a time.
    pub fn acknowledged_by(&self, key: &Key, by_us: u64) -> u64 {
        let all = self.acknowledged.get(key).map_or(&[] as &[(u64, u64)], Vec::as_slice);
        all.iter().filter(|(at_us, _)| *at_us <= by_us).map(|(_, version)| *version).max().unwrap_or(0)
    }
}

/// Whether a register lost nothing but what its node may forget.
fn falls_by_collecting(before: &Register, register: &Register, collected: u64) -> bool {
    let mut forgetful = before.clone();
    forgetful.apply(&Change::Collect { through: collected });
    has_collected(before, collected) && invariant_promise_never_falls(&forgetful, register)
}

impl World {
    /// After a turn of a node.
    pub(crate) fn watch_turn(&mut self, at: usize, touched: &[Key]) {
        let Some(open) = self.nodes[at].open() else { return };
        let mut broken = open.replica.broken_invariant().map(|name| Violation::new(name, format!("node {at}")));
        // Who was given up has a history of its own until it hears of that; nothing of it counts.
        let touched = if self.lost.contains(&at) { &[] } else { touched };
        for key in touched {
            let Ok((register, _)) = open.store.register(key) else { continue };
            let collected = open.replica.configuration().low_bound.collected;
            if broken.is_none() {
                broken = self.watch.look(at, key, register, collected).err();
            }
            if broken.is_none() && open.replica.view_status() == DatabaseStatus::Faulty {
                broken =
                    self.chosen_unnoted(at, key).and_then(|revision| self.watch.look_at_chosen(key, &revision).err());
            }
        }
        broken.into_iter().for_each(|violation| self.found(violation));
        self.watch_given_up(at);
    }

    /// What a node chose and told when its store failed, which so has no note of it: what this node accepted, and a quorum has
    /// on its disks.
    fn chosen_unnoted(&self, at: usize, key: &Key) -> Option<Arc<Revision>> {
        let on_disk = |node: &SimNode| -> Option<Held> {
            let store = &node.open()?.store;
            let (register, lsn) = store.register(key).ok()?;
            register.accepted.filter(|_| lsn <= store.durable())
        };
        let own = on_disk(&self.nodes[at])?;
        let holds = |node: &&SimNode| on_disk(node).is_some_and(|held| held.ballot == own.ballot);
        let holders = self.nodes.iter().filter(holds).map(|node| node.id).collect();
        is_write_quorum(self.nodes[at].open()?.replica.configuration(), &holders).then_some(own.revision)
    }

    /// A store was opened: what it holds was held before, and a crash takes nothing back but what was not on the disk.
    pub(crate) fn watch_opened(&mut self, at: usize) {
        self.watch_forget(at);
        let keys = self.clients.keys();
        self.watch_turn(at, &keys);
    }

    /// I3 at a start: every row that was durable is in the log, but for those that the disk did not know to be when rot
    /// came over the newest commit.
    pub(crate) fn watch_log(&mut self, at: usize, feed: FeedId, last: u64) {
        let node = &self.nodes[at];
        let of_this_log =
            |row: Option<(FeedId, u64)>| row.filter(|(other, _)| *other == feed).map_or(0, |(_, row)| row);
        let (had, marked) = (of_this_log(node.had), of_this_log(node.marked));
        if last >= had || node.rolled_back.is_some() {
            return;
        }
        if self.damaged_nodes.contains(&at) && last >= marked {
            self.nodes[at].rolled_back = Some((feed, had));
            return self.statistics.count(FaultKind::RotForTorn);
        }
        let text = format!("node {at} starts with {last} rows of {had}, of which its disk knew {marked}");
        self.found(Violation::new("I3: what was durable is there after a start", text));
    }

    /// A node's memory is gone.
    pub(crate) fn watch_forget(&mut self, at: usize) {
        self.watch.registers.retain(|(node, _), _| *node != at);
    }

    /// G4: at the change to ONLINE, everything that was acknowledged before the alignment point is here.
    pub(crate) fn check_online(&mut self, at: usize) {
        if self.lost.contains(&at) {
            return;
        }
        let Some(open) = self.nodes[at].open() else { return };
        let reading = open.readings.iter().find(|(monotonic_ms, _)| *monotonic_ms == open.replica.aligned_ms());
        let Some((_, point_us)) = reading.copied() else { return };
        let mut broken = None;
        for key in self.watch.acknowledged.keys() {
            let needed = self.watch.acknowledged_by(key, point_us.saturating_sub(1));
            let here = match open.store.chosen(key) {
                Ok(held) => self.watch.place_of_held(key, held.as_ref()),
                // Damage is found when it is read; nothing is served from it.
                Err(error) if error.is_disk_full() || self.damaged_nodes.contains(&at) => continue,
                Err(error) => {
                    broken = Some(Violation::new("a whole disk can be read", format!("node {at}, {key:?}: {error}")));
                    continue;
                }
            };
            if here < needed {
                let text = format!(
                    "node {at}, {key:?}: holds the state at {here}, and the one at {needed} was acknowledged before"
                );
                broken = Some(Violation::new("G4: ONLINE means aligned", text));
            }
        }
        broken.into_iter().for_each(|violation| self.found(violation));
    }

    /// I7 on a disk that went back to an older image: a running replica tells of a log what it was told. On its disk it
    /// notes that only every now and then, so who has started anew may have forgotten. An image that nobody who answers
    /// can tell from the disk is found by nobody, and then nothing is promised.
    pub(crate) fn watch_recalled(&mut self, at: usize, to: NodeId, message: &Message) {
        let Message::Recalled { durable, .. } = message else { return };
        let asker = self.admitted(at, to).or_else(|| self.index_of(to));
        let (Some(asker), Some(own)) = (asker, self.nodes[at].open_mut()) else { return };
        let told = own.told.answered(to);
        if self.lost.contains(&asker) {
            return;
        }
        let older = self.nodes[asker].rolled_back.or_else(|| self.twins_log(asker));
        let (Some((feed, had)), Some(open)) = (older, self.nodes[asker].open()) else { return };
        let has = open.opened_at;
        if open.store.feed_id() != feed || has >= had || *durable > has {
            return;
        }
        if told > *durable {
            let text = format!("node {asker} had {had} rows; node {at} was told of {told} and says {durable}");
            return self.found(Violation::new("I7: what others said of their logs is remembered", text));
        }
        if !std::mem::replace(&mut self.rollback_forgotten, true) {
            self.statistics.count(FaultKind::RollbackForgotten);
        }
    }
}

/// What peers said of their logs to one replica, as it has heard it until now.
#[derive(Default)]
pub struct Told {
    /// The feed, and the last row that was durable.
    rows: BTreeMap<NodeId, (FeedId, u64)>,
    /// Who asked in this turn, and what it had said of its log by then.
    asked: Vec<(NodeId, u64)>,
}

impl Told {
    /// A replica is about to handle this.
    pub fn hears(&mut self, event: &Event) {
        let Event::Peer { from, message, .. } = event else { return };
        match message {
            Message::FeedRequest { own_feed, durable, .. } if *durable > 0 => {
                let row = self.rows.entry(*from).or_default();
                if row.0 != *own_feed {
                    *row = (*own_feed, 0);
                }
                row.1 = row.1.max(*durable);
            }
            Message::Recall { feed } => {
                let told = self.rows.get(from).filter(|(told, _)| told == feed).map_or(0, |(_, row)| *row);
                self.asked.push((*from, told));
            }
            _ => {}
        }
    }

    /// How far who is answered now had said its log was when it asked.
    fn answered(&mut self, to: NodeId) -> u64 {
        let at = self.asked.iter().position(|(asker, _)| *asker == to);
        at.map_or(0, |at| self.asked.remove(at).1)
    }

    /// A turn ended: who was not answered never is.
    pub fn turn_ends(&mut self) {
        self.asked.clear();
    }
}
