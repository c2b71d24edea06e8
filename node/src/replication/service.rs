//! What a node can do for its clients: the door between `api` and `replication`. Words first, then the node; one
//! database is in `database_service`.

pub use super::database_service::DatabaseService;
use super::error::ServiceError;
use super::node::{Node, Place};
use super::system::{self, Stored};
use super::{databases, node_loop};
use coequal_protocol::membership::{must_wait, successor, with_learner, without};
use coequal_protocol::{Ballot, Effect, Key, Revision};
use coequal_types::rest::{
    ClusterDescription, DatabaseDescription, ForcedRecovery, NodeDescription, NodeView, RecoverCluster, SettingsPatch,
};
use coequal_types::{
    Configuration, DatabaseId, DatabaseName, DatabaseSettings, DatabaseStatus, NodeEntry, NodeId, NodeStatus,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A write that was chosen on a write quorum and is on its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Version that the write produced.
    pub version: u64,
    /// Its stamp.
    pub stamp: Ballot,
    /// What it did.
    pub effect: Effect,
}

/// How fresh a read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// As the database's `readQuorum` says.
    Default,
    /// The chosen revision in the local store.
    Local,
    /// Confirmed by a majority.
    Linearizable,
}

/// A document that was read.
#[derive(Debug, Clone)]
pub struct ReadDocument {
    /// The document.
    pub revision: Arc<Revision>,
    /// True when the answer was confirmed by a majority.
    pub linearizable: bool,
    /// How old a local answer may be, in milliseconds: so long ago this node last held all that enough voters knew.
    pub age_ms: Option<u64>,
}

/// One page of documents in key order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Live documents.
    pub documents: Vec<(Key, Arc<Revision>)>,
    /// Where the next page begins behind; `None` on the last.
    pub next_after: Option<Key>,
}

/// A position in this node's change feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCursor {
    /// Identity of the feed.
    pub feed: u64,
    /// Sequence number in it.
    pub sequence: u64,
}

/// One change: the newest state of a document.
#[derive(Debug, Clone)]
pub struct ChangeEntry {
    /// Where it stands.
    pub cursor: ChangeCursor,
    /// The document.
    pub key: Key,
    /// Its newest revision.
    pub revision: Arc<Revision>,
}

/// One condition of readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessCheck {
    /// What is checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// In words.
    pub detail: String,
}

/// One number for `/metrics`. Label values come from bounded sets (databases, nodes, statuses).
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSample {
    /// Full name with unit, and `_total` where due.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running node.
#[derive(Clone)]
pub struct NodeService {
    pub(super) node: Arc<Node>,
}

impl NodeService {
    /// Identity of this node.
    pub fn node_id(&self) -> NodeId {
        self.node.id
    }

    /// Voters of the system database, as this node knows them; 0 before it holds it.
    pub fn system_voters(&self) -> usize {
        self.node.system().map_or(0, |handle| {
            let view = handle.view();
            if view.configuration.joint_with.is_some() { 0 } else { view.configuration.voters.len() }
        })
    }

    /// This node in full.
    pub fn describe_node(&self) -> NodeDescription {
        let state = self.node.state();
        NodeDescription {
            id: self.node.id,
            name: self.node.settings.name.clone(),
            incarnation: self.node.incarnation,
            status: state.status,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: state.cluster,
            peer_address: self.node.settings.peer_address.clone(),
            api_address: self.node.settings.api_address.clone(),
            databases: user_databases(&state.databases).map(|database| database.on_node()).collect(),
            message: state.trouble(self.node.now_ms()),
        }
    }

    /// All nodes as this node sees them.
    pub fn describe_cluster(&self) -> ClusterDescription {
        let own = self.describe_node();
        let recovery = super::recovery::describe(&self.node);
        let now_ms = self.node.now_ms();
        let state = self.node.state();
        let view = |entry: &NodeEntry| {
            let me = entry.id == self.node.id;
            let reachable = me || state.detector.reaches(entry.id);
            let report = state.reports.get(&entry.id).map(|(report, _)| report);
            let heard = state.detector.contact(entry.id).map(|contact| now_ms.saturating_sub(contact.heard_ms));
            let visible = |d: &&coequal_types::rest::DatabaseOnNode| !d.name.is_system();
            NodeView {
                id: entry.id,
                name: entry.name.clone(),
                peer_address: entry.peer_address.clone(),
                api_address: entry.api_address.clone(),
                status: match (me, reachable) {
                    (true, _) => own.status,
                    (false, true) => report.map_or(NodeStatus::Starting, |report| report.status),
                    (false, false) => NodeStatus::Offline,
                },
                reachable,
                last_contact_seconds: if me { Some(0.0) } else { heard.map(seconds) },
                leaving: entry.leaving,
                databases: if me {
                    own.databases.clone()
                } else {
                    report.map(|r| r.databases.iter().filter(visible).cloned().collect()).unwrap_or_default()
                },
            }
        };
        let nodes = state.nodes.values().filter(|e| !e.removed).map(view).collect();
        ClusterDescription { id: state.cluster, nodes, recovery }
    }

    /// All user databases of the cluster that this node knows, in order of name.
    pub fn databases(&self) -> Vec<DatabaseDescription> {
        let names: Vec<DatabaseName> = {
            let state = self.node.state();
            user_databases(&state.databases).map(|d| d.configuration.name.clone()).collect()
        };
        names.iter().filter_map(|name| self.database(name).ok()).map(|database| database.describe()).collect()
    }

    /// A database by name, also one that is not deployed here. `DatabaseNotFound` for unknown names.
    pub fn database(&self, name: &DatabaseName) -> Result<DatabaseService, ServiceError> {
        let state = self.node.state();
        let known = state.databases.get(name).filter(|known| !known.configuration.dropped && !name.is_system());
        let known = known.ok_or_else(|| ServiceError::DatabaseNotFound(name.clone()))?;
        let handle = match &known.place {
            Place::Open(handle) => Some(handle.clone()),
            _ => None,
        };
        Ok(DatabaseService { node: Arc::clone(&self.node), name: name.clone(), uuid: known.configuration.uuid, handle })
    }

    /// Creates a database. True when this call made it. The same settings again are fine; others are a `Conflict`.
    pub async fn create_database(
        &self,
        name: &DatabaseName,
        settings: DatabaseSettings,
        deadline: Instant,
    ) -> Result<(DatabaseDescription, bool), ServiceError> {
        let handle = self.node.system()?;
        let deadline_ms = self.node.clock.deadline_ms(deadline);
        let voters = self.first_voters();
        settings.write_quorum.check(count(voters.len())).map_err(|e| ServiceError::NotAcceptable(e.to_string()))?;
        let key = system::configuration_key(name);
        let known: Option<Stored<Configuration>> = system::read(&handle, key.clone(), deadline_ms).await?;
        let (stamp, dropped_uuids) = match known {
            Some(known) if !known.value.dropped => return self.existing(name, &known.value, &settings, deadline).await,
            Some(known) => {
                let mut dropped = known.value.dropped_uuids;
                dropped.push(known.value.uuid);
                (Some(known.stamp), dropped)
            }
            None => (None, Vec::new()),
        };
        let configuration = Configuration {
            name: name.clone(),
            uuid: DatabaseId::new_v4(),
            epoch: 1,
            joined: voters.iter().map(|voter| (*voter, 1)).collect(),
            voters,
            joint_with: None,
            learners: Vec::new(),
            excluded: Vec::new(),
            dropped_uuids,
            settings: settings.clone(),
            dropped: false,
            low_bound: super::tombstones::first_bound(&self.node),
        };
        match system::write(&handle, key.clone(), &configuration, stamp, deadline_ms).await {
            Ok(_) => {
                databases::note_configuration(&self.node, configuration);
                Ok((self.opened(name, deadline).await?, true))
            }
            // Somebody else created it at the same moment: it is one database (section 9 of the contract).
            Err(ServiceError::Rejected(_)) => {
                let winner: Option<Stored<Configuration>> = system::read(&handle, key, deadline_ms).await?;
                let winner = winner.ok_or(ServiceError::OutcomeUnknown)?;
                self.existing(name, &winner.value, &settings, deadline).await
            }
            Err(error) => Err(error),
        }
    }

    /// A new database begins on every node that is there; those that come later are deployed to.
    fn first_voters(&self) -> Vec<NodeId> {
        let state = self.node.state();
        let there = |entry: &&NodeEntry| entry.id == self.node.id || state.detector.reaches(entry.id);
        let staying = state.nodes.values().filter(|entry| !entry.leaving && !entry.removed);
        let mut voters: Vec<NodeId> = staying.filter(there).map(|entry| entry.id).collect();
        if !voters.contains(&self.node.id) {
            voters.push(self.node.id);
        }
        voters
    }

    async fn existing(
        &self,
        name: &DatabaseName,
        known: &Configuration,
        settings: &DatabaseSettings,
        deadline: Instant,
    ) -> Result<(DatabaseDescription, bool), ServiceError> {
        if known.settings != *settings {
            return Err(ServiceError::Conflict(format!(
                "database {name} exists (UUID {}) with other settings; change them with PATCH /v1/databases/{name}/configuration",
                known.uuid
            )));
        }
        databases::note_configuration(&self.node, known.clone());
        Ok((self.opened(name, deadline).await?, false))
    }

    /// Waits until the database has a place here that can be used, or the deadline.
    async fn opened(&self, name: &DatabaseName, deadline: Instant) -> Result<DatabaseDescription, ServiceError> {
        loop {
            let database = self.database(name)?;
            let status = database.status();
            if status != DatabaseStatus::Synchronizing && status != DatabaseStatus::NotAvailable
                || Instant::now() >= deadline
            {
                return Ok(database.describe());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Drops a database, asked for by its UUID. Its copies are set aside on every node, not deleted.
    pub async fn drop_database(
        &self,
        name: &DatabaseName,
        uuid: DatabaseId,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        self.change(name, deadline, |known| {
            if known.uuid != uuid {
                return Err(ServiceError::WrongUuid { name: name.clone(), actual: known.uuid, asked: uuid });
            }
            Ok(Some(Configuration { dropped: true, ..successor(known) }))
        })
        .await
        .map(drop)
    }

    /// Changes settings in place.
    pub async fn change_settings(
        &self,
        name: &DatabaseName,
        patch: SettingsPatch,
        deadline: Instant,
    ) -> Result<DatabaseDescription, ServiceError> {
        let changed = self
            .change(name, deadline, |known| {
                let settings = patch.apply(&known.settings);
                settings
                    .write_quorum
                    .check(count(known.voters.len()))
                    .map_err(|e| ServiceError::NotAcceptable(e.to_string()))?;
                Ok((settings != known.settings).then(|| Configuration { settings, ..successor(known) }))
            })
            .await?;
        let mut description = self.database(name)?.describe();
        description.configuration = changed.settings;
        description.epoch = description.epoch.max(changed.epoch);
        Ok(description)
    }

    /// Takes a node into a database (deploy by hand). `node` is an id or a name.
    pub async fn deploy(&self, name: &DatabaseName, node: &str, deadline: Instant) -> Result<(), ServiceError> {
        let entry = self.node.find_node(node)?;
        self.change(name, deadline, |known| Ok(with_learner(known, entry.id))).await.map(drop)
    }

    /// Takes a node out of a database; auto-deploy leaves it alone from then on.
    pub async fn remove_from_database(
        &self,
        name: &DatabaseName,
        node: &str,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let entry = self.node.find_node(node)?;
        self.change(name, deadline, |known| {
            if !known.is_member(entry.id) && known.excluded.contains(&entry.id) {
                return Ok(None);
            }
            let next = if known.is_member(entry.id) { without(known, entry.id) } else { Some(successor(known)) };
            let mut next = next.ok_or_else(|| {
                ServiceError::Conflict(format!("node {node} is the last voter of database {name}; deploy it to another node first, or drop the database"))
            })?;
            next.excluded.push(entry.id);
            Ok(Some(next))
        })
        .await
        .map(drop)
    }

    /// One conditional change of a configuration, tried again while others change it too.
    async fn change(
        &self,
        name: &DatabaseName,
        deadline: Instant,
        change: impl Fn(&Configuration) -> Result<Option<Configuration>, ServiceError>,
    ) -> Result<Configuration, ServiceError> {
        let handle = self.node.system()?;
        let deadline_ms = self.node.clock.deadline_ms(deadline);
        let key = system::configuration_key(name);
        loop {
            let known: Option<Stored<Configuration>> = system::read(&handle, key.clone(), deadline_ms).await?;
            let known = known.filter(|known| !known.value.dropped && !name.is_system());
            let known = known.ok_or_else(|| ServiceError::DatabaseNotFound(name.clone()))?;
            let Some(next) = change(&known.value)? else { return Ok(known.value) };
            // One change of membership at a time: a joint epoch is finished first.
            if !must_wait(&known.value, &next) {
                match system::write(&handle, key.clone(), &next, Some(known.stamp), deadline_ms).await {
                    Ok(_) => {
                        databases::note_configuration(&self.node, next.clone());
                        return Ok(next);
                    }
                    Err(ServiceError::Rejected(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            if Instant::now() >= deadline {
                return Err(ServiceError::Conflict(format!(
                    "the configuration of database {name} is being changed by somebody else; try again"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes a cluster of this one node. True when this call made it; a node that has one answers it and false.
    pub async fn initialize_cluster(&self, deadline: Instant) -> Result<(ClusterDescription, bool), ServiceError> {
        let made = super::initialize::run(&self.node).await?;
        while self.describe_node().status == NodeStatus::Starting && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok((self.describe_cluster(), made))
    }

    /// Takes a running node, known only by its address, into this cluster.
    pub async fn add_node(&self, peer_address: &str, deadline: Instant) -> Result<(), ServiceError> {
        super::initialize::invite(&self.node, peer_address, deadline).await
    }

    /// Marks a node as leaving; it is taken out of every database step by step. Returns at once.
    pub async fn remove_node(&self, node: &str, deadline: Instant) -> Result<(), ServiceError> {
        let entry = self.node.find_node(node)?;
        let staying = self.node.state().nodes.values().filter(|n| !n.leaving && !n.removed && n.id != entry.id).count();
        if staying == 0 {
            return Err(ServiceError::Conflict(format!(
                "node {node} is the last one of the cluster; add another one first"
            )));
        }
        let handle = self.node.system()?;
        let deadline_ms = self.node.clock.deadline_ms(deadline);
        loop {
            let known: Option<Stored<NodeEntry>> =
                system::read(&handle, system::node_key(entry.id), deadline_ms).await?;
            let Some(known) = known.filter(|known| !known.value.leaving && !known.value.removed) else { return Ok(()) };
            let leaving = NodeEntry { leaving: true, ..known.value };
            match system::write(&handle, system::node_key(entry.id), &leaving, Some(known.stamp), deadline_ms).await {
                Ok(_) => return Ok(()),
                Err(ServiceError::Rejected(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on without nodes that are lost for good, where they were a majority.
    pub async fn recover_cluster(
        &self,
        request: &RecoverCluster,
        deadline: Instant,
    ) -> Result<ForcedRecovery, ServiceError> {
        super::recovery::run(&self.node, request, deadline).await
    }

    /// One check for belonging to a cluster and one for each database that this node should serve.
    pub fn readiness(&self) -> Vec<ReadinessCheck> {
        let state = self.node.state();
        let detail = match (state.trouble(self.node.now_ms()), state.status) {
            (Some(trouble), _) => trouble,
            (None, status) => format!("node is {status}"),
        };
        let mut checks =
            vec![ReadinessCheck { name: "cluster".to_owned(), ok: state.status == NodeStatus::Online, detail }];
        for known in user_databases(&state.databases).filter(|known| known.configuration.is_member(self.node.id)) {
            let (status, _, message) = known.status();
            let detail = message.map_or_else(|| status.to_string(), |message| format!("{status}: {message}"));
            checks.push(ReadinessCheck {
                name: format!("database {}", known.configuration.name),
                ok: status.serves_local_reads(),
                detail,
            });
        }
        checks
    }

    /// Everything for `/metrics` that this room knows.
    pub fn metrics(&self) -> Vec<MetricSample> {
        super::metrics::samples(&self.node)
    }

    /// A time-ordered UUID (version 7, RFC 9562) for a generated key.
    pub fn generate_key(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

pub(super) fn user_databases(
    databases: &std::collections::BTreeMap<DatabaseName, super::node::LocalDatabase>,
) -> impl Iterator<Item = &super::node::LocalDatabase> {
    databases.values().filter(|known| !known.configuration.name.is_system() && !known.configuration.dropped)
}

/// A node that runs, and the means to end it.
pub struct RunningNode {
    /// The door for clients.
    pub service: NodeService,
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl NodeService {
    /// Comes back when this node has to end, because it was removed from its cluster and comes back as a new one.
    pub async fn renewal(&self) {
        self.node.renewal.notified().await;
    }
}

impl RunningNode {
    /// Starts the node's loops; its own databases are opened before this returns.
    pub(super) async fn start(
        node: Arc<Node>,
        events: tokio::sync::mpsc::Receiver<crate::network::NetworkEvent>,
    ) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        databases::open_own(&node).await;
        databases::keep(&node).await;
        let task = tokio::spawn(node_loop::run(Arc::clone(&node), events, stopped));
        Self { service: NodeService { node }, stop, task }
    }

    /// Ends everything in order: peers are told, writes under way are answered, logs are committed.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
        let handles: Vec<_> = {
            let routes = self.service.node.routes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            routes.values().cloned().collect()
        };
        futures::future::join_all(handles.iter().map(|handle| handle.stop())).await;
        self.service.node.network.shutdown().await;
    }
}
