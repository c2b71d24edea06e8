//! The network: from each node to each other a way that delays, reorders, loses, repeats or is cut.

use crate::random::Random;
use coequal_protocol::Message;
use coequal_protocol::tombstone_collection::MemberWord;
use coequal_types::{Configuration, DatabaseStatus, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a node says of itself with each heartbeat.
#[derive(Debug, Clone)]
pub struct Report {
    /// Status of its copy.
    pub status: DatabaseStatus,
    /// The epoch that it has adopted, 0 without an open copy.
    pub epoch: u64,
    /// The newest epoch with which it is aligned.
    pub aligned_epoch: u64,
    /// Whom it does not reach, and for how long in milliseconds.
    pub unreachable_ms: BTreeMap<NodeId, u64>,
    /// Its word on the collection of tombstones, if its copy is open.
    pub bound_word: Option<MemberWord>,
}

/// What travels.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A message about the database.
    Message(Message),
    /// A heartbeat.
    Report(Arc<Report>),
    /// A configuration for a node that does not know it.
    Notice(Arc<Configuration>),
}

/// Something on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Who said it.
    pub from: NodeId,
    /// In which of its starts.
    pub incarnation: Incarnation,
    /// Which process that was: two processes may believe to be the same start of a node.
    pub process: u64,
    /// For whom.
    pub to: NodeId,
    /// What.
    pub payload: Payload,
}

/// How the ways are.
#[derive(Debug, Clone)]
pub struct Network {
    random: Random,
    blocked: BTreeSet<(NodeId, NodeId)>,
    /// Shortest and longest delay, in microseconds.
    pub delay_us: (u64, u64),
    /// Packets that are lost, in percent.
    pub loss: u64,
    /// Packets that come twice, in percent.
    pub duplication: u64,
    /// Packets that are overtaken by later ones, in percent.
    pub reordering: u64,
    /// Packets of former starts, to be delivered late.
    archive: Vec<Packet>,
    archived: u64,
}

/// Packets that are kept for being delivered when their sender has started anew.
const ARCHIVE_MAX: usize = 64;

impl Network {
    /// A network without faults.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            blocked: BTreeSet::new(),
            delay_us: (100, 1_500),
            loss: 0,
            duplication: 0,
            reordering: 0,
            archive: Vec::new(),
            archived: 0,
        }
    }

    /// Cuts or mends the way from one node to another.
    pub fn set_blocked(&mut self, from: NodeId, to: NodeId, blocked: bool) {
        if blocked {
            self.blocked.insert((from, to));
        } else {
            self.blocked.remove(&(from, to));
        }
    }

    /// Whether the way is cut.
    pub fn is_blocked(&self, from: NodeId, to: NodeId) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Nothing is wrong any more.
    pub fn heal(&mut self) {
        self.blocked.clear();
        (self.delay_us, self.loss, self.duplication, self.reordering) = ((100, 1_500), 0, 0, 0);
        self.archive.clear();
    }

    /// After how many microseconds each copy of a packet arrives; none when it is lost.
    pub fn arrivals(&mut self, packet: &Packet) -> Vec<u64> {
        self.keep(packet);
        if self.is_blocked(packet.from, packet.to) || self.random.chance(self.loss) {
            return Vec::new();
        }
        let mut arrivals = vec![self.delay()];
        if self.random.chance(self.duplication) {
            arrivals.push(self.delay() + self.random.below(300_000));
        }
        arrivals
    }

    fn delay(&mut self) -> u64 {
        let (low, high) = self.delay_us;
        let late = if self.random.chance(self.reordering) { self.random.below(400_000) } else { 0 };
        self.random.between(low, high) + late
    }

    /// Keeps a fair part of all packets.
    fn keep(&mut self, packet: &Packet) {
        self.archived += 1;
        if !matches!(packet.payload, Payload::Message(_)) || !self.archived.is_multiple_of(5) {
            return;
        }
        if self.archive.len() < ARCHIVE_MAX {
            self.archive.push(packet.clone());
        } else {
            let at = usize::try_from(self.random.below(ARCHIVE_MAX as u64)).unwrap_or(0);
            self.archive[at] = packet.clone();
        }
    }

    /// Packets that were on their way for so long that something else has happened since.
    pub fn stale(&mut self, from: NodeId) -> Vec<Packet> {
        self.archive.iter().filter(|packet| packet.from == from).cloned().collect()
    }
}
