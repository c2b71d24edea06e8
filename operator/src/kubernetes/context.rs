//! What every reconcile works with.

use super::health::Health;
use super::leader::Leadership;
use super::stores::Stores;
use coequal_types::NodeName;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Everything that reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What it holds of our children.
    pub stores: Stores,
    /// For the nodes' own API.
    pub http: reqwest::Client,
    /// Which operator this is, in Events.
    pub identity: String,
    /// Whether this process may change anything.
    pub leadership: Leadership,
    /// Probes and metrics.
    pub health: Health,
    /// Image of nodes whose manifest names none.
    pub node_image: String,
    /// What is remembered of each resource, by uid.
    pub memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is remembered of a resource between two reconciles. Losing it costs a message, never data.
#[derive(Debug, Default)]
pub struct Memory {
    /// Pods (by uid) that answered once.
    pub answered: BTreeSet<String>,
    /// Failures in a row.
    pub failures: u32,
    /// What was told last, so that it is told once.
    pub told: BTreeMap<String, String>,
    /// Nodes that were ONLINE last; `None` before the first look.
    pub online: Option<BTreeSet<NodeName>>,
    /// Looks in a row that changed nothing.
    pub looks_without_change: u32,
    /// Since when a removal waits for a node that is ill.
    pub held_since: Option<Instant>,
}

impl Context {
    /// Works on what is remembered of a resource.
    pub fn remember<T>(&self, uid: &str, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(self.memories().entry(uid.to_owned()).or_default())
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, uid: &str) {
        self.memories().remove(uid);
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every watch has listed once.
    pub fn has_listed(&self) -> bool {
        self.health.listed.load(Ordering::Acquire)
    }
}
