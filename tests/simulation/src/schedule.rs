//! One schedule from its beginning to its verdict: faults and calls, then peace, then the reckoning.

use crate::check::{judge, newest_acknowledged};
use crate::double;
use crate::faults::FaultKind;
use crate::history::{Answer, Call, Violation};
use crate::namesake;
use crate::plan::{Plan, Templates};
use crate::random::Random;
use crate::recovery;
use crate::report::Statistics;
use crate::world::disk::Survival;
use crate::world::node::{Place, SimNode};
use crate::world::tombstones::time_at;
use crate::world::{Happening, World};
use bytes::Bytes;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::register::invariant_one_value_per_ballot;
use coequal_protocol::tombstone_collection::is_collected;
use coequal_protocol::{Key, Register};
use coequal_types::{Configuration, DatabaseStatus};
use std::collections::BTreeSet;

/// After the faults everything is ONLINE within this.
pub(crate) const PEACE_US: u64 = 30_000_000;
/// A comparison gives a peer up that answers nothing for this long.
const STALLED_US: u64 = 20_000_000;
pub(crate) const LOOK_US: u64 = 100_000;
/// A node tries every half second whether a full disk has space again; writing then takes a moment.
const SPACE_US: u64 = 600_000;
/// A write of the end is acknowledged within this.
pub(crate) const WRITE_US: u64 = 5_000_000;

/// Writes of a hot key are given to a copy until it has answered nothing for 1.5 s: it may have become FAULTY just now.
const COPY_SILENT_US: u64 = 1_600_000;

/// What came of a schedule.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Everything that happened, in one number.
    pub hash: u64,
    /// Counts.
    pub statistics: Statistics,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Runs the full schedule of a seed. With `tracing` everything that happens is told.
pub fn run(seed: u64, templates: &mut Templates, tracing: bool) -> Outcome {
    run_plan(Plan::new(seed), templates, tracing)
}

/// Runs a schedule.
pub fn run_plan(plan: Plan, templates: &mut Templates, tracing: bool) -> Outcome {
    let seed = plan.seed;
    let mut random = Random::new(seed ^ 0x00c1_0c45);
    let machines = match templates.machines(&plan, &mut random) {
        Ok(machines) => machines,
        Err(error) => {
            let violation = Some(Violation::new("an empty store can be made", error.to_string()));
            return Outcome { seed, hash: 0, statistics: Statistics::default(), violation };
        }
    };
    let configuration = plan.configuration();
    let mut world = World::new(plan, machines, configuration, tracing);
    world.trace(|| format!("{:?}", world.plan));
    begin(&mut world);
    let until_us = world.plan.faults_us + 500_000;
    world.run_until(until_us);
    world.lose_majority();
    make_peace(&mut world);
    if world.violation.is_none()
        && let Err(violation) = reckon(&mut world)
    {
        world.found(violation);
    }
    if world.rollback_forgotten && world.violation.take().is_some() {
        world.trace(|| "nobody could tell an older disk from the one that it replaced: nothing is promised".to_owned());
    }
    world.statistics.schedules = 1;
    count_collections(&mut world);
    world.statistics.simulated_us = world.now_us;
    Outcome {
        seed,
        hash: world.hash(),
        statistics: std::mem::take(&mut world.statistics),
        violation: world.violation.take(),
    }
}

fn count_collections(world: &mut World) {
    let collected = world.nodes.iter().filter_map(SimNode::open).map(|open| open.replica.view().collected_tombstones);
    let counts = [(FaultKind::TombstoneCollected, collected.sum()), (FaultKind::BegunAgain, world.watch.begun_again)];
    for (kind, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        *world.statistics.faults.entry(kind).or_default() += count;
    }
}

fn begin(world: &mut World) {
    for at in 0..world.nodes.len() {
        let after_us = world.random.below(20_000);
        world.schedule(after_us, Happening::Start(at));
    }
    for client in 0..world.plan.clients {
        let after_us = world.random.below(500_000);
        world.schedule(after_us, Happening::Client(client));
    }
    for (at_us, fault) in world.plan.faults.clone() {
        world.schedule(at_us, Happening::Fault(fault));
    }
    for (at_us, node) in world.plan.comparisons.clone() {
        world.schedule(at_us, Happening::Compare(node));
    }
}

/// Nothing goes wrong any more: the ways are open, the disks have space, everything is switched on.
fn make_peace(world: &mut World) {
    world.trace(|| "peace".to_owned());
    world.clients.rest();
    world.bound_rests = true;
    world.network.heal();
    for at in 0..world.nodes.len() {
        let now_us = world.now_us;
        world.resume(at);
        let node = &mut world.nodes[at];
        (node.doom, node.image) = (None, None);
        node.clock.drift(now_us, 0);
        if let Some(folder) = &node.volume.folder {
            folder.set_free_pages(u64::MAX);
            folder.fail_sync_after(u64::MAX, false);
        }
        world.start(at);
    }
    // Peers refuse a start that they have seen before, and say so: somebody starts that node until none does.
    if world.damaged == Some(FaultKind::OldVolume) {
        let refused: Vec<usize> = world.damaged_nodes.iter().copied().collect();
        for at in refused {
            let id = world.nodes[at].id;
            let seen = world.nodes.iter().filter_map(|node| node.seen.get(&id)).map(|start| start.incarnation);
            let newest = seen.max().unwrap_or(0);
            let volume = &mut world.nodes[at].volume;
            volume.incarnation = volume.incarnation.max(newest);
            world.crash(at, Survival::All);
        }
    }
}

fn reckon(world: &mut World) -> Result<(), Violation> {
    double::sort_out(world)?;
    whole_disks_are_not_called_damaged(world)?;
    namesake::sort_out(world)?;
    recovery::recover(world)?;
    let space_us = world.now_us + SPACE_US;
    wait_until(world, "everything comes ONLINE after the faults", is_at_rest)?;
    space_is_noticed(world, space_us)?;
    if faulty(world) > 0 {
        let until_us = world.now_us + COPY_SILENT_US;
        world.run_until(until_us);
        // Meanwhile some may have begun to join, which takes the time that it takes.
        wait_until(world, "everything comes ONLINE after the faults", is_at_rest)?;
    }
    let keys = world.clients.keys();
    let members = healthy(world);
    for (number, key) in keys.iter().enumerate() {
        let at = members[number % members.len()];
        write_once_more(world, at, key)?;
    }
    wait_until(world, "everything is at rest after the last writes", is_at_rest)?;
    deletes_are_collected(world, &keys)?;
    judge(&world.records, &world.watch)?;
    recovery::nothing_is_mixed_in(world)?;
    namesake::nothing_is_mixed_in(world)?;
    compare_stores(world, &keys)?;
    let members = healthy(world);
    let all_there = world.directory.configuration.voters.len() == members.len();
    // A forced recovery may leave one alone: there is nobody to compare with.
    if world.plan.comparisons.is_empty() || !all_there || members.len() == 1 {
        Ok(())
    } else {
        compare_copies(world, &members)
    }
}

/// After the faults, what is deleted is collected everywhere, and some of it is written again.
fn deletes_are_collected(world: &mut World, keys: &[Key]) -> Result<(), Violation> {
    let members = healthy(world);
    // A member that is not there holds the bound back.
    if world.plan.tombstone_life_ms == 0 || world.directory.configuration.members().len() != members.len() {
        return Ok(());
    }
    for (number, key) in keys.iter().enumerate().step_by(2) {
        change_once_more(world, members[(number + 1) % members.len()], key, OperationKind::Delete)?;
    }
    let unix_ms = members.iter().map(|at| world.nodes[*at].clock.now(world.now_us).unix_ms).min();
    let through = time_at(unix_ms.unwrap_or(0));
    world.bound_rests = false;
    let is_kept = |world: &World, at: &usize, key: &Key| {
        let register = world.nodes[*at].open().and_then(|open| open.store.register(key).ok());
        let held = register.and_then(|(register, _)| register.chosen);
        held.is_some_and(|held| is_collected(held.ballot, &held.revision, through))
    };
    let kept = |world: &World| members.iter().any(|at| keys.iter().any(|key| is_kept(world, at, key)));
    wait_until(world, "what is deleted is collected", |world| !kept(world))?;
    world.bound_rests = true;
    for (number, key) in keys.iter().enumerate().step_by(4) {
        write_once_more(world, members[number % members.len()], key)?;
    }
    wait_until(world, "everything is at rest after the collection", is_at_rest)
}

/// Nodes that compare equal copies find them equal.
fn compare_copies(world: &mut World, members: &[usize]) -> Result<(), Violation> {
    let rule = "equal copies are found equal";
    let view = |world: &World, at: usize| world.nodes[at].open().map(|open| open.replica.view().comparison);
    let rests = |world: &World| members.iter().all(|at| view(world, *at).is_some_and(|view| view.running.is_none()));
    // One that had begun before a majority was lost gives each of the lost up in its own time.
    let given_up_us = world.now_us + STALLED_US * world.lost.len() as u64;
    world.run_until(given_up_us);
    wait_until(world, "comparisons end", rests)?;
    let ended = |world: &World| -> Vec<u64> {
        members.iter().map(|at| view(world, *at).map_or(0, |view| view.totals.ended)).collect()
    };
    let before = ended(world);
    members.iter().for_each(|at| world.compare(*at));
    wait_until(world, "comparisons end", |world| ended(world).iter().zip(&before).all(|(now, then)| now > then))?;
    for at in members {
        let last = view(world, *at).and_then(|view| view.last);
        let equal = last.as_ref().is_some_and(|last| {
            last.peers.iter().all(|peer| peer.compared) && last.differences + last.quarantined + last.unresolved == 0
        });
        if !equal {
            return Err(Violation::new(rule, format!("node {at}: {last:?}")));
        }
    }
    Ok(())
}

/// A node whose disk was full takes writes again by itself.
fn space_is_noticed(world: &mut World, until_us: u64) -> Result<(), Violation> {
    let is_full = |node: &SimNode| node.open().is_some_and(|open| open.replica.view().disk_full);
    while let Some(at) = world.nodes.iter().position(is_full)
        && world.violation.is_none()
    {
        if world.now_us > until_us {
            return Err(Violation::new("space on a disk is noticed", format!("node {at}; {}", describe(world))));
        }
        let look_us = world.now_us + LOOK_US / 4;
        world.run_until(look_us);
    }
    Ok(())
}

/// What a crash or a power cut leaves of a disk is no damage.
fn whole_disks_are_not_called_damaged(world: &World) -> Result<(), Violation> {
    for (at, node) in world.nodes.iter().enumerate() {
        if node.status() == DatabaseStatus::Faulty && !world.damaged_nodes.contains(&at) {
            return Err(Violation::new("a whole disk is not called damaged", describe(world)));
        }
    }
    Ok(())
}

/// Nodes that take part at the end: without a disk that was found damaged, where nobody replaces it.
fn healthy(world: &World) -> Vec<usize> {
    let member = |at: &usize| world.directory.configuration.is_member(world.nodes[*at].id);
    let there = |at: &usize| !world.nodes[*at].gone && !world.is_copy(*at);
    let all = (0..world.nodes.len()).filter(there).filter(member);
    all.filter(|at| world.plan.membership || world.nodes[*at].status() != DatabaseStatus::Faulty).collect()
}

impl World {
    /// Whether every member is ONLINE in the newest epoch, which is no step on the way to another one.
    pub fn is_whole(&self) -> bool {
        let healthy = healthy(self);
        let configuration = &self.directory.configuration;
        let leaving = self.directory.entries.iter().any(|entry| entry.leaving && !entry.removed);
        let settled = !self.plan.membership
            || configuration.joint_with.is_none() && configuration.learners.is_empty() && !leaving;
        let online = |at: &usize| {
            self.nodes[*at].open().is_some_and(|open| {
                open.replica.view_status() == DatabaseStatus::Online && open.replica.epochs().0 == configuration.epoch
            })
        };
        let voters = healthy.iter().filter(|at| configuration.voters.contains(&self.nodes[**at].id)).count();
        settled && voters > configuration.voters.len() / 2 && healthy.iter().all(online)
    }
}

pub(crate) fn is_at_rest(world: &World) -> bool {
    let healthy = healthy(world);
    // Nothing is left in a queue either: what nobody waits for any more takes no memory for ever.
    let settled = |at: &usize| {
        world.nodes[*at]
            .open()
            .is_some_and(|open| open.store.pending_count() == 0 && open.replica.view().writes_in_flight == 0)
    };
    world.is_whole() && !world.clients.is_waiting() && healthy.iter().all(settled) && same_heads(world, &healthy)
}

/// Whether each has applied what the others have in their feeds.
fn same_heads(world: &World, nodes: &[usize]) -> bool {
    nodes.iter().all(|at| {
        nodes.iter().filter(|other| *other != at).all(|other| {
            let (Some(own), Some(source)) = (world.nodes[*at].open(), world.nodes[*other].open()) else { return false };
            if !world.directory.configuration.is_voter(world.nodes[*other].id) {
                return true;
            }
            let (feed, sequence) = own.store.cursor(world.nodes[*other].id).unwrap_or((0, 0));
            (feed == source.store.feed_id() && sequence >= source.store.feed_head()) || source.store.feed_head() == 0
        })
    })
}

pub(crate) fn wait_until(
    world: &mut World,
    rule: &'static str,
    holds: impl Fn(&World) -> bool,
) -> Result<(), Violation> {
    let deadline_us = world.now_us + PEACE_US;
    while !holds(world) {
        if world.violation.is_some() {
            return Ok(());
        }
        if world.now_us > deadline_us {
            return Err(Violation::new(rule, describe(world)));
        }
        let until_us = world.now_us + LOOK_US;
        world.run_until(until_us);
    }
    Ok(())
}

pub(crate) fn describe(world: &World) -> String {
    let configuration = &world.directory.configuration;
    let node = |at: usize| {
        let node = &world.nodes[at];
        let detail = match &node.place {
            Place::Open(open) => {
                let (view, pending) = (open.replica.view(), open.store.pending_count());
                let phase = view.progress.map(|progress| progress.phase);
                format!(
                    "epoch {} aligned {} pending {pending} {phase:?} {:?}",
                    view.epoch, view.aligned_epoch, view.message
                )
            }
            Place::Faulty { reason, .. } => reason.clone(),
            Place::NotHere | Place::Conflict | Place::Deploying(_) => String::new(),
        };
        format!("node {at} {}{} {detail}", node.status(), if node.gone { " gone" } else { "" })
    };
    let nodes: Vec<String> = (0..world.nodes.len()).map(node).collect();
    let Configuration { epoch, voters, learners, joint_with, .. } = configuration;
    let open = world.records.iter().filter(|record| record.ended.is_none()).count();
    format!(
        "{}; epoch {epoch} voters {voters:?} learners {learners:?} joint with {joint_with:?}; {open} calls open",
        nodes.join("; ")
    )
}

/// After the faults, a write through any node whose disk is whole ends well.
pub(crate) fn write_once_more(world: &mut World, at: usize, key: &Key) -> Result<(), Violation> {
    let body = Bytes::from(format!("{{\"last\":{}}}", world.records.len()));
    change_once_more(world, at, key, OperationKind::Put(body))
}

fn change_once_more(world: &mut World, at: usize, key: &Key, kind: OperationKind) -> Result<(), Violation> {
    let deadline_us = world.now_us + WRITE_US;
    let (mut at, mut refused_by) = (at, BTreeSet::new());
    loop {
        let (faulty_before, unnoticed_before) = (faulty(world), unnoticed_starts(world, at));
        let answer = change_until(world, at, key, kind.clone(), deadline_us);
        if matches!(answer, Some(Answer::Written { .. })) || world.violation.is_some() {
            return Ok(());
        }
        // Given to a node that found by this very write what a fault did to its disk: nobody can know what came of it.
        if matches!(answer, Some(Answer::Unknown)) && faulty(world) > faulty_before {
            let until_us = world.now_us + COPY_SILENT_US;
            world.run_until(until_us);
            continue;
        }
        // Or handed on to a peer that had started anew while no word of it came through, which is noticed by this very write.
        if matches!(answer, Some(Answer::Unknown)) && unnoticed_starts(world, at) < unnoticed_before {
            continue;
        }
        refused_by.insert(at);
        let other = healthy(world).into_iter().find(|other| !refused_by.contains(other));
        match other.filter(|_| found_damage(world, at, answer.as_ref())) {
            Some(other) => at = other,
            None => {
                let text = format!("node {at}, {key:?}: {answer:?}; {}", describe(world));
                return Err(Violation::new("every write succeeds after the faults", text));
            }
        }
    }
}

/// Nodes whose disk a fault damaged, and that have found it.
fn faulty(world: &World) -> usize {
    world.damaged_nodes.iter().filter(|at| world.nodes[**at].status() == DatabaseStatus::Faulty).count()
}

/// Peers of which a node's replica knows another process than runs.
fn unnoticed_starts(world: &World, at: usize) -> usize {
    let met = &world.nodes[at].met;
    let peers = world.nodes.iter().filter(|peer| peer.is_up() && peer.id != world.nodes[at].id);
    peers.filter(|peer| met.get(&peer.id).is_some_and(|process| *process != peer.process)).count()
}

/// Whether a node found by this very write what a fault did to its disk: a damaged store is not served, and the refusal
/// says for certain that nothing was done and to use another node. Whoever does so in time is served.
fn found_damage(world: &World, at: usize, answer: Option<&Answer>) -> bool {
    let refused = matches!(answer, Some(Answer::NotDone(_)));
    refused && world.damaged_nodes.contains(&at) && world.nodes[at].status() == DatabaseStatus::Faulty
}

fn change_until(world: &mut World, at: usize, key: &Key, kind: OperationKind, deadline_us: u64) -> Option<Answer> {
    let operation = Operation { kind, condition: Condition::Any, request: None };
    let call = world.begin_call(0, at, key.clone(), Call::Write { operation, generated: false }, None);
    while world.records[call].ended.is_none() && world.now_us < deadline_us && world.violation.is_none() {
        let until_us = world.now_us + LOOK_US / 20;
        world.run_until(until_us);
    }
    world.records[call].answer().cloned()
}

/// Nothing acknowledged is lost, and all copies and their feeds are equal.
pub(crate) fn compare_stores(world: &World, keys: &[Key]) -> Result<(), Violation> {
    let nodes = healthy(world);
    for key in keys {
        let registers: Vec<(usize, Register)> =
            nodes.iter().filter_map(|at| Some((*at, world.nodes[*at].open()?.store.register(key).ok()?.0))).collect();
        if !invariant_one_value_per_ballot(registers.iter().map(|(_, register)| register)) {
            return Err(Violation::new("I2: one value for each ballot", format!("{key:?}: {registers:?}")));
        }
        let needed = newest_acknowledged(&world.records, &world.watch, key);
        for (at, register) in &registers {
            let here = world.watch.place_of_held(key, register.chosen.as_ref());
            if here < needed {
                let text = format!("node {at}, {key:?}: the state at {here}, and the one at {needed} was acknowledged");
                return Err(Violation::new("G1: nothing acknowledged is lost", text));
            }
        }
        let mut chosen = registers.iter().map(|(_, register)| register.chosen.as_ref().map(|held| &held.revision));
        let first = chosen.next();
        if !chosen.all(|other| Some(other) == first) {
            return Err(Violation::new("all copies are equal at the end", format!("{key:?}: {registers:?}")));
        }
    }
    for at in nodes {
        compare_feed(world, at, keys)?;
    }
    Ok(())
}

/// The feed names each chosen document once, where its register says.
fn compare_feed(world: &World, at: usize, keys: &[Key]) -> Result<(), Violation> {
    let Some(open) = world.nodes[at].open() else { return Ok(()) };
    let broken = |text: String| Err(Violation::new("the feed names each document once", format!("node {at}: {text}")));
    let Ok(feed) = open.store.feed_after(0, usize::MAX) else { return broken("it cannot be read".to_owned()) };
    let mut expected: Vec<(u64, Key)> = Vec::new();
    for key in keys {
        if let Ok((register, _)) = open.store.register(key)
            && register.chosen.is_some()
        {
            expected.push((register.feed_sequence, key.clone()));
        }
    }
    expected.sort();
    if feed == expected { Ok(()) } else { broken(format!("{feed:?} and not {expected:?}")) }
}
