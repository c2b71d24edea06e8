//! What goes wrong, and how it begins and ends.

use crate::random::Random;
use crate::world::clock::SimClock;
use crate::world::disk::Survival;
use crate::world::node::{CrashPoint, SimNode, Volume};
use crate::world::{Directory, Happening, World};
use coequal_types::NodeId;
use std::sync::Arc;

/// Kinds of faults, and of events that are counted beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum FaultKind {
    Kill,
    KillBeforeEffects,
    KillAfterTake,
    KillInCommit,
    KillAfterCommit,
    PowerCut,
    AllDown,
    SyncError,
    DiskFull,
    BitFlip,
    OldFolder,
    OldVolume,
    FolderLost,
    FoldersSwapped,
    SlowDisk,
    Partition,
    OneWay,
    PartialPartition,
    Loss,
    Delay,
    Duplication,
    Reordering,
    ClockJump,
    ClockDrift,
    LateStart,
    Pause,
    NodeAdded,
    NodeRemoved,
    NodeReplaced,
    TornWrite,
    StoreFailed,
    RollbackForgotten,
    RotForTorn,
    Batch,
    Comparison,
    CopyRefused,
    Deployed,
    MembershipStep,
    LowBoundStep,
    TombstoneCollected,
    BegunAgain,
    MachineLost,
    RecoveryRefused,
    ForcedRecovery,
    AcknowledgedLost,
    LostCameBack,
    LostSetAside,
    NamesakeBrought,
    NamesakeRestored,
    NamesakeInConflict,
    DoubleStarted,
    IdentityRefused,
}

use FaultKind::*;

const ALWAYS: &[FaultKind] = &[
    Kill,
    Kill,
    KillBeforeEffects,
    KillAfterTake,
    KillInCommit,
    KillInCommit,
    KillAfterCommit,
    PowerCut,
    AllDown,
    DiskFull,
    SlowDisk,
    Partition,
    Partition,
    OneWay,
    PartialPartition,
    Loss,
    Delay,
    Duplication,
    Reordering,
    ClockJump,
    ClockDrift,
    LateStart,
    Pause,
    SyncError,
    BitFlip,
    OldFolder,
    FolderLost,
];
const WITH_MEMBERSHIP: &[FaultKind] = &[
    NodeAdded,
    NodeRemoved,
    NodeReplaced,
    NodeReplaced,
    SyncError,
    BitFlip,
    OldFolder,
    OldVolume,
    FolderLost,
    FoldersSwapped,
];

impl FaultKind {
    /// One of those that a schedule may have.
    pub fn draw(random: &mut Random, membership: bool) -> Self {
        let from = if membership && random.chance(40) { WITH_MEMBERSHIP } else { ALWAYS };
        random.pick(from).unwrap_or(Kill)
    }

    /// Whether another database of the same name comes with it.
    pub fn is_namesake(self) -> bool {
        matches!(self, NamesakeBrought | NamesakeRestored)
    }

    /// Whether nodes do not reach each other meanwhile, or all of them forget at once.
    pub fn parts(self) -> bool {
        matches!(self, Partition | OneWay | PartialPartition | LateStart | AllDown)
    }

    /// Whether a disk forgets or loses something that it had synced: only a minority of nodes may.
    pub fn damages(self) -> bool {
        matches!(
            self,
            SyncError
                | BitFlip
                | OldFolder
                | OldVolume
                | FolderLost
                | FoldersSwapped
                | NodeRemoved
                | NodeReplaced
                | NamesakeRestored
                | DoubleStarted
        )
    }
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where.
    pub node: usize,
    /// Chance of its own.
    pub chance: u64,
}

impl World {
    /// A fault begins.
    pub(crate) fn begin_fault(&mut self, fault: Fault) {
        // Machines that came later are as good as the first ones.
        let machines = if self.plan.membership { self.nodes.len() } else { self.plan.nodes };
        let at = usize::try_from(fault.chance % machines as u64).unwrap_or(0);
        let fault = Fault { node: at, ..fault };
        if !self.takes(&fault) || self.nodes[at].gone || fault.kind.damages() && !self.takes_damage(fault.kind) {
            return;
        }
        self.statistics.count(fault.kind);
        if fault.kind.damages() {
            self.damaged_nodes.insert(at);
        }
        self.trace(|| format!("fault {:?} at node {at}", fault.kind));
        let mut random = Random::new(fault.chance);
        match fault.kind {
            Kill => self.crash(at, Survival::All),
            KillBeforeEffects => self.doom(at, CrashPoint::BeforeEffects, &mut random),
            KillAfterTake => self.doom(at, CrashPoint::AfterTake, &mut random),
            KillInCommit => self.doom(at, CrashPoint::InCommit, &mut random),
            KillAfterCommit => self.doom(at, CrashPoint::AfterCommit, &mut random),
            PowerCut => self.crash(at, Survival::Some(random.number())),
            AllDown => (0..self.nodes.len()).for_each(|node| {
                let cut = random.chance(50);
                let survival = if cut { Survival::Some(random.number()) } else { Survival::All };
                self.crash(node, survival);
            }),
            ClockJump => {
                let back = random.chance(50);
                let by_ms = random.pick(&[300_i64, 3_000, 100_000, 5_000_000]).unwrap_or(0);
                self.nodes[at].clock.jump(self.now_us, if back { -by_ms } else { by_ms });
            }
            DoubleStarted => self.copy_machine(at, &mut random),
            LateStart => self.replay_former_starts(at),
            NodeAdded => self.add_machine(),
            NamesakeBrought => self.bring_namesake(),
            NodeRemoved => self.dismiss(at),
            NodeReplaced => {
                self.dismiss(at);
                self.stop_for_good(at);
                self.add_machine();
            }
            _ => self.begin_disk_fault(&fault, &mut random),
        }
        self.begin_lasting(&fault, &mut random);
    }

    /// Only a minority of nodes may have lost something that it had synced: the next one only when the cluster has
    /// replaced the last one and is whole again.
    fn takes_damage(&mut self, kind: FaultKind) -> bool {
        let is_open = matches!(self.damaged, Some(NodeRemoved | NodeReplaced | FolderLost));
        let takes = self.plan.may_damage()
            && self.namesake.is_none()
            && self.fewest_voters() > 2
            && (self.damaged.is_none() || is_open && self.plan.membership && self.is_whole());
        if takes {
            self.damaged = Some(kind);
        }
        takes
    }

    /// Voters of which a majority has to be there: in a joint epoch of both sets.
    fn fewest_voters(&self) -> usize {
        let configuration = &self.directory.configuration;
        let joint = configuration.joint_with.as_ref().map_or(usize::MAX, Vec::len);
        configuration.voters.len().min(joint)
    }

    fn doom(&mut self, at: usize, point: CrashPoint, random: &mut Random) {
        let passings = u32::try_from(random.below(12)).unwrap_or(0);
        self.nodes[at].doom = Some((point, passings));
    }

    fn begin_disk_fault(&mut self, fault: &Fault, random: &mut Random) {
        let at = fault.node;
        let Some(folder) = self.nodes[at].volume.folder.clone() else { return };
        match fault.kind {
            SyncError => folder.fail_sync_after(random.below(6), false),
            DiskFull => folder.set_free_pages(random.below(4)),
            BitFlip => {
                self.crash(at, Survival::All);
                if let Some(folder) = &self.nodes[at].volume.folder {
                    folder.flip_bit(random.number());
                }
            }
            FolderLost => {
                self.crash(at, Survival::All);
                self.nodes[at].volume.folder = None;
            }
            OldFolder | OldVolume => {
                let survival = Survival::Some(random.number());
                let old = Volume { folder: Some(folder.image(survival)), ..self.nodes[at].volume.clone() };
                self.nodes[at].image = Some(old);
            }
            FoldersSwapped => self.swap_folders(at),
            NamesakeRestored => {
                self.crash(at, Survival::All);
                self.put_namesake(at);
            }
            _ => {}
        }
    }

    /// A machine comes back with the folder of another one; where two are a minority, that one gets the first one's.
    fn swap_folders(&mut self, at: usize) {
        let other = (at + 1) % self.nodes.len();
        self.crash(at, Survival::All);
        if self.fewest_voters() >= 5 && !self.nodes[other].gone {
            self.crash(other, Survival::All);
            self.damaged_nodes.insert(other);
            let first = self.nodes[at].volume.folder.take();
            self.nodes[at].volume.folder = std::mem::replace(&mut self.nodes[other].volume.folder, first);
        } else {
            let theirs = self.nodes[other].volume.folder.as_ref().map(|folder| folder.image(Survival::All));
            self.nodes[at].volume.folder = theirs;
        }
    }

    /// Faults that end by themselves.
    fn begin_lasting(&mut self, fault: &Fault, random: &mut Random) {
        let at = fault.node;
        let mut lasts_us = random.between(100_000, 2_000_000);
        match fault.kind {
            SlowDisk => self.nodes[at].slow_us = random.between(5_000, 900_000),
            Pause => self.nodes[at].paused_until_us = self.now_us + lasts_us * 2,
            ClockDrift => {
                let ppm = i64::try_from(random.below(100_000)).unwrap_or(0);
                self.nodes[at].clock.drift(self.now_us, ppm - 50_000);
            }
            Partition | OneWay | PartialPartition => {
                lasts_us *= 2;
                self.cut_ways(fault, true);
            }
            Loss => self.network.loss = random.between(5, 50),
            Delay => self.network.delay_us = (1_000, random.between(20_000, 600_000)),
            Duplication => self.network.duplication = random.between(5, 60),
            Reordering => self.network.reordering = random.between(5, 60),
            DiskFull | OldFolder | OldVolume => {}
            _ => return,
        }
        self.schedule(lasts_us, Happening::End(fault.clone()));
    }

    /// A fault ends.
    pub(crate) fn end_fault(&mut self, fault: Fault) {
        let at = fault.node;
        self.trace(|| format!("end of {:?} at node {at}", fault.kind));
        match fault.kind {
            SlowDisk => self.nodes[at].slow_us = 0,
            ClockDrift => self.nodes[at].clock.drift(self.now_us, 0),
            Partition | OneWay | PartialPartition => {
                self.cut_ways(&fault, false);
            }
            Loss => self.network.loss = 0,
            Delay => self.network.delay_us = (100, 1_500),
            Duplication => self.network.duplication = 0,
            Reordering => self.network.reordering = 0,
            DiskFull => {
                if let Some(folder) = &self.nodes[at].volume.folder {
                    folder.set_free_pages(u64::MAX);
                }
            }
            OldFolder | OldVolume => self.restore_image(at, fault.kind == OldVolume),
            _ => {}
        }
    }

    /// The machine gets back what its disk held some time ago.
    fn restore_image(&mut self, at: usize, whole: bool) {
        let Some(old) = self.nodes[at].image.take() else { return };
        if self.nodes[at].gone {
            return;
        }
        self.crash(at, Survival::All);
        self.nodes[at].rolled_back = self.nodes[at].had;
        let volume = &mut self.nodes[at].volume;
        volume.folder = old.folder;
        if whole {
            volume.incarnation = old.incarnation;
        }
    }

    fn cut_ways(&mut self, fault: &Fault, blocked: bool) {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let alone = ids[fault.node];
        let side = fault.chance;
        for (a, from) in ids.iter().enumerate() {
            for (b, to) in ids.iter().enumerate().filter(|(b, _)| *b != a) {
                let cut = match fault.kind {
                    Partition => side >> (a % 64) & 1 != side >> (b % 64) & 1,
                    OneWay => *from == alone,
                    _ => a.min(b) == fault.node % ids.len() && a.max(b) == (fault.node + 1) % ids.len(),
                };
                if cut {
                    self.network.set_blocked(*from, *to, blocked);
                }
            }
        }
    }

    fn replay_former_starts(&mut self, at: usize) {
        let id = self.nodes[at].id;
        for packet in self.network.stale(id) {
            self.dispatch(packet);
        }
    }

    /// A new machine with an empty disk asks to be taken in.
    pub(crate) fn add_machine(&mut self) {
        if self.nodes.len() >= 8 {
            return;
        }
        let id = NodeId(self.nodes.len() as u64 + 1);
        let mut directory = Directory::clone(&self.directory);
        directory.entries.push(crate::plan::entry(id));
        self.directory = Arc::new(directory);
        let mut node = SimNode::new(id, SimClock::new(0), Volume::default());
        node.clock.drift(self.now_us, 0);
        self.nodes.push(node);
        let at = self.nodes.len() - 1;
        self.schedule(1_000, Happening::Start(at));
    }

    /// Somebody asks the cluster to let a node go, unless too few would be left.
    fn dismiss(&mut self, at: usize) {
        let id = self.nodes[at].id;
        let mut directory = Directory::clone(&self.directory);
        directory.entries.iter_mut().filter(|entry| entry.id == id).for_each(|entry| entry.leaving = true);
        self.directory = Arc::new(directory);
    }
}
