//! One machine: its volume, its clocks, and the process on it, if it runs.

use super::clock::SimClock;
use super::disk::SimDisk;
use super::network::{Packet, Payload, Report};
use crate::watch::Told;
use coequal_node::replication::replica::{Event, Replica};
use coequal_node::storage::{Batch, Store};
use coequal_protocol::auto_deploy::{CopyProgress, DonorFailures};
use coequal_protocol::failure_detection::FailureDetector;
use coequal_protocol::identity::{self, Admission, Start};
use coequal_protocol::record::FeedId;
use coequal_protocol::sharing::LocalCopy;
use coequal_types::{Configuration, DatabaseStatus, Incarnation, NodeEntry, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Silence after which a peer is called unreachable, in milliseconds: as a node has it by default.
pub const UNREACHABLE_AFTER_MS: u64 = 1_500;

/// What lies on a machine's disk.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    /// Number of starts, as the identity file has it.
    pub incarnation: Incarnation,
    /// The database's folder, if there is one.
    pub folder: Option<SimDisk>,
    /// A deploy that is not whole yet.
    pub staging: Option<SimDisk>,
    /// The note outside of the folder that this node has had a copy.
    pub held: bool,
}

/// Where a process is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Before anything that it decided has left.
    BeforeEffects,
    /// When a batch was taken from the store and is not on the disk.
    AfterTake,
    /// While the disk syncs.
    InCommit,
    /// When a batch is on the disk and nobody was told.
    AfterCommit,
}

/// A database that is open.
pub struct Open {
    /// The real replica.
    pub replica: Replica,
    /// Its real store.
    pub store: Arc<Store>,
    /// A batch is to be taken, as late as when the disk turns to it, in the middle of a turn too.
    pub wanted: bool,
    /// A batch on its way to the disk.
    pub committing: Option<Batch>,
    /// When the last one got there.
    pub committed_ms: u64,
    /// Whether the disk was full when it was tried.
    pub full: bool,
    /// Readings of its monotonic clock of late, and when they were, for the alignment point.
    pub readings: VecDeque<(u64, u64)>,
    /// The last row of its log when it was opened.
    pub opened_at: u64,
    /// What peers said of their logs to this very replica.
    pub told: Told,
}

/// A copy under way.
pub struct Deploy {
    /// The staging store.
    pub store: Arc<Store>,
    /// The epoch at which this node was taken in when it began: an older copy misses what was collected since.
    pub joined: u64,
    /// How far it is.
    pub progress: CopyProgress,
    /// Number of the last request, and when it is given up.
    pub request: u64,
    /// See `request`.
    pub deadline_ms: u64,
    /// Who was asked.
    pub asked: Option<NodeId>,
    /// Who did not give what was asked for.
    pub failures: DonorFailures,
}

/// The database's place on a node.
pub enum Place {
    /// None yet.
    NotHere,
    /// Open.
    Open(Box<Open>),
    /// The folder holds another database of this name.
    Conflict,
    /// Being copied.
    Deploying(Box<Deploy>),
    /// It cannot be used; since this epoch.
    Faulty {
        /// Why.
        reason: String,
        /// The epoch that was known then.
        epoch: u64,
    },
}

/// One machine.
pub struct SimNode {
    /// Identity of its volume.
    pub id: NodeId,
    /// Its volume.
    pub volume: Volume,
    /// Its clocks.
    pub clock: SimClock,
    /// Which process runs; 0 when none does.
    pub process: u64,
    /// Its process was refused as the second of this node's identity: it says nothing and hears nothing any more.
    pub silent: bool,
    /// It never comes back.
    pub gone: bool,
    /// Until when the process stands still, in microseconds of the world.
    pub paused_until_us: u64,
    /// By how much the disk is slower, in microseconds for each commit.
    pub slow_us: u64,
    /// Where it is to be cut off, and at which passing.
    pub doom: Option<(CrashPoint, u32)>,
    /// What its volume held when somebody made an image of it.
    pub image: Option<Volume>,
    /// The feed and the last durable row of the copy that was open last.
    pub had: Option<(FeedId, u64)>,
    /// The feed of its copy and the last row that its disk knows to be durable: rot in newer ones may pass for torn writes.
    pub marked: Option<(FeedId, u64)>,
    /// It got back an older folder, or rot that may pass did so: the feed of the one that it had, and the last row that
    /// was durable there.
    pub rolled_back: Option<(FeedId, u64)>,
    /// Its own copy, opened at its start and not looked at yet.
    pub opened: Option<(Store, LocalCopy)>,
    /// Where the database is.
    pub place: Place,
    /// The configuration that it knows.
    pub configuration: Option<Configuration>,
    /// The nodes that it knows.
    pub entries: Vec<NodeEntry>,
    /// Those that it knows to be removed for good.
    pub removed: Vec<NodeId>,
    /// Whom it hears.
    pub detector: FailureDetector,
    /// The newest start of each peer that it has heard of, and which process that was.
    pub seen: BTreeMap<NodeId, Start>,
    /// The process of each peer of which the replica has heard last: only messages tell it, signs of life do not.
    pub met: BTreeMap<NodeId, u64>,
    /// What peers said of themselves last, and when.
    pub reports: BTreeMap<NodeId, (Arc<Report>, u64)>,
    /// Since when each learner is one.
    pub learners_since: BTreeMap<NodeId, u64>,
    /// Events for the replica.
    pub inbox: Vec<Event>,
    /// When the loop runs next, in microseconds of the world.
    pub loop_at_us: u64,
    /// When it last sent heartbeats and was caretaker.
    pub pinged_ms: u64,
    /// See `pinged_ms`.
    pub caretook_ms: u64,
}

impl SimNode {
    /// A machine that is off.
    pub fn new(id: NodeId, clock: SimClock, volume: Volume) -> Self {
        Self {
            id,
            volume,
            clock,
            process: 0,
            silent: false,
            gone: false,
            paused_until_us: 0,
            slow_us: 0,
            doom: None,
            image: None,
            had: None,
            marked: None,
            rolled_back: None,
            opened: None,
            place: Place::NotHere,
            configuration: None,
            entries: Vec::new(),
            removed: Vec::new(),
            detector: FailureDetector::new(UNREACHABLE_AFTER_MS),
            seen: BTreeMap::new(),
            met: BTreeMap::new(),
            reports: BTreeMap::new(),
            learners_since: BTreeMap::new(),
            inbox: Vec::new(),
            loop_at_us: u64::MAX,
            pinged_ms: 0,
            caretook_ms: 0,
        }
    }

    /// How its process introduces itself.
    pub fn as_start(&self) -> Start {
        Start { incarnation: self.volume.incarnation, process: self.process }
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.process != 0
    }

    /// The open database.
    pub fn open(&self) -> Option<&Open> {
        match &self.place {
            Place::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The open database.
    pub fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.place {
            Place::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Status of the database here.
    pub fn status(&self) -> DatabaseStatus {
        match &self.place {
            _ if !self.is_up() => DatabaseStatus::Offline,
            Place::NotHere => DatabaseStatus::NotAvailable,
            Place::Open(open) => open.replica.view_status(),
            Place::Conflict => DatabaseStatus::Conflict,
            Place::Deploying(_) => DatabaseStatus::Synchronizing,
            Place::Faulty { .. } => DatabaseStatus::Faulty,
        }
    }

    /// Everything in memory is gone.
    pub fn forget(&mut self) {
        let fresh = Self::new(self.id, self.clock.clone(), std::mem::take(&mut self.volume));
        let image = self.image.take();
        let had = self.open().map(|open| (open.store.feed_id(), open.store.durable())).or(self.had);
        let (gone, slow_us, marked, rolled_back) = (self.gone, self.slow_us, self.marked, self.rolled_back);
        *self = Self { gone, slow_us, had, marked, rolled_back, image, ..fresh };
    }

    /// Whether the cut comes now. Counts the passings of its point.
    pub fn is_cut_off(&mut self, at: CrashPoint) -> bool {
        match &mut self.doom {
            Some((point, 0)) if *point == at => {
                self.doom = None;
                true
            }
            Some((point, passings)) if *point == at => {
                *passings -= 1;
                false
            }
            _ => false,
        }
    }

    /// Whether a packet's sender is who it was, as the network room of a node decides it: a newer start voids an older
    /// one, and of two processes of one start the second is refused. `lenient`: also what is late from a former start.
    pub fn admits(&mut self, packet: &Packet, lenient: bool) -> bool {
        let comes = Start { incarnation: packet.incarnation, process: packet.process };
        match identity::admit(self.seen.get(&packet.from).copied(), comes) {
            Admission::Admitted | Admission::Replaces => {
                self.seen.insert(packet.from, comes);
                true
            }
            Admission::OldIncarnation => lenient && matches!(packet.payload, Payload::Message(_)),
            Admission::DuplicateIdentity => false,
        }
    }
}
