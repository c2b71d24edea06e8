//! Small builders for the tests of the protocol, and a random number generator with a seed.

#![allow(dead_code, clippy::unwrap_used)]

pub mod aligning;
pub mod joint;
pub mod returning;
pub mod rounds;

use bytes::Bytes;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::revision::Effect;
use coequal_protocol::{Ballot, Held, HistoryEntry, Key, RequestId, Revision};
use coequal_types::{Configuration, DatabaseId, DatabaseSettings, NodeId, WriteQuorum};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An ordinary ballot of a node's first start.
pub fn ballot(time: u64, node: u64) -> Ballot {
    Ballot::ordinary(time, NodeId(node), 1)
}

/// A key of the collection that all tests use.
pub fn key(name: &str) -> Key {
    Key::of("orders", name)
}

/// A configuration of these voters; `old` makes it joint.
pub fn configuration(voters: &[u64], old: Option<&[u64]>) -> Configuration {
    Configuration {
        name: "orders".parse().unwrap(),
        uuid: DatabaseId::from_u128(7),
        epoch: 1,
        voters: voters.iter().copied().map(NodeId).collect(),
        joint_with: old.map(|old| old.iter().copied().map(NodeId).collect()),
        learners: vec![],
        excluded: vec![],
        joined: Default::default(),
        dropped_uuids: vec![],
        settings: DatabaseSettings::default(),
        dropped: false,
        low_bound: Default::default(),
    }
}

/// The same with another `writeQuorum`.
pub fn with_write_quorum(voters: &[u64], quorum: WriteQuorum) -> Configuration {
    let mut configuration = configuration(voters, None);
    configuration.settings.write_quorum = quorum;
    configuration
}

/// A first revision with this body, proposed at `stamp`.
pub fn revision(stamp: Ballot, body: &str) -> Arc<Revision> {
    let history = vec![HistoryEntry { stamp, version: 1, effect: Effect::Created, request: None }];
    Arc::new(Revision { version: 1, stamp, body: Some(Bytes::copy_from_slice(body.as_bytes())), history })
}

/// A first revision held at the ballot that proposed it.
pub fn held(at: Ballot, body: &str) -> Held {
    Held { ballot: at, revision: revision(at, body) }
}

/// A write without condition or request id.
pub fn operation(kind: OperationKind) -> Operation {
    Operation { kind, condition: Condition::Any, request: None }
}

/// Create or replace.
pub fn put(body: &str) -> Operation {
    operation(OperationKind::Put(Bytes::copy_from_slice(body.as_bytes())))
}

/// Create only.
pub fn create(body: &str) -> Operation {
    operation(OperationKind::Create(Bytes::copy_from_slice(body.as_bytes())))
}

/// JSON merge patch.
pub fn patch(body: &str) -> Operation {
    operation(OperationKind::Patch { patch: Bytes::copy_from_slice(body.as_bytes()), bytes_max: 1 << 20 })
}

/// Tombstone.
pub fn delete() -> Operation {
    operation(OperationKind::Delete)
}

/// Nothing but settling.
pub fn settle() -> Operation {
    operation(OperationKind::Settle)
}

/// The same write under a condition.
pub fn when(condition: Condition, operation: Operation) -> Operation {
    Operation { condition, ..operation }
}

/// The same write with a request id; the fingerprint is the id's own.
pub fn requested(id: u128, operation: Operation) -> Operation {
    Operation { request: Some((RequestId(id), u64::try_from(id).unwrap_or(u64::MAX))), ..operation }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): the same seed gives the same run, everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }

    /// True this many times in a thousand.
    pub fn chance(&mut self, per_thousand: u64) -> bool {
        self.next() % 1000 < per_thousand
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Hash of everything that happened in a run, to prove that a seed repeats it.
pub fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// How many schedules to run: `usual`, times COEQUAL_SCHEDULES when a longer search is wanted.
pub fn schedules(usual: u64) -> u64 {
    let factor = std::env::var("COEQUAL_SCHEDULES").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    usual * factor.max(1)
}
