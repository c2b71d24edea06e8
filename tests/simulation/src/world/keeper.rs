//! Gives the database its place on a node: opened, copied, set aside. The choice is `protocol::sharing` and
//! `protocol::auto_deploy`; the steps follow `replication::databases` and `replication::deploy`.

use super::disk::SimDisk;
use super::network::Payload;
use super::node::{Deploy, Open, Place};
use super::{Happening, World};
use crate::faults::FaultKind;
use crate::watch::Told;
use coequal_node::replication::copying::{META_OWNER, append_chosen, range_checksum, read_range, sign};
use coequal_node::replication::replica::{Event, META_CONFIGURATION, META_DEPLOYED, Replica, ReplicaStart};
use coequal_node::storage::{StorageError, Store};
use coequal_protocol::auto_deploy::{self, CopyProgress, DonorFailures};
use coequal_protocol::message::ChosenBody;
use coequal_protocol::sharing::{LocalCopy, Sharing, decide};
use coequal_protocol::{LogRecord, Message};
use coequal_types::{Configuration, DatabaseStatus, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;

const ANSWER_TIMEOUT_MS: u64 = 5_000;
/// Small, so that a copy takes several ranges.
const RANGE_BYTES_MAX: u32 = 600;

enum Step {
    Nothing,
    Tell(Configuration),
    Close,
    Look(Configuration),
}

impl World {
    /// Takes note of a configuration, if it is newer than what the node knows.
    pub(crate) fn note_configuration(&mut self, at: usize, configuration: &Configuration) {
        let node = &mut self.nodes[at];
        if node.configuration.as_ref().is_none_or(|known| configuration.epoch > known.epoch) {
            node.configuration = Some(configuration.clone());
        }
    }

    /// One look at the database's place.
    pub(super) fn keep(&mut self, at: usize) {
        let Some(configuration) = self.nodes[at].configuration.clone() else { return };
        match self.next_step(at, configuration) {
            Step::Nothing => {}
            Step::Tell(configuration) => {
                self.nodes[at].inbox.push(Event::Configuration(Box::new(configuration)));
                self.wake(at, 0);
            }
            Step::Close => self.close(at),
            Step::Look(configuration) => self.look(at, &configuration),
        }
        self.step_deploy(at);
    }

    fn next_step(&mut self, at: usize, configuration: Configuration) -> Step {
        let namesake = self.namesake.as_ref().is_some_and(|namesake| namesake.is_at(at));
        let node = &mut self.nodes[at];
        let me = node.id;
        let member = configuration.is_member(me) && !configuration.dropped;
        let joined = configuration.joined.get(&me).copied().unwrap_or(0);
        match &mut node.place {
            Place::Deploying(_) => Step::Nothing,
            Place::Open(open) => {
                if let Some(newer) = open.replica.superseded().filter(|newer| newer.epoch >= configuration.epoch) {
                    node.configuration = Some(newer.clone());
                    return Step::Close;
                }
                let (epoch, _) = open.replica.epochs();
                if epoch > configuration.epoch {
                    node.configuration = Some(open.replica.configuration().clone());
                    return Step::Nothing;
                }
                if !member || epoch < joined {
                    return Step::Close;
                }
                if epoch < configuration.epoch { Step::Tell(configuration) } else { Step::Nothing }
            }
            Place::Faulty { epoch, .. } if member && joined <= *epoch => Step::Nothing,
            Place::Faulty { .. } => {
                node.volume.folder = None;
                node.place = Place::NotHere;
                Step::Nothing
            }
            Place::NotHere if !member && (namesake || node.volume.folder.is_none()) => Step::Nothing,
            Place::NotHere | Place::Conflict => Step::Look(configuration),
        }
    }

    /// Closes the copy and sets it aside: this node does not hold it any more.
    fn close(&mut self, at: usize) {
        self.fail_calls_at(at);
        let node = &mut self.nodes[at];
        node.place = Place::NotHere;
        node.volume.folder = None;
        node.inbox.clear();
        self.watch_forget(at);
    }

    fn faulty(&mut self, at: usize, reason: String) {
        let epoch = self.nodes[at].configuration.as_ref().map_or(0, |known| known.epoch);
        self.trace(|| format!("node {at} FAULTY: {reason}"));
        self.statistics.count(FaultKind::CopyRefused);
        self.nodes[at].place = Place::Faulty { reason, epoch };
    }

    /// What the node's own copy knows, before anybody is reached. A node closes it and opens it again; here that is done
    /// at every fourth start, which is enough for what it may bring to light.
    pub(super) fn open_own(&mut self, at: usize) {
        let Ok(Some((store, copy, Some(configuration)))) = self.open_copy(at) else { return };
        if copy.owner == self.nodes[at].id {
            self.note_configuration(at, &configuration);
        }
        if !self.nodes[at].process.is_multiple_of(4) {
            self.nodes[at].opened = Some((store, copy));
        }
    }

    fn open_copy(&self, at: usize) -> Result<Option<(Store, LocalCopy, Option<Configuration>)>, StorageError> {
        let Some(folder) = self.nodes[at].volume.folder.clone() else { return Ok(None) };
        let store = Store::open_with(Arc::new(folder), &self.plan.store)?;
        let owner =
            store.meta(META_OWNER).and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or_default();
        let configuration =
            store.meta(META_CONFIGURATION).and_then(|json| serde_json::from_slice::<Configuration>(&json).ok());
        let epoch = configuration.as_ref().map_or(0, |configuration| configuration.epoch);
        let deployed = store.meta(META_DEPLOYED).is_some_and(|value| !value.is_empty());
        let copy = LocalCopy { uuid: store.identity().database, owner, epoch, deployed };
        Ok(Some((store, copy, configuration)))
    }

    fn look(&mut self, at: usize, configuration: &Configuration) {
        let opened = match self.nodes[at].opened.take() {
            Some(own) => Ok(Some(own)),
            None => self.open_copy(at).map(|found| found.map(|(store, copy, _)| (store, copy))),
        };
        let opened = match opened {
            Ok(opened) => opened,
            // A full disk is no damage: it is tried again at the next look.
            Err(error) if error.is_disk_full() => return,
            Err(error) => return self.faulty(at, error.to_string()),
        };
        let (store, copy) = opened.unzip();
        match (decide(self.nodes[at].id, configuration, copy, self.nodes[at].volume.held), store) {
            (Sharing::Replicate, Some(store)) => {
                self.nodes[at].volume.held = true;
                self.open(at, configuration, store);
            }
            (Sharing::HeadStart, Some(store)) => {
                if let Err(error) = self.head_start(at, configuration, &store) {
                    self.faulty(at, error.to_string());
                }
            }
            (Sharing::SetAside { .. }, _) => {
                self.nodes[at].volume.folder = None;
                self.nodes[at].volume.held = false;
            }
            (Sharing::Deploy, None) => self.start_deploy(at, configuration),
            (Sharing::Conflict, Some(_)) => {
                if !matches!(self.nodes[at].place, Place::Conflict) {
                    self.trace(|| format!("node {at} CONFLICT"));
                    self.statistics.count(FaultKind::NamesakeInConflict);
                }
                self.nodes[at].place = Place::Conflict;
            }
            (Sharing::Forgot, _) => self.faulty(at, "what this node has promised is gone with its copy".to_owned()),
            _ => {}
        }
    }

    fn start_deploy(&mut self, at: usize, configuration: &Configuration) {
        match self.make_store() {
            Ok((disk, store)) => {
                self.nodes[at].volume.staging = Some(disk);
                let (store, progress) = (Arc::new(store), CopyProgress::default());
                let joined = joined_at(configuration, self.nodes[at].id);
                let failures = DonorFailures::default();
                let deploy = Deploy { store, joined, progress, request: 0, deadline_ms: 0, asked: None, failures };
                self.statistics.count(FaultKind::Deployed);
                self.nodes[at].place = Place::Deploying(Box::new(deploy));
            }
            Err(error) => self.faulty(at, error.to_string()),
        }
    }

    fn make_store(&mut self) -> Result<(SimDisk, Store), StorageError> {
        let disk = SimDisk::default();
        let number = self.random.number();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let store = Store::create_as(Arc::new(disk.clone()), &self.identity, &self.plan.store, id, number | 1 << 63)?;
        Ok((disk, store))
    }

    /// A folder of another node: its chosen revisions are a beginning, its promises are left behind.
    fn head_start(&mut self, at: usize, configuration: &Configuration, copied: &Store) -> Result<(), StorageError> {
        if !knows_what_is_collected(copied, configuration) {
            self.nodes[at].volume.folder = None;
            return Ok(());
        }
        let (disk, store) = self.make_store()?;
        for body in copied.scan(None, b"", usize::MAX, usize::MAX)? {
            append_chosen(&store, body)?;
        }
        store.append(LogRecord::Meta { name: META_DEPLOYED.to_owned(), value: bytes::Bytes::from_static(b"1") })?;
        sign(&store, self.nodes[at].id, configuration)?;
        self.nodes[at].volume.folder = Some(disk);
        Ok(())
    }

    fn open(&mut self, at: usize, configuration: &Configuration, store: Store) {
        let new_disk = store.meta(META_DEPLOYED).is_some_and(|value| !value.is_empty());
        let seed = self.random.number();
        let store = Arc::new(store);
        self.watch_log(at, store.feed_id(), store.durable());
        let node = &mut self.nodes[at];
        let start = ReplicaStart {
            me: node.id,
            incarnation: node.volume.incarnation,
            store: Arc::clone(&store),
            configuration: configuration.clone(),
            new_disk,
            seed,
        };
        let replica = Replica::new(start, node.clock.now(self.now_us));
        let reached: Vec<NodeId> =
            node.entries.iter().map(|entry| entry.id).filter(|peer| node.detector.reaches(*peer)).collect();
        node.inbox.extend(reached.into_iter().map(|node| Event::Reachable { node, reachable: true }));
        let open = Open {
            replica,
            opened_at: store.durable(),
            store,
            wanted: false,
            committing: None,
            committed_ms: 0,
            full: false,
            readings: VecDeque::new(),
            told: Told::default(),
        };
        node.place = Place::Open(Box::new(open));
        self.watch_opened(at);
        self.wake(at, 0);
    }

    /// Asks a donor for the next range, when it is time.
    fn step_deploy(&mut self, at: usize) {
        let now_ms = self.nodes[at].clock.now(self.now_us).monotonic_ms;
        let Some(configuration) = self.nodes[at].configuration.clone() else { return };
        let donors = self.online_peers(at, &configuration);
        let node = &mut self.nodes[at];
        let me = node.id;
        let Place::Deploying(deploy) = &mut node.place else { return };
        if !configuration.is_member(me) || deploy.joined != joined_at(&configuration, me) {
            node.place = Place::NotHere;
            node.volume.staging = None;
            return;
        }
        if deploy.asked.is_some() && now_ms < deploy.deadline_ms {
            return;
        }
        if let Some(silent) = deploy.asked {
            deploy.failures.was_silent(silent);
        }
        deploy.asked = auto_deploy::choose_donor(deploy.progress.donor, &donors, &deploy.failures);
        deploy.request += 1;
        deploy.deadline_ms = now_ms + ANSWER_TIMEOUT_MS;
        if let Some(donor) = deploy.asked {
            let (request, after) = (deploy.request, deploy.progress.after.clone());
            let message = Message::RangeRequest { request, after, bytes_max: RANGE_BYTES_MAX };
            self.send(at, donor, Payload::Message(message));
        }
    }

    fn online_peers(&self, at: usize, configuration: &Configuration) -> Vec<NodeId> {
        let node = &self.nodes[at];
        let online = |donor: &NodeId| {
            node.detector.reaches(*donor)
                && node.reports.get(donor).is_some_and(|(report, _)| report.status == DatabaseStatus::Online)
        };
        configuration.all_voters().into_iter().filter(|donor| *donor != node.id && online(donor)).collect()
    }

    /// A donor answers.
    pub(super) fn serve_range(&mut self, at: usize, to: NodeId, message: &Message) {
        let Message::RangeRequest { request, after, bytes_max } = message else { return };
        let Some(open) = self.nodes[at].open() else { return };
        if let Ok(answer) = read_range(&open.store, *request, after.as_ref(), *bytes_max) {
            self.send(at, to, Payload::Message(answer));
        }
    }

    /// A range arrives.
    pub(super) fn take_range(&mut self, at: usize, from: NodeId, message: Message) {
        let Message::RangeAnswer { request, position, bodies, done, checksum, .. } = message else { return };
        let node = &mut self.nodes[at];
        let Place::Deploying(deploy) = &mut node.place else { return };
        if deploy.asked != Some(from) || deploy.request != request || checksum != range_checksum(&bodies) {
            return;
        }
        deploy.asked = None;
        deploy.failures.gave(from);
        deploy.progress.take_range(from, position);
        let written = if done { Ok(()) } else { write_range(deploy, bodies) };
        if let Err(error) = written {
            return self.faulty(at, error.to_string());
        }
        if done {
            self.finish_deploy(at);
        }
        let process = self.nodes[at].process;
        self.schedule(500, Happening::Keep { node: at, process });
    }

    fn finish_deploy(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Place::Deploying(deploy) = std::mem::replace(&mut node.place, Place::NotHere) else { return };
        let Some(configuration) = node.configuration.clone() else { return };
        let finish = || -> Result<(), StorageError> {
            let value = bytes::Bytes::from_static(b"1");
            deploy.store.append(LogRecord::Meta { name: META_DEPLOYED.to_owned(), value })?;
            for (source, feed, sequence) in deploy.progress.cursors(node.id) {
                deploy.store.append(LogRecord::Cursor { source, feed, sequence })?;
            }
            sign(&deploy.store, node.id, &configuration)
        };
        match finish() {
            Ok(()) => {
                drop(deploy);
                node.volume.folder = node.volume.staging.take();
            }
            Err(error) => self.faulty(at, error.to_string()),
        }
    }
}

fn joined_at(configuration: &Configuration, node: NodeId) -> u64 {
    configuration.joined.get(&node).copied().unwrap_or(0)
}

/// Whether a folder was copied when nothing had been collected that it might still hold alive.
fn knows_what_is_collected(copied: &Store, configuration: &Configuration) -> bool {
    let theirs = copied.meta(META_CONFIGURATION).and_then(|json| serde_json::from_slice::<Configuration>(&json).ok());
    theirs.map_or(0, |theirs| theirs.low_bound.collected) == configuration.low_bound.collected
}

fn write_range(deploy: &mut Deploy, bodies: Vec<ChosenBody>) -> Result<(), StorageError> {
    for body in bodies {
        deploy.progress.add(&body.key, body.revision.body.as_ref().map_or(0, bytes::Bytes::len));
        append_chosen(&deploy.store, body)?;
    }
    if let Some(batch) = deploy.store.take_batch() {
        deploy.store.commit(&batch)?;
    }
    if deploy.store.checkpoint_due() {
        deploy.store.checkpoint()?;
    }
    Ok(())
}
