//! Brings each database on this node to where its configuration wants it: opened, created, deployed, set aside.
//! The choice is `protocol::sharing`; here it is carried out.

use super::database_loop::{self, ReplicaHandle, Surroundings};
use super::deploy;
use super::node::{DeployState, LocalDatabase, Node, Place};
use super::replica::{Event, META_CONFIGURATION, META_DEPLOYED, ReplicaStart};
use crate::storage::{StorageError, Store, StoreIdentity};
use coequal_protocol::sharing::{LocalCopy, Sharing, decide};
use coequal_protocol::{LogRecord, Message};
use coequal_types::{Configuration, DatabaseId, DatabaseName, NodeId, NodeStatus};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Stored in each copy: whose store it is. A folder copied by hand carries another node's id.
pub const META_OWNER: &str = "owner";
const DEPLOY_ANSWERS_MAX: usize = 16;
/// A copy that could not be opened for want of space is tried again after this long.
const NO_SPACE_AGAIN_MS: u64 = 1_000;

/// Takes note of a configuration, if it is newer than what is known (or of a new database).
pub(super) fn note_configuration(node: &Node, configuration: Configuration) {
    let mut state = node.state();
    match state.databases.get_mut(&configuration.name) {
        Some(known) if known.configuration.uuid == configuration.uuid => {
            if configuration.epoch > known.configuration.epoch {
                known.configuration = configuration;
                node.wake.notify_one();
            }
        }
        // A database of this name that was dropped and made anew.
        Some(known) if configuration.dropped_uuids.contains(&known.configuration.uuid) => {
            known.configuration = configuration;
            node.wake.notify_one();
        }
        Some(_) => {}
        None => {
            let name = configuration.name.clone();
            state.databases.insert(name, LocalDatabase { configuration, place: Place::NotHere });
            node.wake.notify_one();
        }
    }
}

/// Opens at the start what lies on the disk and is this node's own, so that it votes before anybody is reached.
pub(super) async fn open_own(node: &Arc<Node>) {
    let found = node.directory.databases().unwrap_or_else(|error| {
        tracing::error!(%error, "the databases on the disk cannot be listed");
        Vec::new()
    });
    for (folder, path) in found {
        let system = folder == coequal_types::names::SYSTEM_DATABASE;
        let name = if system { Ok(DatabaseName::system()) } else { folder.parse() };
        let Ok(name) = name else {
            tracing::warn!(path = %path.display(), "a folder among the databases whose name is not one; left alone");
            continue;
        };
        let opened = open_copy(node, &name).await;
        match opened {
            Ok(Some((store, copy, Some(configuration)))) if copy.owner == node.id => {
                note_configuration(node, configuration.clone());
                open_at_once(node, &name, (store, copy, Some(configuration))).await;
            }
            Ok(_) => {
                tracing::info!(database = %name, "a copy that is not this node's own; it waits for the cluster's word")
            }
            Err(error) => tracing::error!(database = %name, %error, "the local copy cannot be opened"),
        }
    }
}

/// Goes on with a copy that is open already: to open it replays its log, and to do that once more would double the time until
/// this node's first answer.
async fn open_at_once(node: &Arc<Node>, name: &DatabaseName, copy: Copy) {
    let now_ms = node.clock.now().monotonic_ms;
    let step = {
        let mut state = node.state();
        let database = state.databases.get_mut(name).filter(|database| matches!(database.place, Place::NotHere));
        database.map(|database| next_step(node.id, database, now_ms))
    };
    // Else it is no member, or has its place already, and nothing is to be done.
    if let Some(Step::Look(configuration)) = step {
        look_at(node, name, configuration, Ok(Some(copy))).await;
    }
}

/// One look at every database. Only the node's own task does this: let go half-way, a database would stay busy.
pub(super) async fn keep(node: &Arc<Node>) {
    if node.state().status == NodeStatus::ShuttingDown {
        return;
    }
    let names: Vec<DatabaseName> = node.state().databases.keys().cloned().collect();
    let now_ms = node.clock.now().monotonic_ms;
    for name in names {
        let step = {
            let mut state = node.state();
            let Some(database) = state.databases.get_mut(&name) else { continue };
            next_step(node.id, database, now_ms)
        };
        match step {
            Step::Nothing => {}
            Step::Tell(handle, configuration) => {
                let _ = handle.events.try_send(Event::Configuration(Box::new(configuration)));
            }
            Step::Close(handle, uuid) => close(node, &name, &handle, uuid).await,
            Step::SetAside => {
                let place = set_aside(node, &name);
                set_place(node, &name, place);
            }
            Step::Look(configuration) => look(node, &name, configuration).await,
        }
    }
}

enum Step {
    Nothing,
    Tell(ReplicaHandle, Configuration),
    Close(ReplicaHandle, DatabaseId),
    SetAside,
    Look(Configuration),
}

fn next_step(me: NodeId, database: &mut LocalDatabase, now_ms: u64) -> Step {
    let configuration = database.configuration.clone();
    let member = configuration.is_member(me) && !configuration.dropped;
    let joined = configuration.joined.get(&me).copied().unwrap_or(0);
    match &database.place {
        Place::Busy | Place::Deploying(_) => Step::Nothing,
        Place::Open(handle) => {
            let view = handle.view();
            if let Some(newer) = view.superseded.as_ref().filter(|newer| newer.epoch >= configuration.epoch) {
                database.configuration = newer.clone();
                return Step::Close(handle.clone(), newer.uuid);
            }
            if view.configuration.uuid != configuration.uuid {
                return Step::Close(handle.clone(), view.configuration.uuid);
            }
            if view.epoch > configuration.epoch {
                database.configuration = view.configuration.clone();
                return Step::Nothing;
            }
            if !member || view.epoch < joined {
                return Step::Close(handle.clone(), configuration.uuid);
            }
            if view.epoch < configuration.epoch { Step::Tell(handle.clone(), configuration) } else { Step::Nothing }
        }
        Place::NotHere if !member => Step::Nothing,
        // A damaged copy stays until this node was taken out of the configuration, and perhaps in again.
        Place::Faulty { epoch, .. } if member && joined <= *epoch => Step::Nothing,
        Place::Faulty { .. } => {
            database.place = Place::Busy;
            Step::SetAside
        }
        Place::NoSpace { again_ms, .. } if now_ms < *again_ms => Step::Nothing,
        Place::NotHere | Place::Conflict(_) | Place::NoSpace { .. } => {
            database.place = Place::Busy;
            Step::Look(configuration)
        }
    }
}

async fn close(node: &Arc<Node>, name: &DatabaseName, handle: &ReplicaHandle, uuid: DatabaseId) {
    tracing::info!(database = %name, %uuid, "closed: this node does not hold it any more");
    node.set_route(uuid, None);
    handle.stop().await;
    set_place(node, name, Place::Busy);
    let place = set_aside(node, name);
    set_place(node, name, place);
}

/// Moves the local copy away, never deleting it first.
fn set_aside(node: &Node, name: &DatabaseName) -> Place {
    if !node.directory.database_path(name).exists() {
        return Place::NotHere;
    }
    match node.directory.set_aside(name) {
        Ok(place) => {
            tracing::info!(database = %name, place = %place.display(), "old copy set aside");
            Place::NotHere
        }
        Err(error) => faulty(node, name, format!("the old copy could not be set aside: {error}")),
    }
}

fn faulty(node: &Node, name: &DatabaseName, reason: String) -> Place {
    let epoch = node.state().databases.get(name).map_or(0, |known| known.configuration.epoch);
    tracing::error!(database = %name, %reason, epoch, "the local copy cannot be used");
    Place::Faulty { reason, epoch }
}

fn set_place(node: &Node, name: &DatabaseName, place: Place) {
    if let Some(database) = node.state().databases.get_mut(name) {
        database.place = place;
    }
}

/// What lies on the disk, and what to do with it.
async fn look(node: &Arc<Node>, name: &DatabaseName, configuration: Configuration) {
    let found = open_copy(node, name).await;
    look_at(node, name, configuration, found).await;
}

async fn look_at(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: Configuration,
    found: Result<Option<Copy>, StorageError>,
) {
    let place = match found {
        Ok(found) => {
            let copy = found.as_ref().map(|(_, copy, _)| *copy);
            let store = found.map(|(store, _, _)| store);
            let held = node.directory.has_held(name, configuration.uuid);
            carry_out(node, name, &configuration, decide(node.id, &configuration, copy, held), store).await
        }
        Err(error) if error.is_disk_full() => no_space(node, name, &error),
        Err(error) => faulty(node, name, error.to_string()),
    };
    set_place(node, name, place);
}

/// A full disk is no damage: the copy waits for space.
fn no_space(node: &Node, name: &DatabaseName, error: &StorageError) -> Place {
    tracing::warn!(database = %name, %error, "the local copy cannot be opened yet; it is tried again");
    let reason = format!("the local copy cannot be opened: {error}; it is tried again");
    Place::NoSpace { reason, again_ms: node.clock.now().monotonic_ms + NO_SPACE_AGAIN_MS }
}

async fn carry_out(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: &Configuration,
    sharing: Sharing,
    store: Option<Store>,
) -> Place {
    match (sharing, store) {
        (Sharing::Replicate, Some(store)) => open_own_copy(node, name, configuration, store).await,
        (Sharing::HeadStart, Some(store)) => match deploy::head_start(node, name, configuration, store).await {
            Ok(()) => Place::NotHere,
            Err(error) => faulty(node, name, error.to_string()),
        },
        (Sharing::SetAside { .. }, store) => {
            drop(store);
            set_aside(node, name)
        }
        (Sharing::Conflict, Some(store)) => Place::Conflict(store.identity().database),
        (Sharing::Forgot, store) => {
            drop(store);
            faulty(node, name, FORGOT.to_owned())
        }
        (Sharing::Create, None) => match create(node, configuration).await {
            Ok(store) => open_own_copy(node, name, configuration, store).await,
            Err(error) if error.is_disk_full() => no_space(node, name, &error),
            Err(error) => faulty(node, name, error.to_string()),
        },
        (Sharing::Deploy, None) => start_deploy(node, name, configuration),
        _ => Place::NotHere,
    }
}

/// Opens this node's own copy. The note that it has one is on disk before the copy answers anybody (I7).
async fn open_own_copy(node: &Arc<Node>, name: &DatabaseName, configuration: &Configuration, store: Store) -> Place {
    let (directory, noted, uuid) = (Arc::clone(node), name.clone(), configuration.uuid);
    match blocking(move || directory.directory.note_held(&noted, uuid)).await {
        Ok(()) => open(node, configuration, store),
        Err(error) if error.is_disk_full() => no_space(node, name, &error),
        Err(error) => faulty(node, name, error.to_string()),
    }
}

const FORGOT: &str = "what this node has promised is gone with its copy: the folder is not there any more, or is another \
                      node's. It is removed from the configuration and deployed anew (or put the folder back and restart)";

/// Makes an empty store of this node's own, complete before it has its place.
pub(super) async fn create(node: &Arc<Node>, configuration: &Configuration) -> Result<Store, StorageError> {
    let (node, configuration) = (Arc::clone(node), configuration.clone());
    blocking(move || {
        let name = configuration.name.clone();
        node.directory.discard_staging(&name)?;
        let identity = StoreIdentity { database: configuration.uuid, name: name.clone() };
        let store = Store::create(&node.directory.staging_path(&name), &identity, &node.settings.store)?;
        sign(&store, node.id, &configuration)?;
        drop(store);
        node.directory.promote_staging(&name)?;
        Store::open(&node.directory.database_path(&name), &node.settings.store)
    })
    .await
}

/// Writes whose store this is and under which configuration.
pub fn sign(store: &Store, owner: NodeId, configuration: &Configuration) -> Result<(), StorageError> {
    let json = serde_json::to_vec(configuration).unwrap_or_default();
    store.append(LogRecord::Meta { name: META_OWNER.to_owned(), value: owner.to_string().into() })?;
    store.append(LogRecord::Meta { name: META_CONFIGURATION.to_owned(), value: json.into() })?;
    match store.take_batch() {
        Some(batch) => store.commit(&batch),
        None => Ok(()),
    }
}

/// Runs storage work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Damaged {
            path: std::path::PathBuf::new(),
            what: format!("storage work ended early: {error}"),
        }),
    }
}

type Copy = (Store, LocalCopy, Option<Configuration>);

async fn open_copy(node: &Arc<Node>, name: &DatabaseName) -> Result<Option<Copy>, StorageError> {
    let (node, name) = (Arc::clone(node), name.clone());
    blocking(move || {
        let path = node.directory.database_path(&name);
        if !path.exists() {
            return Ok(None);
        }
        let store = Store::open(&path, &node.settings.store)?;
        let owner =
            store.meta(META_OWNER).and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or_default();
        let configuration =
            store.meta(META_CONFIGURATION).and_then(|json| serde_json::from_slice::<Configuration>(&json).ok());
        let epoch = configuration.as_ref().map_or(0, |configuration| configuration.epoch);
        let deployed = is_deployed(&store);
        let copy = LocalCopy { uuid: store.identity().database, owner, epoch, deployed };
        Ok(Some((store, copy, configuration)))
    })
    .await
}

/// Whether it was copied from others and has not been aligned since.
fn is_deployed(store: &Store) -> bool {
    store.meta(META_DEPLOYED).is_some_and(|value| !value.is_empty())
}

fn open(node: &Arc<Node>, configuration: &Configuration, store: Store) -> Place {
    let new_disk = is_deployed(&store);
    let mut seed = [0u8; 8];
    // Back-off needs difference, not secrecy: the node's id does if the system has no randomness.
    let seed = getrandom::fill(&mut seed).map_or(node.id.0, |()| u64::from_ne_bytes(seed));
    let start = ReplicaStart {
        me: node.id,
        incarnation: node.incarnation,
        store: Arc::new(store),
        configuration: configuration.clone(),
        new_disk,
        seed,
    };
    let around = Surroundings {
        network: node.network.clone(),
        clock: node.clock,
        news: node.news.clone(),
        unreachable_after_ms: node.settings.unreachable_after_ms,
        databases_share_threads: node.settings.databases_share_threads,
    };
    match database_loop::spawn(configuration.uuid, start, around) {
        Ok(handle) => {
            node.set_route(configuration.uuid, Some(handle.clone()));
            let reachable: Vec<NodeId> = {
                let state = node.state();
                state.nodes.keys().copied().filter(|peer| *peer != node.id && state.detector.reaches(*peer)).collect()
            };
            for peer in reachable {
                let _ = handle.events.try_send(Event::Reachable { node: peer, reachable: true });
            }
            tracing::info!(database = %configuration.name, uuid = %configuration.uuid, epoch = configuration.epoch, new_disk, "open");
            Place::Open(handle)
        }
        Err(error) => faulty(node, &configuration.name, format!("its threads could not be started: {error}")),
    }
}

fn start_deploy(node: &Arc<Node>, name: &DatabaseName, configuration: &Configuration) -> Place {
    let (answers, inbox) = mpsc::channel(DEPLOY_ANSWERS_MAX);
    let state = DeployState { progress: Arc::new(Mutex::new(None)), answers, message: Arc::new(Mutex::new(None)) };
    let (node, name, configuration, shown) = (Arc::clone(node), name.clone(), configuration.clone(), state.clone());
    tokio::spawn(async move {
        let ended = deploy::run(&node, &name, &configuration, &shown, inbox).await;
        let place = match ended {
            Ok(()) => Place::NotHere,
            Err(reason) => {
                tracing::warn!(database = %name, %reason, "deploy ended early; it goes on where it stopped");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                Place::NotHere
            }
        };
        set_place(&node, &name, place);
        node.wake.notify_one();
    });
    Place::Deploying(state)
}

/// A donor reads a range, on a thread that may block, in one short read transaction.
pub(super) fn serve_range(node: &Arc<Node>, to: NodeId, database: DatabaseId, message: Message) {
    let (Some(handle), Message::RangeRequest { request, after, bytes_max }) = (node.route(database), message) else {
        return;
    };
    let node = Arc::clone(node);
    tokio::task::spawn_blocking(move || match deploy::read_range(&handle.store, request, after.as_ref(), bytes_max) {
        Ok(answer) => drop(node.network.send(to, database, answer)),
        Err(error) => tracing::error!(%database, %error, "a range could not be read for a deploy"),
    });
}

/// A range arrives for a deploy under way.
pub(super) fn take_range(node: &Node, from: NodeId, database: DatabaseId, message: Message) {
    let state = node.state();
    let deploying = state.databases.values().find_map(|known| match &known.place {
        Place::Deploying(deploy) if known.configuration.uuid == database => Some(deploy.answers.clone()),
        _ => None,
    });
    if let Some(answers) = deploying {
        let _ = answers.try_send((from, message));
    }
}
