//! A replica on a disk in memory, driven by tests that are its clock, its peers and its clients.

use super::{ClientRead, ClientWrite, Event, META_CONFIGURATION, Now, Replica, ReplicaStart};
use crate::replication::error::ServiceError;
use crate::replication::service::Written;
use crate::storage::{MemoryDisk, Store, StoreIdentity, StoreSettings};
use coequal_protocol::message::{Condition, Message, Operation, OperationKind};
use coequal_protocol::{Ballot, Held, Key, Revision};
use coequal_types::{Configuration, DatabaseId, DatabaseSettings, LowBound, NodeId};
use std::sync::{Arc, Mutex};

pub(super) const ME: NodeId = NodeId(1);
pub(super) const OTHER: NodeId = NodeId(2);
pub(super) const THIRD: NodeId = NodeId(3);
/// The epoch in which tests begin.
pub(in crate::replication) const EPOCH: u64 = 5;

pub(super) const SETTINGS: StoreSettings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 };

/// How a write (or a read) ended, once it has.
pub(super) type Outcome<T = Written> = Arc<Mutex<Option<Result<T, ServiceError>>>>;

/// The voters 1 to `voters`, all of them there from the first epoch on.
pub(in crate::replication) fn configuration(epoch: u64, voters: u64) -> Configuration {
    let voters: Vec<NodeId> = (1..=voters).map(NodeId).collect();
    Configuration {
        name: "orders".parse().unwrap(),
        uuid: DatabaseId::from_u128(7),
        epoch,
        joined: voters.iter().map(|voter| (*voter, 1)).collect(),
        voters,
        joint_with: None,
        learners: Vec::new(),
        excluded: Vec::new(),
        dropped_uuids: Vec::new(),
        settings: DatabaseSettings::default(),
        dropped: false,
        low_bound: LowBound::default(),
    }
}

pub(super) fn key() -> Key {
    Key::of("things", "a")
}

/// A ballot of the other node, a little above the clock of the tests.
pub(super) fn ballot_of_other() -> Ballot {
    Ballot::ordinary(1_750_000_002_000 << 16, OTHER, 1)
}

pub(super) fn put() -> Operation {
    let kind = OperationKind::Put(bytes::Bytes::from_static(b"{}"));
    Operation { kind, condition: Condition::Any, request: None }
}

/// The requests of another node to which only a voter of `epoch` has an answer.
pub(super) fn requests(epoch: u64) -> [Message; 3] {
    let (key, ballot) = (key(), ballot_of_other());
    let revision = Revision { version: 1, stamp: ballot, body: Some("{}".into()), history: Vec::new() };
    [
        Message::Prepare { epoch, key: key.clone(), ballot },
        Message::Accept { epoch, key: key.clone(), ballot, revision: Arc::new(revision) },
        Message::Query { epoch, key, read: 1, known: Ballot::NONE },
    ]
}

/// Whether a message says under `epoch` what stands on the sender's disk.
pub(super) fn is_answer_of(message: &Message, in_epoch: u64) -> bool {
    match message {
        Message::Promised { epoch, .. }
        | Message::Accepted { epoch, .. }
        | Message::QueryAnswer { epoch, .. }
        | Message::SampleAnswer { epoch, .. } => *epoch == in_epoch,
        _ => false,
    }
}

/// Node 1's replica.
pub(super) struct Driven {
    pub replica: Replica,
    pub store: Arc<Store>,
    pub disk: MemoryDisk,
    pub now_ms: u64,
    /// Unix milliseconds that the wall clock shows when the monotonic clock is at 0.
    pub wall_ms: u64,
}

impl Driven {
    /// With a new store, which nobody has checked yet.
    pub fn new(configuration: Configuration) -> Self {
        let identity = StoreIdentity { database: configuration.uuid, name: configuration.name.clone() };
        let disk = MemoryDisk::default();
        let store = Store::create_with(Arc::new(disk.clone()), &identity, &SETTINGS).unwrap();
        Self::of(disk, store, configuration, 1, 1_000)
    }

    /// The same where the others have said that they remember nothing that is missing: this node votes.
    pub fn voting(configuration: Configuration) -> Self {
        let voters = configuration.all_voters();
        let mut driven = Self::new(configuration);
        driven.is_recalled_by(&voters);
        driven
    }

    /// After a loss of power: what was not synced is gone, and the configuration is that of the store.
    pub fn restarted(self) -> Self {
        let Self { replica, store, disk, now_ms, .. } = self;
        drop((replica, store));
        let disk = disk.after_power_cut(|_| false);
        let store = Store::open_with(Arc::new(disk.clone()), &SETTINGS).unwrap();
        let configuration: Configuration = serde_json::from_slice(&store.meta(META_CONFIGURATION).unwrap()).unwrap();
        let voters = configuration.all_voters();
        let mut driven = Self::of(disk, store, configuration, 2, now_ms + 1_000);
        driven.is_recalled_by(&voters);
        driven
    }

    fn of(disk: MemoryDisk, store: Store, configuration: Configuration, incarnation: u32, now_ms: u64) -> Self {
        let store = Arc::new(store);
        let start =
            ReplicaStart { me: ME, incarnation, store: Arc::clone(&store), configuration, new_disk: false, seed: 1 };
        let mut driven =
            Self { replica: Replica::new(start, now(WALL_MS, now_ms)), store, disk, now_ms, wall_ms: WALL_MS };
        driven.commit();
        driven
    }

    fn is_recalled_by(&mut self, voters: &[NodeId]) {
        for voter in voters.iter().filter(|voter| **voter != ME) {
            self.hears(*voter, Message::Recalled { feed: 0, durable: 0, incarnation: 0 });
        }
        self.sends();
    }

    pub fn handle(&mut self, event: Event) {
        self.replica.handle(now(self.wall_ms, self.now_ms), event);
    }

    pub fn hears(&mut self, from: NodeId, message: Message) {
        self.handle(Event::Peer { from, incarnation: 1, message });
    }

    pub fn adopts(&mut self, configuration: Configuration) {
        self.handle(Event::Configuration(Box::new(configuration)));
    }

    pub fn reaches(&mut self, node: NodeId, reachable: bool) {
        self.handle(Event::Reachable { node, reachable });
    }

    /// Brings the log to disk, with all that follows from it.
    pub fn commit(&mut self) {
        while let Some(batch) = self.store.take_batch() {
            self.store.commit(&batch).unwrap();
            self.handle(Event::Durable(self.store.durable()));
        }
    }

    /// Lets time pass, in steps as the loop around a replica makes them.
    pub fn passes(&mut self, milliseconds: u64) {
        let until_ms = self.now_ms + milliseconds;
        while self.now_ms < until_ms {
            self.now_ms = (self.now_ms + 25).min(until_ms);
            self.replica.advance(now(self.wall_ms, self.now_ms));
            self.commit();
        }
    }

    /// What it has sent since it was last asked.
    pub fn sends(&mut self) -> Vec<(NodeId, Message)> {
        self.replica.take_effects().sends
    }

    /// The same once the log is on disk.
    pub fn sends_durably(&mut self) -> Vec<(NodeId, Message)> {
        self.commit();
        self.sends()
    }

    pub fn writes(&mut self, key: Key, milliseconds: u64) -> Outcome {
        let outcome = Outcome::default();
        let told = Arc::clone(&outcome);
        let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
        let deadline_ms = self.now_ms + milliseconds;
        self.handle(Event::Write(ClientWrite { key, operation: put(), generated: false, deadline_ms, reply }));
        outcome
    }

    pub fn reads(&mut self, key: Key, milliseconds: u64) -> Outcome<Option<Held>> {
        let outcome = Outcome::default();
        let told = Arc::clone(&outcome);
        let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
        let deadline_ms = self.now_ms + milliseconds;
        self.handle(Event::Read(ClientRead { key, deadline_ms, reply }));
        outcome
    }
}

/// What the wall clock shows when the monotonic clock is at 0, until somebody sets it.
pub(super) const WALL_MS: u64 = 1_750_000_000_000;

fn now(wall_ms: u64, monotonic_ms: u64) -> Now {
    Now { monotonic_ms, unix_ms: wall_ms + monotonic_ms }
}
