//! The node as a whole: who it is, whom it knows, which databases it holds.

use super::clock::NodeClock;
use super::database_loop::{News, ReplicaHandle};
use super::error::ServiceError;
use super::report::NodeReport;
use crate::network::Network;
use crate::storage::{DataDirectory, StoreSettings};
use coequal_protocol::failure_detection::FailureDetector;
use coequal_types::rest::DatabaseOnNode;
use coequal_types::{
    ClusterId, Configuration, DatabaseId, DatabaseName, DatabaseStatus, Incarnation, NodeEntry, NodeId, NodeName,
    NodeStatus, Progress,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Settings of a node that the replication room needs.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Name that people use.
    pub name: NodeName,
    /// Where other nodes reach this one.
    pub peer_address: String,
    /// Where clients reach it.
    pub api_address: String,
    /// Whether to make a cluster of this node if its directory belongs to none.
    pub initialize: bool,
    /// The only cluster that this node may make or join, if that is settled beforehand.
    pub cluster: Option<ClusterId>,
    /// Whose cluster to join.
    pub join: Vec<String>,
    /// Memory settings of each store.
    pub store: StoreSettings,
    /// When a silent peer counts as unreachable.
    pub unreachable_after_ms: u64,
    /// Whether databases run on the threads that serve clients and other nodes: for a node that has one of these, each write
    /// goes back and forth between them several times, and every time one thread would have to wake the other.
    pub databases_share_threads: bool,
    /// Whether to come back as a new node after having been removed from the cluster while away.
    pub renew_when_removed: bool,
    /// How often each database is compared with the other nodes' copies, in seconds; 0: never by itself.
    pub compare_every_seconds: u64,
    /// How long tombstones and the request ids in them are kept at least, in milliseconds.
    pub tombstone_life_ms: u64,
}

/// Where a database stands on this node.
pub(super) enum Place {
    /// Not deployed here.
    NotHere,
    /// Being opened, moved aside or created.
    Busy,
    /// Being copied from a donor.
    Deploying(DeployState),
    /// Open.
    Open(ReplicaHandle),
    /// Another database of the name lies on the disk.
    Conflict(DatabaseId),
    /// The disk is too full to open the copy; it is tried again.
    NoSpace {
        /// In words.
        reason: String,
        /// When, in monotonic milliseconds.
        again_ms: u64,
    },
    /// The store cannot be used.
    Faulty {
        /// Why.
        reason: String,
        /// Epoch of the configuration when that was found: taken in anew after it, this node gets a new copy.
        epoch: u64,
    },
}

/// A deploy under way.
#[derive(Clone)]
pub(super) struct DeployState {
    pub progress: Arc<Mutex<Option<Progress>>>,
    pub answers: mpsc::Sender<(NodeId, coequal_protocol::Message)>,
    pub message: Arc<Mutex<Option<String>>>,
}

/// A database that this node has heard of.
pub(super) struct LocalDatabase {
    pub configuration: Configuration,
    pub place: Place,
}

pub(super) struct State {
    pub cluster: Option<ClusterId>,
    pub status: NodeStatus,
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    pub databases: BTreeMap<DatabaseName, LocalDatabase>,
    pub reports: BTreeMap<NodeId, (NodeReport, u64)>,
    pub detector: FailureDetector,
    pub connected: BTreeSet<NodeId>,
    pub refused: Option<String>,
    /// Why nodes that were to be asked to take this one in could not be, by address.
    pub unasked: BTreeMap<String, String>,
    /// Whether this process took part in its cluster at any time.
    pub took_part: bool,
    /// A member that invited this node while it belonged to no cluster.
    pub invited_by: Option<String>,
    /// Where peers were found that are not where their entries say.
    pub found_at: BTreeMap<NodeId, String>,
    /// Since when the caretaker has seen each learner as one, in monotonic milliseconds.
    pub learners_since: BTreeMap<(DatabaseId, NodeId), u64>,
    /// Nodes that a forced recovery gave up, and where they were last.
    pub lost: BTreeMap<NodeId, String>,
    /// That this node was given up itself, in words.
    pub given_up: Option<String>,
    /// That another process speaks for this node, in words: for as long as this one runs.
    pub silenced: Option<String>,
    /// Two processes use one node identity: what was said of it last, and when.
    pub identity_conflict: Option<(String, u64)>,
    /// How often that was found.
    pub identity_conflicts: u64,
}

/// Bounds of the time between two beats, in milliseconds.
const BEAT_MS: (u64, u64) = (50, 250);
/// So long a node that is well shows that an identity was used twice.
const CONFLICT_SHOWN_MS: u64 = 600_000;

impl State {
    /// What is wrong with this node or its place in the cluster, and what to do.
    pub fn trouble(&self, now_ms: u64) -> Option<String> {
        let lately = |at_ms: u64| self.status != NodeStatus::Online || now_ms.saturating_sub(at_ms) < CONFLICT_SHOWN_MS;
        let conflict =
            self.identity_conflict.as_ref().filter(|(_, at_ms)| lately(*at_ms)).map(|(text, _)| text.clone());
        self.silenced.clone().or(conflict).or_else(|| self.given_up.clone()).or_else(|| self.refused.clone())
    }
}

/// Everything that the tasks of a node share.
pub(super) struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub settings: NodeSettings,
    pub directory: DataDirectory,
    pub network: Network,
    pub clock: NodeClock,
    pub state: Mutex<State>,
    /// Where messages about a database go.
    pub routes: RwLock<HashMap<DatabaseId, ReplicaHandle>>,
    /// Wakes the task that keeps the databases: something that it decides on has changed.
    pub wake: Notify,
    /// Wakes all tasks that look at databases and reports: something in them has changed.
    pub news: News,
    /// Wakes the caretaker: a peer has told something new.
    pub reported: Notify,
    /// Held while this node makes a cluster of itself.
    pub initializing: tokio::sync::Mutex<()>,
    /// Told once when this process has to end, so that the next start is that of a new node.
    pub renewal: Notify,
}

impl Node {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.now().monotonic_ms
    }

    pub fn route(&self, database: DatabaseId) -> Option<ReplicaHandle> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&database).cloned()
    }

    pub fn set_route(&self, database: DatabaseId, handle: Option<ReplicaHandle>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        match handle {
            Some(handle) => routes.insert(database, handle),
            None => routes.remove(&database),
        };
    }

    /// The system database, once it is open here.
    pub fn system(&self) -> Result<ReplicaHandle, ServiceError> {
        match self.state().databases.get(&DatabaseName::system()).map(|database| &database.place) {
            Some(Place::Open(handle)) => Ok(handle.clone()),
            _ => Err(ServiceError::NoCluster),
        }
    }

    /// Time until the next beat. All that has to be looked at now and then is looked at together, so that a node at rest
    /// wakes seldom: at least six times within the silence after which it counts as unreachable.
    pub fn until_next_beat(&self) -> Duration {
        let beat_ms = (self.settings.unreachable_after_ms / 6).clamp(BEAT_MS.0, BEAT_MS.1);
        Duration::from_millis(beat_ms - self.now_ms() % beat_ms)
    }

    /// How long to wait before looking again: `soon_ms` while a database is on its way to somewhere, else until the beat.
    pub fn pause(&self, soon_ms: u64) -> Duration {
        let state = self.state();
        let at_rest =
            state.status == NodeStatus::Online && state.databases.values().all(|database| database.is_at_rest(self.id));
        drop(state);
        if at_rest { self.until_next_beat() } else { Duration::from_millis(soon_ms) }
    }

    /// This node's word about itself.
    pub fn report(&self) -> NodeReport {
        let now_ms = self.now_ms();
        let horizon = super::tombstones::horizon(self.clock, self.settings.tombstone_life_ms);
        let state = self.state();
        let unreachable = |node: &NodeId| {
            let ms = state.detector.unreachable_ms(*node, 0, now_ms);
            (*node != self.id && ms > 0).then_some((*node, ms))
        };
        NodeReport {
            status: state.status,
            databases: state.databases.values().map(LocalDatabase::on_node).collect(),
            epochs: state.databases.values().map(|d| (d.configuration.uuid, d.epochs())).collect(),
            unreachable_ms: state.nodes.keys().filter_map(unreachable).collect(),
            low_bounds: state
                .databases
                .values()
                .filter_map(|known| Some((known.configuration.uuid, known.low_bound_word(horizon)?)))
                .collect(),
        }
    }

    /// A node by id or by name.
    pub fn find_node(&self, text: &str) -> Result<NodeEntry, ServiceError> {
        let state = self.state();
        let mut found =
            state.nodes.values().filter(|n| !n.removed && (n.name.as_str() == text || n.id.to_string() == text));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry.clone()),
            (Some(_), Some(_)) => Err(ServiceError::Conflict(format!(
                "several nodes are named {text}; give the id instead (GET /v1/cluster)"
            ))),
            (None, _) => Err(ServiceError::NotFound(format!(
                "node {text} is not in the cluster; GET /v1/cluster lists the nodes"
            ))),
        }
    }
}

impl LocalDatabase {
    /// Whether it is where its configuration wants it, and that is where it stays.
    fn is_at_rest(&self, me: NodeId) -> bool {
        let wanted = &self.configuration;
        match &self.place {
            Place::NotHere => wanted.dropped || !wanted.is_member(me),
            Place::Open(handle) => {
                let view = handle.view();
                let settled = wanted.joint_with.is_none() && wanted.learners.is_empty();
                settled && view.status == DatabaseStatus::Online && view.epoch == wanted.epoch
            }
            _ => false,
        }
    }

    /// Status here, and what is wrong.
    pub fn status(&self) -> (DatabaseStatus, Option<Progress>, Option<String>) {
        match &self.place {
            Place::NotHere => (DatabaseStatus::NotAvailable, None, None),
            Place::Busy => (DatabaseStatus::Synchronizing, None, None),
            Place::Deploying(deploy) => {
                let progress = *deploy.progress.lock().unwrap_or_else(PoisonError::into_inner);
                let message = deploy.message.lock().unwrap_or_else(PoisonError::into_inner).clone();
                (DatabaseStatus::Synchronizing, progress, message)
            }
            Place::Open(handle) => {
                let view = handle.view();
                (view.status, view.progress, view.message.clone())
            }
            Place::Conflict(local) => (DatabaseStatus::Conflict, None, Some(self.conflict_message(*local))),
            Place::NoSpace { reason, .. } => (DatabaseStatus::Synchronizing, None, Some(reason.clone())),
            Place::Faulty { reason, .. } => (DatabaseStatus::Faulty, None, Some(reason.clone())),
        }
    }

    fn conflict_message(&self, local: DatabaseId) -> String {
        let (name, cluster) = (&self.configuration.name, self.configuration.uuid);
        format!(
            "this node's disk holds another database named {name} (UUID {local}) than the cluster (UUID {cluster}); nothing was touched. \
             Ways out: drop the cluster's one by its UUID, or move this node's folder databases/{name} away (rename it) and \
             restart the node, and import its documents afterwards if they are needed"
        )
    }

    pub fn on_node(&self) -> DatabaseOnNode {
        let (status, progress, message) = self.status();
        DatabaseOnNode {
            name: self.configuration.name.clone(),
            uuid: self.configuration.uuid,
            status,
            progress,
            message,
        }
    }

    fn epochs(&self) -> (u64, u64) {
        match &self.place {
            Place::Open(handle) => {
                let view = handle.view();
                (view.epoch, view.aligned_epoch)
            }
            _ => (0, 0),
        }
    }
}
