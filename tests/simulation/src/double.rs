//! Two processes with one identity: a machine's data directory was copied, and the copy is started beside the original.
//!
//! Who is listened to is `protocol::identity`, asked for each packet here as for each connection in a node. The copy is one
//! more machine of the same node id; what is sent to that id reaches the process that the sender has admitted, and where it
//! knows none that runs, whichever of the two answers its dial.

use crate::faults::{Fault, FaultKind};
use crate::history::Violation;
use crate::random::Random;
use crate::schedule::wait_until;
use crate::world::clock::SimClock;
use crate::world::disk::Survival;
use crate::world::network::Packet;
use crate::world::node::{SimNode, Volume};
use crate::world::{Happening, World};
use coequal_protocol::identity::admit;
use coequal_protocol::record::FeedId;
use coequal_types::NodeId;
use std::collections::BTreeSet;

/// The copy is started within this.
const STARTED_US: u64 = 1_500_000;
/// What the copy said last has arrived within this.
const ARRIVED_US: u64 = 1_500_000;
/// Who is refused is started again, at most so often: each start counts one up, and neither was started more often.
const STARTS_MAX: u64 = 64;

/// A machine and the copy of it.
#[derive(Debug, Clone, Default)]
pub struct Double {
    /// The machine that was there from the beginning.
    original: usize,
    /// The one with the copy.
    copy: usize,
    /// Processes that somebody refused.
    refused: BTreeSet<u64>,
}

impl Double {
    fn twin(&self, at: usize) -> Option<usize> {
        match at {
            _ if at == self.original => Some(self.copy),
            _ if at == self.copy => Some(self.original),
            _ => None,
        }
    }
}

impl World {
    /// Somebody copies the data directory of a node, that is stopped for it or runs on, and starts the copy elsewhere.
    pub(crate) fn copy_machine(&mut self, at: usize, random: &mut Random) {
        self.hush();
        if random.chance(60) {
            self.crash(at, Survival::All);
        }
        let volume = &self.nodes[at].volume;
        let Some(folder) = volume.folder.as_ref().map(|folder| folder.image(Survival::None)) else { return };
        let volume = Volume { folder: Some(folder), staging: None, ..volume.clone() };
        let mut clock = SimClock::new(0);
        clock.drift(self.now_us, 0);
        let copy = self.nodes.len();
        let machine = SimNode::new(self.nodes[at].id, clock, volume);
        self.nodes.push(machine);
        self.double = Some(Double { original: at, copy, refused: BTreeSet::new() });
        self.schedule(random.below(STARTED_US), Happening::Start(copy));
    }

    /// From now on every node runs and reaches every other one.
    fn hush(&mut self) {
        self.network.heal();
        for at in 0..self.nodes.len() {
            self.resume(at);
            self.nodes[at].doom = None;
            self.start(at);
        }
    }

    /// Whether a fault comes. Beside two processes with one identity the others neither part nor forget all at once whom they
    /// have admitted.
    pub(crate) fn takes(&self, fault: &Fault) -> bool {
        self.double.is_none() || !fault.kind.parts()
    }

    /// The log of the machine with the same identity: what it has more is missing on this one.
    pub(crate) fn twins_log(&self, at: usize) -> Option<(FeedId, u64)> {
        let twin = &self.nodes[self.double.as_ref()?.twin(at)?];
        twin.open().map(|open| (open.store.feed_id(), open.store.durable())).or(twin.had)
    }

    /// Whether this machine is the copy of another one.
    pub fn is_copy(&self, at: usize) -> bool {
        self.double.as_ref().is_some_and(|double| double.copy == at)
    }

    /// Whether a machine knows a process that ends: of two with one identity it is connected with one.
    pub(crate) fn knows_process(&self, other: usize, id: NodeId, process: u64) -> bool {
        let node = &self.nodes[other];
        let is_double = self.double.as_ref().is_some_and(|double| self.nodes[double.copy].id == id);
        !is_double || node.seen.get(&id).is_some_and(|start| start.process == process)
    }

    /// Whether a machine listens to this one, and not to another process with its identity.
    pub(crate) fn listens(&self, other: usize, at: usize) -> bool {
        let is_double = self.double.as_ref().is_some_and(|double| double.twin(at).is_some());
        !is_double || self.admitted(other, self.nodes[at].id) == Some(at)
    }

    /// The machine that a packet reaches.
    pub(crate) fn reached(&mut self, packet: &Packet) -> Option<usize> {
        let first = self.index_of(packet.to);
        let Some(double) = self.double.as_ref().filter(|double| Some(double.original) == first) else { return first };
        let pair = [double.original, double.copy];
        let sender = self.nodes.iter().position(|node| node.process == packet.process)?;
        if let Some(at) = self.admitted(sender, packet.to) {
            return Some(at);
        }
        let up: Vec<usize> = pair.into_iter().filter(|at| self.nodes[*at].is_up()).collect();
        let answers = self.random.pick(&up)?;
        let (known, comes) = (self.nodes[sender].seen.get(&packet.to).copied(), self.nodes[answers].as_start());
        if admit(known, comes).is_refusal() {
            self.refuse(comes.process);
            return None;
        }
        self.nodes[sender].seen.insert(packet.to, comes);
        Some(answers)
    }

    /// The machine with this identity that is listened to at `at`, if its process runs.
    pub(crate) fn admitted(&self, at: usize, id: NodeId) -> Option<usize> {
        let known = self.nodes[at].seen.get(&id)?;
        self.nodes.iter().position(|node| node.id == id && node.is_up() && node.process == known.process)
    }

    /// A process of the two was refused by somebody: it is silent until it is started again, and its connections end.
    pub(crate) fn refuse(&mut self, process: u64) {
        let Some(double) = &mut self.double else { return };
        let pair = [double.original, double.copy];
        let Some(at) = pair.into_iter().find(|at| self.nodes[*at].process == process) else { return };
        if double.refused.insert(process) {
            self.statistics.count(FaultKind::IdentityRefused);
            self.fall_silent(at, process);
            self.trace(|| format!("process {process} is refused: its identity is used twice"));
        }
    }
}

impl World {
    fn fall_silent(&mut self, at: usize, process: u64) {
        self.connections_end(at, process);
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let node = &mut self.nodes[at];
        node.silent = true;
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        ids.into_iter().filter(|id| *id != node.id).for_each(|id| node.detector.disconnected(id, now_ms));
    }
}

/// After the faults both run, and that is seen. Then the copy is switched off for good, and the original is started again
/// until nobody refuses it.
pub(crate) fn sort_out(world: &mut World) -> Result<(), Violation> {
    let Some(Double { original, copy, .. }) = world.double.clone() else { return Ok(()) };
    let is_seen = |world: &World| world.double.as_ref().is_some_and(|double| !double.refused.is_empty());
    wait_until(world, "two processes with one identity are found", is_seen)?;
    world.stop_for_good(copy);
    let said_us = world.now_us + ARRIVED_US;
    world.run_until(said_us);
    let id = world.nodes[original].id;
    for _ in 0..STARTS_MAX {
        let own = world.nodes[original].as_start();
        let refuses = |node: &SimNode| node.is_up() && admit(node.seen.get(&id).copied(), own).is_refusal();
        let node = &world.nodes[original];
        if node.is_up() && !node.silent && !world.nodes.iter().any(refuses) {
            return Ok(());
        }
        world.crash(original, Survival::All);
        world.start(original);
    }
    Err(Violation::new("who counts its starts is admitted in the end", format!("node {original}")))
}
