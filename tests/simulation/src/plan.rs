//! What a schedule is made of: drawn from its seed before anything happens.

use crate::faults::{Fault, FaultKind};
use crate::random::{Random, mix};
use crate::world::SimDisk;
use crate::world::clock::SimClock;
use crate::world::disk::Survival;
use crate::world::node::{SimNode, Volume};
use coequal_node::replication::copying::sign;
use coequal_node::storage::{StorageError, Store, StoreIdentity, StoreSettings};
use coequal_types::settings::WriteQuorum;
use coequal_types::{Configuration, DatabaseId, DatabaseSettings, NodeEntry, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where all its chance comes from.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: usize,
    /// Whether the nodes change the configuration, and machines come and go.
    pub membership: bool,
    /// Whether packets of former starts arrive, which the network room of a node would keep back.
    pub late_starts: bool,
    /// Whether the thread of the log takes a batch later than the loop asked for it: other turns come along, and it may end in
    /// the middle of one. Else it is taken at the end of the turn.
    pub late_batches: bool,
    /// Clients, each making one call after the other.
    pub clients: usize,
    /// Calls in all, without those of the end.
    pub calls: usize,
    /// Documents that the clients share.
    pub documents: usize,
    /// How long faults go on, in microseconds.
    pub faults_us: u64,
    /// The faults, with the time at which each begins.
    pub faults: Vec<(u64, Fault)>,
    /// Memory of the stores: small, so that checkpoints happen.
    pub store: StoreSettings,
    /// Voters that a write needs.
    pub write_quorum: WriteQuorum,
    /// Share of calls that are batches, in percent: several writes through one node at once.
    pub batches: u64,
    /// When which node compares its copy with the others'; all do so at the end when this is not empty.
    pub comparisons: Vec<(u64, usize)>,
    /// The life that nodes promise to request ids, in milliseconds: what was deleted before is collected. 0: never.
    pub tombstone_life_ms: u64,
    /// A majority of the machines is lost for good after the faults, by this chance.
    pub majority_lost: Option<u64>,
}

/// How long a schedule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Length {
    /// 2 to 5 seconds of faults and 30 to 60 calls.
    #[default]
    Full,
    /// The same faults in a third of the time, and a third of the calls.
    Short,
}

/// Parts of a full schedule that a short one has.
const SHORT: u64 = 3;

/// Chance of its own for the loss of a majority: no seed of `seeds.txt` draws it, so those end as they did.
const LOSS: u64 = 0x10eb;
/// The same for databases of one name.
const NAMESAKE: u64 = 0x5a44;

/// The same for a machine that there is twice.
const DOUBLE: u64 = 0xd0fb;
/// The same for batches that are taken late.
const LATE_BATCHES: u64 = 0x1a7e;

/// Identity of the database of all schedules.
pub const DATABASE: u128 = 0xc0e9_0a1d;

/// A node's entry.
pub fn entry(id: NodeId) -> NodeEntry {
    let name = format!("node-{}", id.0);
    NodeEntry {
        id,
        name: name.parse().unwrap_or_else(|_| unreachable_name()),
        peer_address: format!("{name}:7480"),
        api_address: format!("{name}:7400"),
        leaving: false,
        removed: false,
    }
}

fn unreachable_name() -> coequal_types::NodeName {
    // Names of the form node-7 are valid: unreachable!() is never reached.
    unreachable!()
}

impl Plan {
    /// The schedule of this seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let nodes = random.pick(&[3, 3, 3, 3, 5, 5, 2, 4]).unwrap_or(3);
        let membership = random.chance(35);
        let faults_us = random.between(2_000_000, 5_000_000);
        let overlay_bytes = random.pick(&[3 << 10, 6 << 10, 64 << 10]).unwrap_or(1 << 12);
        let mut plan = Self {
            seed,
            nodes,
            membership,
            late_starts: random.chance(30),
            late_batches: mix(seed ^ LATE_BATCHES).is_multiple_of(2),
            clients: usize::try_from(random.between(2, 7)).unwrap_or(3),
            calls: usize::try_from(random.between(30, 61)).unwrap_or(40),
            documents: usize::try_from(random.between(1, 6)).unwrap_or(3),
            faults_us,
            faults: Vec::new(),
            store: StoreSettings { cache_bytes: 256 << 10, overlay_bytes },
            write_quorum: if random.chance(10) { WriteQuorum::All } else { WriteQuorum::Majority },
            batches: 0,
            comparisons: Vec::new(),
            tombstone_life_ms: 0,
            majority_lost: None,
        };
        plan.draw_faults(&mut random);
        plan.draw_extras(&mut Random::new(seed ^ 0xe47a5));
        plan.draw_collection(&mut Random::new(seed ^ 0x70b5));
        plan.draw_loss(&mut Random::new(seed ^ LOSS));
        plan.draw_namesake(&mut Random::new(seed ^ NAMESAKE));
        plan.draw_double(&mut Random::new(seed ^ DOUBLE));
        plan
    }

    /// The schedule of this seed, as long as is wished.
    pub fn of(seed: u64, length: Length) -> Self {
        let mut plan = Self::new(seed);
        if length == Length::Short {
            plan.calls /= 3;
            plan.faults_us /= SHORT;
            plan.faults.iter_mut().for_each(|(at_us, _)| *at_us /= SHORT);
            plan.comparisons.iter_mut().for_each(|(at_us, _)| *at_us /= SHORT);
        }
        plan
    }

    /// Whether a minority can lose its disk and the rest still does what is asked.
    pub fn may_damage(&self) -> bool {
        self.nodes > 2 && (self.membership || self.write_quorum != WriteQuorum::All)
    }

    fn draw_faults(&mut self, random: &mut Random) {
        let many = random.between(1, 9);
        for _ in 0..many {
            let at_us = random.between(100_000, self.faults_us);
            let kind = FaultKind::draw(random, self.membership);
            let node = usize::try_from(random.below(self.nodes as u64)).unwrap_or(0);
            self.faults.push((at_us, Fault { kind, node, chance: random.number() }));
        }
        self.faults.sort_by_key(|(at_us, _)| *at_us);
    }

    /// What came to schedules later: by chance of its own, so that older seeds keep their faults.
    fn draw_extras(&mut self, random: &mut Random) {
        self.batches = if random.chance(50) { random.between(5, 30) } else { 0 };
        if random.chance(25) {
            for _ in 0..random.between(1, 4) {
                let at_us = random.between(500_000, self.faults_us);
                self.comparisons.push((at_us, usize::try_from(random.below(self.nodes as u64)).unwrap_or(0)));
            }
        }
    }

    /// A fifth of the schedules collects tombstones, of which most soon: by chance of its own as well.
    fn draw_collection(&mut self, random: &mut Random) {
        if random.chance(20) {
            self.tombstone_life_ms = random.pick(&[50, 150, 400, 800]).unwrap_or(400);
        }
    }

    /// A tenth of the schedules loses a majority for good: every sixth of those whose nodes change no configuration till
    /// then, so that the moment of the loss is not in the middle of a step of membership.
    fn draw_loss(&mut self, random: &mut Random) {
        let loses = random.chance(16) && !self.membership;
        self.majority_lost = loses.then(|| random.number());
    }

    /// One schedule in twenty meets another database of the same name, made independently of this one.
    fn draw_namesake(&mut self, random: &mut Random) {
        if !random.chance(6) || self.majority_lost.is_some() {
            return;
        }
        let brought = self.membership && random.chance(60);
        let kind = if brought { FaultKind::NamesakeBrought } else { FaultKind::NamesakeRestored };
        let at_us = random.between(100_000, self.faults_us);
        self.faults.push((at_us, Fault { kind, node: 0, chance: random.number() }));
        self.faults.sort_by_key(|(at_us, _)| *at_us);
    }

    /// One schedule in twenty-five has a machine twice: every sixth of those whose nodes change no configuration, so that who
    /// was found damaged is not taken in anew under the identity that the copy has.
    fn draw_double(&mut self, random: &mut Random) {
        let namesake = self.faults.iter().any(|(_, fault)| fault.kind.is_namesake());
        if !random.chance(17) || self.majority_lost.is_some() || self.membership || namesake || !self.may_damage() {
            return;
        }
        let at_us = random.between(100_000, self.faults_us);
        self.faults.push((at_us, Fault { kind: FaultKind::DoubleStarted, node: 0, chance: random.number() }));
        self.faults.sort_by_key(|(at_us, _)| *at_us);
    }

    /// How long a process that ended stays away.
    pub fn down_us(&self, random: &mut Random) -> u64 {
        if random.chance(80) { random.between(20_000, 600_000) } else { random.between(600_000, 2_500_000) }
    }

    /// The first configuration.
    pub fn configuration(&self) -> Configuration {
        let voters: Vec<NodeId> = (1..=self.nodes as u64).map(NodeId).collect();
        let settings = DatabaseSettings { write_quorum: self.write_quorum, ..DatabaseSettings::default() };
        Configuration {
            name: "orders".parse().unwrap_or_else(|_| coequal_types::DatabaseName::system()),
            uuid: DatabaseId::from_u128(DATABASE),
            epoch: 1,
            joined: voters.iter().map(|voter| (*voter, 1)).collect(),
            voters,
            joint_with: None,
            learners: Vec::new(),
            excluded: Vec::new(),
            dropped_uuids: Vec::new(),
            settings,
            dropped: false,
            low_bound: coequal_types::LowBound::default(),
        }
    }
}

/// Empty stores, made once and copied for each schedule.
#[derive(Default)]
pub struct Templates(BTreeMap<(u64, usize, bool), SimDisk>);

impl Templates {
    /// The machines of a plan, each with the empty store that it made when the database was created.
    pub fn machines(&mut self, plan: &Plan, random: &mut Random) -> Result<Vec<SimNode>, StorageError> {
        let configuration = plan.configuration();
        let mut machines = Vec::new();
        for voter in &configuration.voters {
            let slot = (voter.0, plan.nodes, plan.write_quorum == WriteQuorum::All);
            let disk = match self.0.get(&slot) {
                Some(disk) => disk.clone(),
                None => {
                    let disk = empty_store(*voter, &configuration)?;
                    self.0.insert(slot, disk.clone());
                    disk
                }
            };
            let folder = Some(disk.image(Survival::None));
            let volume = Volume { incarnation: 0, folder, staging: None, held: true };
            let ahead_ms = if random.chance(30) { random.below(2_000) } else { random.below(50) };
            let clock = SimClock::new(i64::try_from(ahead_ms).unwrap_or(0));
            machines.push(SimNode::new(*voter, clock, volume));
        }
        Ok(machines)
    }
}

fn empty_store(owner: NodeId, configuration: &Configuration) -> Result<SimDisk, StorageError> {
    let disk = SimDisk::default();
    let identity = StoreIdentity { database: configuration.uuid, name: configuration.name.clone() };
    let settings = StoreSettings { cache_bytes: 256 << 10, overlay_bytes: 1 << 20 };
    let id = [u8::try_from(owner.0).unwrap_or(u8::MAX); 16];
    let store = Store::create_as(Arc::new(disk.clone()), &identity, &settings, id, 0xfeed_0000 + owner.0)?;
    sign(&store, owner, configuration)?;
    drop(store);
    Ok(disk)
}
