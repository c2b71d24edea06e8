//! A majority of the machines is lost for good, a person says so on one that is left, and some of the lost come back.
//!
//! The decisions are `protocol::forced_recovery`; the steps follow `replication::recovery`, for the one database that
//! there is here as for the system database: who is asked adopts the forced configuration alone, the others hear of it
//! from each other, and the caretaker writes it down when every survivor has it.
//!
//! With the lost machines goes what they alone held, acknowledged or not. So the judge takes the history up to the
//! recovery as it was, and from there on one that begins with what is on the survivors' disks: all of that has to be
//! there afterwards, and nothing else of what was before.

use crate::check::judge;
use crate::faults::FaultKind;
use crate::generations::{self, Versions};
use crate::history::{Answer, Call, Record, Violation};
use crate::random::Random;
use crate::schedule::{LOOK_US, PEACE_US, WRITE_US, compare_stores, describe, is_at_rest, wait_until, write_once_more};
use crate::watch::Watch;
use crate::world::disk::Survival;
use crate::world::node::SimNode;
use crate::world::{Directory, Happening, World};
use bytes::Bytes;
use coequal_node::replication::replica::Event;
use coequal_protocol::forced_recovery::{
    Ask, Contact, Refusal, Situation, Verdict, decide, invariant_forced_for_want_of_a_majority,
    invariant_lost_never_vote_again, is_first,
};
use coequal_protocol::message::{Condition, Operation, OperationKind, Rejection};
use coequal_protocol::{Ballot, Key, Message, Register, RequestId};
use coequal_types::{ClusterId, Configuration, DatabaseStatus, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CLUSTER: ClusterId = ClusterId::from_u128(0xc1);
/// A person who is refused asks again after this.
const ASK_AGAIN_US: u64 = 400_000;
/// Lost machines come back within this.
const BACK_US: u64 = 1_000_000;

/// A forced recovery.
pub struct Forced {
    /// The epoch with which it begins.
    pub epoch: u64,
    /// Stamps of the states of each document that no survivor had.
    lost: BTreeMap<Key, BTreeSet<Ballot>>,
}

impl World {
    /// A majority of the machines ends, and stays away with its disks. Whose disk has lost something is among them.
    pub(crate) fn lose_majority(&mut self) {
        let Some(chance) = self.plan.majority_lost.filter(|_| self.violation.is_none()) else { return };
        let mut random = Random::new(chance);
        let all = self.nodes.len();
        let most_left = all as u64 / 2;
        let left = if random.chance(70) { most_left } else { random.between(1, most_left + 1) };
        let mut order: Vec<usize> = (0..all).collect();
        for at in (1..all).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        order.sort_by_key(|at| !self.damaged_nodes.contains(at));
        order.truncate(all - left as usize);
        if random.chance(60) {
            self.go_on_without_survivors(&order, &mut random);
        }
        for at in order {
            self.trace(|| format!("node {at} is lost"));
            self.statistics.count(FaultKind::MachineLost);
            self.lost.insert(at);
            self.nodes[at].gone = true;
            let survival = if random.chance(50) { Survival::Some(random.number()) } else { Survival::All };
            self.crash(at, survival);
        }
    }

    /// Those that will be lost cannot reach the others any more, and still take writes.
    fn go_on_without_survivors(&mut self, lost: &[usize], random: &mut Random) {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let survivors: Vec<usize> = (0..ids.len()).filter(|at| !lost.contains(at)).collect();
        for (at, other) in lost.iter().flat_map(|at| survivors.iter().map(move |other| (*at, *other))) {
            self.network.set_blocked(ids[at], ids[other], true);
            self.network.set_blocked(ids[other], ids[at], true);
        }
        for key in self.clients.keys() {
            let (number, at) = (self.records.len() as u64, random.pick(lost).unwrap_or(0));
            let kind = OperationKind::Put(Bytes::from(format!("{{\"call\":{number}}}")));
            let request = random.chance(50).then(|| (RequestId(u128::from(number) + 1), number));
            let operation = Operation { kind, condition: Condition::Any, request };
            self.begin_call(0, at, key, Call::Write { operation, generated: false }, None);
        }
        let until_us = self.now_us + random.between(1_000, 700_000);
        self.run_until(until_us);
    }

    fn ids_of_lost(&self) -> BTreeSet<NodeId> {
        self.lost.iter().map(|at| self.nodes[*at].id).collect()
    }

    fn survivors(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| !self.lost.contains(at)).collect()
    }

    /// What a node answers to a person who calls these lost, by what it knows; `None` while it has no open copy.
    fn ask_for_recovery(&self, at: usize) -> Option<Result<Verdict, Refusal>> {
        let node = &self.nodes[at];
        let system = node.open()?.replica.configuration();
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let contact = |id: NodeId| Contact {
            reachable: node.detector.reaches(id),
            silent_ms: node.detector.unreachable_ms(id, 0, now_ms),
            system_epoch: node.reports.get(&id).map_or(0, |(report, _)| report.epoch),
            word_age_ms: node.reports.get(&id).map(|(_, at_ms)| now_ms.saturating_sub(*at_ms)),
        };
        let others = node.entries.iter().map(|entry| entry.id).filter(|id| *id != node.id);
        let others = others.map(|id| (id, contact(id))).collect();
        let ask = Ask { cluster: CLUSTER, lost: self.ids_of_lost(), accept_data_loss: true };
        Some(decide(&ask, &Situation { me: node.id, cluster: CLUSTER, others, system, databases: &[] }))
    }

    /// The caretaker writes a forced configuration down, which takes everybody as every write in that epoch does; the
    /// lost nodes' entries are to leave.
    pub(crate) fn record_forced(&mut self, configuration: &Configuration) {
        if !is_first(configuration.epoch) || configuration.epoch <= self.directory.configuration.epoch {
            return;
        }
        let goes_by_it = |voter: &NodeId| {
            let node = self.index_of(*voter).map(|at| &self.nodes[at]);
            let open = node.filter(|node| node.paused_until_us <= self.now_us).and_then(SimNode::open);
            open.is_some_and(|open| open.replica.epochs().0 == configuration.epoch)
        };
        if !configuration.voters.iter().all(goes_by_it) {
            return;
        }
        let mut entries = self.directory.entries.clone();
        let lost = entries.iter_mut().filter(|entry| configuration.excluded.contains(&entry.id));
        lost.for_each(|entry| entry.leaving = true);
        self.trace(|| format!("epoch {}: forced, voters {:?}", configuration.epoch, configuration.voters));
        self.directory = Arc::new(Directory { configuration: configuration.clone(), entries });
    }

    /// Who was given up has no part in anything from the moment on that it hears of it.
    pub(crate) fn watch_given_up(&mut self, at: usize) {
        let (Some(forced), Some(open)) = (&self.forced, self.nodes[at].open()) else { return };
        let configuration = open.replica.configuration();
        if !self.lost.contains(&at) || configuration.epoch < forced.epoch {
            return;
        }
        let status = open.replica.view_status();
        if configuration.is_member(self.nodes[at].id) || status == DatabaseStatus::Online {
            let text = format!("node {at} is {status} in {configuration:?}");
            self.found(Violation::new("who was given up never has a part again", text));
        }
    }

    /// Nor does it ask or answer in any epoch of theirs, and no survivor gets anything of its copy. (Two of the lost may
    /// still read from each other until each has set its copy aside.)
    pub(crate) fn watch_lost_says(&mut self, at: usize, to: NodeId, message: &Message) {
        let Some(forced) = self.forced.as_ref().filter(|_| self.lost.contains(&at)) else { return };
        let is_wrong = match message {
            Message::Prepare { epoch, .. }
            | Message::Promised { epoch, .. }
            | Message::Accept { epoch, .. }
            | Message::Accepted { epoch, .. }
            | Message::Query { epoch, .. }
            | Message::QueryAnswer { epoch, .. } => *epoch >= forced.epoch,
            Message::SampleAnswer { .. }
            | Message::FeedBatch { .. }
            | Message::Bodies { .. }
            | Message::RangeAnswer { .. } => self.index_of(to).is_some_and(|to| !self.lost.contains(&to)),
            _ => false,
        };
        if is_wrong {
            let text = format!("node {at} says to {to}: {message:?}");
            self.found(Violation::new("who was given up never has a part again", text));
        }
    }
}

/// From the loss to the end of the recovery, if a majority was lost: the survivors are ONLINE and agree, writes succeed,
/// and lost machines that come back find themselves out.
pub(crate) fn recover(world: &mut World) -> Result<(), Violation> {
    let Some(chance) = world.plan.majority_lost else { return Ok(()) };
    let mut random = Random::new(chance ^ 1);
    wait_until(world, "every call ends", |world| !world.clients.is_waiting())?;
    let Some((at, next)) = ask_until_accepted(world, &mut random)? else { return Ok(()) };
    begin_anew(world, next.epoch)?;
    world.trace(|| format!("forced recovery at node {at}: {next:?}"));
    world.statistics.count(FaultKind::ForcedRecovery);
    // From here on the nodes care for the configuration themselves.
    world.plan.membership = true;
    world.note_configuration(at, &next);
    world.nodes[at].inbox.push(Event::Configuration(Box::new(next.clone())));
    world.wake(at, 0);
    let is_over = |world: &World| {
        let directory = &world.directory;
        directory.configuration.epoch > next.epoch && directory.configuration.voters == next.voters && is_at_rest(world)
    };
    wait_until(world, "the survivors are ONLINE after a forced recovery", is_over)?;
    if world.violation.is_some() {
        return Ok(());
    }
    let keys = world.clients.keys();
    compare_stores(world, &keys)?;
    survivors_hold_what_they_held(world, &keys)?;
    for key in &keys {
        let at = random.pick(&world.survivors()).unwrap_or(at);
        read_once_more(world, at, key)?;
    }
    lost_come_back(world, &keys, &mut random)
}

/// The person asks again as the refusal says, or somebody else.
fn ask_until_accepted(world: &mut World, random: &mut Random) -> Result<Option<(usize, Configuration)>, Violation> {
    let deadline_us = world.now_us + PEACE_US;
    let mut at = random.pick(&world.survivors()).unwrap_or(0);
    while world.violation.is_none() {
        let answer = world.ask_for_recovery(at);
        world.trace(|| format!("node {at} is asked for recovery: {answer:?}"));
        match answer {
            Some(Ok(Verdict::Force(next))) => return forced_as_allowed(world, at, next).map(Some),
            Some(Err(Refusal::Behind { node, .. })) => at = world.index_of(node).unwrap_or(at),
            Some(Err(
                Refusal::TooEarly { .. } | Refusal::StillThere(_) | Refusal::NotNamed(_) | Refusal::NotHeard(_),
            ))
            | None => {}
            Some(other) => {
                let text = format!("node {at}: {other:?}; {}", describe(world));
                return Err(Violation::new("a lost majority is seen", text));
            }
        }
        if world.now_us > deadline_us {
            let text = format!("node {at}: {answer:?}; {}", describe(world));
            return Err(Violation::new("who asks for recovery again gets it", text));
        }
        world.statistics.count(FaultKind::RecoveryRefused);
        let until_us = world.now_us + ASK_AGAIN_US;
        world.run_until(until_us);
    }
    Ok(None)
}

fn forced_as_allowed(world: &World, at: usize, next: Configuration) -> Result<(usize, Configuration), Violation> {
    let lost = world.ids_of_lost();
    let allowed = world.nodes[at].open().is_some_and(|open| {
        let known = open.replica.configuration();
        invariant_lost_never_vote_again(known, &next, &lost)
            && invariant_forced_for_want_of_a_majority(known, &next, &lost)
    });
    if allowed { Ok((at, next)) } else { Err(Violation::new("a forced configuration is safe", format!("{next:?}"))) }
}

/// The history so far is judged; the next one begins with what the survivors have on their disks.
fn begin_anew(world: &mut World, epoch: u64) -> Result<(), Violation> {
    judge(&world.records, &world.watch)?;
    let mut lost: BTreeMap<Key, BTreeSet<Ballot>> = BTreeMap::new();
    for key in world.clients.keys() {
        let mut registers: Vec<Register> = Vec::new();
        for at in world.survivors() {
            let Some(open) = world.nodes[at].open() else {
                return Err(Violation::new("every survivor has its copy open", describe(world)));
            };
            match open.store.register(&key) {
                Ok((register, _)) => registers.push(register),
                Err(error) => return Err(Violation::new("a whole disk can be read", format!("node {at}: {error}"))),
            }
        }
        let stamps = world.watch.go_back(&key, &registers, world.now_us);
        lost.insert(key, stamps.into_iter().collect());
    }
    for record in &mut world.records {
        let was_written = matches!(record.answer(), Some(Answer::Written { .. }));
        if !as_known_afterwards(record, &world.watch) && was_written {
            world.statistics.count(FaultKind::AcknowledgedLost);
        }
    }
    world.forced = Some(Forced { epoch, lost });
    Ok(())
}

/// An answer about a state that is lost was true, and says nothing any more: nobody knows now what came of that call.
/// Nor does "there is no document", which a lost deletion may have made true. False if the answer was changed.
pub fn as_known_afterwards(record: &mut Record, watch: &Watch) -> bool {
    let none = Versions::new();
    let versions = watch.chosen.get(&record.key).unwrap_or(&none);
    let is_there = |version, stamp| generations::place_of(versions, version, stamp).is_some();
    let Some((_, answer)) = &mut record.ended else { return true };
    let stands = match answer {
        Answer::Written { version, stamp, .. }
        | Answer::Rejected(
            Rejection::Exists { version, stamp } | Rejection::PreconditionFailed { current: Some((version, stamp)) },
        ) => is_there(*version, *stamp),
        Answer::Found(Some(held)) => is_there(held.revision.version, held.revision.stamp),
        Answer::Found(None)
        | Answer::Rejected(Rejection::NotFound | Rejection::PreconditionFailed { current: None }) => false,
        Answer::Rejected(_) | Answer::NotDone(_) | Answer::Unknown => true,
    };
    if !stands {
        *answer = Answer::Unknown;
    }
    stands
}

/// Everything that was chosen and on one of their disks is on all of them.
fn survivors_hold_what_they_held(world: &World, keys: &[Key]) -> Result<(), Violation> {
    for (at, key) in world.survivors().into_iter().flat_map(|at| keys.iter().map(move |key| (at, key))) {
        let needed = world.watch.acknowledged_by(key, u64::MAX);
        let held = world.nodes[at].open().and_then(|open| open.store.chosen(key).ok()).flatten();
        let here = world.watch.place_of_held(key, held.as_ref());
        if here < needed {
            let text = format!("node {at}, {key:?}: the state at {here}; a survivor had the one at {needed}");
            return Err(Violation::new("what a survivor had is there after a forced recovery", text));
        }
    }
    Ok(())
}

fn read_once_more(world: &mut World, at: usize, key: &Key) -> Result<(), Violation> {
    let call = world.begin_call(0, at, key.clone(), Call::Read, None);
    let deadline_us = world.now_us + WRITE_US;
    while world.records[call].ended.is_none() && world.now_us < deadline_us && world.violation.is_none() {
        let until_us = world.now_us + LOOK_US / 20;
        world.run_until(until_us);
    }
    match world.records[call].answer() {
        Some(Answer::Found(_)) => Ok(()),
        _ if world.violation.is_some() => Ok(()),
        other => {
            let text = format!("node {at}, {key:?}: {other:?}; {}", describe(world));
            Err(Violation::new("every read succeeds after a forced recovery", text))
        }
    }
}

/// Some of the lost machines, or all, come back with their disks while clients write.
fn lost_come_back(world: &mut World, keys: &[Key], random: &mut Random) -> Result<(), Violation> {
    let lost: Vec<usize> = world.lost.iter().copied().collect();
    let first = random.below(lost.len() as u64) as usize;
    let many = random.between(1, lost.len() as u64 + 1) as usize;
    let back: Vec<usize> = lost.iter().cycle().skip(first).take(many).copied().collect();
    for at in &back {
        world.trace(|| format!("node {at} comes back"));
        world.statistics.count(FaultKind::LostCameBack);
        world.nodes[*at].gone = false;
        world.schedule(random.below(BACK_US), Happening::Start(*at));
    }
    for key in keys {
        let at = random.pick(&world.survivors()).unwrap_or(0);
        write_once_more(world, at, key)?;
    }
    let epoch = world.forced.as_ref().map_or(0, |forced| forced.epoch);
    let is_out = |node: &SimNode| {
        let knows = node.configuration.as_ref().is_some_and(|known| known.epoch >= epoch);
        node.is_up() && knows && node.status() == DatabaseStatus::NotAvailable && node.volume.folder.is_none()
    };
    let all_out = |world: &World| back.iter().all(|at| is_out(&world.nodes[*at]));
    wait_until(world, "who was given up finds itself out and sets its copy aside", all_out)?;
    *world.statistics.faults.entry(FaultKind::LostSetAside).or_default() += many as u64;
    Ok(())
}

/// Nothing that only lost machines had ever comes back.
pub(crate) fn nothing_is_mixed_in(world: &World) -> Result<(), Violation> {
    let Some(forced) = &world.forced else { return Ok(()) };
    for (key, lost) in &forced.lost {
        let versions = world.watch.chosen.get(key).into_iter().flatten();
        if let Some((place, chosen)) = versions.into_iter().find(|(_, chosen)| lost.contains(&chosen.stamp)) {
            let text = format!("{key:?}: the state at {place}, {}, was lost", chosen.stamp);
            return Err(Violation::new("nothing of the lost is mixed in", text));
        }
    }
    Ok(())
}
