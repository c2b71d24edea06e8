//! What one database can do for clients on this node.

use super::database_loop::ReplicaHandle;
use super::error::ServiceError;
use super::node::Node;
use super::replica::{ClientRead, ClientWrite, Event};
use super::service::{ChangeCursor, ChangeEntry, Consistency, Page, ReadDocument, Written, seconds};
use super::system::{overloaded, submit};
use super::tombstones;
use crate::storage::StorageError;
use bytes::Bytes;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::key::COLLECTIONS;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::session::may_answer;
use coequal_protocol::{Ballot, Held, Key};
use coequal_types::rest::{DatabaseDescription, ReplicaView, ReplicationDescription, Role};
use coequal_types::{
    CollectionName, Configuration, DatabaseId, DatabaseName, DatabaseSettings, DatabaseStatus, NodeId, ReadQuorum,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const CHANGES_MAX: usize = 4096;
/// Above this many times its setting, the overlay makes writers wait for the checkpoint.
const PRESSURE_MAX: f32 = 2.0;
const PRESSURE_PAUSE: Duration = Duration::from_millis(5);

/// One database on this node.
#[derive(Clone)]
pub struct DatabaseService {
    pub(super) node: Arc<Node>,
    pub(super) name: DatabaseName,
    pub(super) uuid: DatabaseId,
    pub(super) handle: Option<ReplicaHandle>,
}

impl DatabaseService {
    /// Name of the database.
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// Identity of the database.
    pub fn uuid(&self) -> DatabaseId {
        self.uuid
    }

    /// Its status on this node.
    pub fn status(&self) -> DatabaseStatus {
        self.node.state().databases.get(&self.name).map_or(DatabaseStatus::NotAvailable, |known| known.status().0)
    }

    fn configuration(&self) -> Option<Configuration> {
        super::caretaker::newest(&self.node.state(), &self.name)
    }

    /// Its settings.
    pub fn settings(&self) -> DatabaseSettings {
        self.configuration().map(|configuration| configuration.settings).unwrap_or_default()
    }

    /// The database as this node sees it.
    pub fn describe(&self) -> DatabaseDescription {
        let configuration = self.configuration();
        let (status, progress, message) = {
            let state = self.node.state();
            state.databases.get(&self.name).map_or((DatabaseStatus::NotAvailable, None, None), |known| known.status())
        };
        let counts = self.handle.as_ref().map(|handle| handle.store.counts());
        DatabaseDescription {
            name: self.name.clone(),
            uuid: self.uuid,
            epoch: configuration.as_ref().map_or(0, |configuration| configuration.epoch),
            configuration: configuration.map(|configuration| configuration.settings).unwrap_or_default(),
            status,
            progress,
            message,
            documents: counts.as_ref().map_or(0, |counts| counts.documents),
            tombstones: counts.as_ref().map_or(0, |counts| counts.tombstones),
        }
    }

    /// Every replica as this node sees it, with its durable queue here.
    pub fn replication(&self) -> ReplicationDescription {
        let configuration = self.configuration();
        let view = self.handle.as_ref().map(ReplicaHandle::view);
        let counts = self.handle.as_ref().map(|handle| handle.store.counts());
        let bound = counts.map_or(0, |counts| counts.documents + counts.tombstones);
        let description = self.describe();
        let now_ms = self.node.now_ms();
        let state = self.node.state();
        let nodes = state.nodes.values().filter(|entry| !entry.removed).map(|entry| {
            let me = entry.id == self.node.id;
            let reachable = me || state.detector.reaches(entry.id);
            let report = state.reports.get(&entry.id).filter(|_| reachable).map(|(report, _)| report);
            let theirs = report.and_then(|r| r.databases.iter().find(|database| database.uuid == self.uuid));
            let role = role_of(configuration.as_ref(), entry.id);
            let heard = state.detector.contact(entry.id).map(|contact| now_ms.saturating_sub(contact.heard_ms));
            ReplicaView {
                node: entry.id,
                name: entry.name.clone(),
                role,
                status: match (me, reachable, theirs) {
                    (true, ..) => description.status,
                    (false, true, Some(theirs)) => theirs.status,
                    (false, true, None) => DatabaseStatus::NotAvailable,
                    (false, false, _) => DatabaseStatus::Offline,
                },
                progress: if me { description.progress } else { theirs.and_then(|theirs| theirs.progress) },
                reachable,
                last_contact_seconds: if me { Some(0.0) } else { heard.map(seconds) },
                backlog_entries: view.as_ref().and_then(|view| view.backlog.get(&entry.id).copied()).unwrap_or(0),
                backlog_bound_entries: bound,
            }
        });
        ReplicationDescription {
            name: self.name.clone(),
            uuid: self.uuid,
            epoch: description.epoch,
            changing: configuration.as_ref().is_some_and(|configuration| configuration.joint_with.is_some()),
            node: self.node.id,
            status: description.status,
            progress: description.progress,
            aligned: view.as_ref().and_then(|view| view.aligned.clone()),
            nodes: nodes.collect(),
            tombstone_collection: configuration
                .as_ref()
                .map(|configuration| tombstones::describe(&self.node, &state, configuration))
                .unwrap_or_default(),
        }
    }

    /// The open replica, or why there is none.
    pub(super) fn replica(&self) -> Result<&ReplicaHandle, ServiceError> {
        if let Some(handle) = &self.handle {
            return Ok(handle);
        }
        let (status, progress, message) = {
            let state = self.node.state();
            state.databases.get(&self.name).map_or((DatabaseStatus::NotAvailable, None, None), |known| known.status())
        };
        Err(match status {
            DatabaseStatus::Conflict => ServiceError::NameConflict(message.unwrap_or_default()),
            DatabaseStatus::Faulty => {
                ServiceError::Faulty { name: self.name.clone(), reason: message.unwrap_or_default() }
            }
            DatabaseStatus::Synchronizing => ServiceError::Synchronizing { name: self.name.clone(), status, progress },
            _ => ServiceError::DatabaseNotAvailable(self.name.clone(), self.node.id),
        })
    }

    /// The open replica, if it may answer local reads.
    fn local(&self) -> Result<&ReplicaHandle, ServiceError> {
        let handle = self.replica()?;
        let view = handle.view();
        if view.status == DatabaseStatus::Faulty {
            return Err(ServiceError::Faulty {
                name: self.name.clone(),
                reason: view.message.clone().unwrap_or_default(),
            });
        }
        let silent_ms = self.node.now_ms().saturating_sub(handle.awake_ms());
        let serves = view.status.serves_local_reads() && silent_ms <= self.node.settings.unreachable_after_ms;
        if !serves && !broken(Fault::LocalReadWhileSynchronizing) {
            return Err(ServiceError::Synchronizing {
                name: self.name.clone(),
                status: view.status,
                progress: view.progress,
            });
        }
        Ok(handle)
    }

    /// One write. `generated` says that the key was made by `generate_key` for this very write.
    pub async fn write(
        &self,
        key: Key,
        operation: Operation,
        generated: bool,
        deadline: Instant,
    ) -> Result<Written, ServiceError> {
        let handle = self.replica()?;
        self.wait_for_room(handle, deadline).await?;
        self.ensure_collection(handle, key.collection(), deadline).await?;
        submit(handle, key, operation, generated, self.node.clock.deadline_ms(deadline)).await
    }

    /// Many writes, each its own atomic unit, under way at once; results in the order of the writes. Writes of one
    /// document are applied in their order.
    async fn write_many(&self, writes: Vec<(Key, Operation)>, deadline: Instant) -> Vec<Result<Written, ServiceError>> {
        let deadline_ms = self.node.clock.deadline_ms(deadline);
        let ready = self.ready_for(&writes, deadline).await;
        let handle = match ready {
            Ok(handle) => handle,
            Err(error) => return writes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut answers = Vec::with_capacity(writes.len());
        for (key, operation) in writes {
            let (sender, receiver) = oneshot::channel();
            let reply = Box::new(move |result| drop(sender.send(result)));
            let event = Event::Write(ClientWrite { key, operation, generated: false, deadline_ms, reply });
            answers.push(handle.lines.try_send(event).map(|()| receiver).map_err(|_| overloaded()));
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(match answer {
                Ok(receiver) => receiver.await.unwrap_or(Err(ServiceError::ShuttingDown)),
                Err(error) => Err(error),
            });
        }
        results
    }

    /// The same for a window of a batch, in turn with other batches' windows, for which it waits a minute at most; its deadline is
    /// `time` after its turn came.
    pub async fn write_in_turn(
        &self,
        writes: Vec<(Key, Operation)>,
        time: Duration,
    ) -> Vec<Result<Written, ServiceError>> {
        let turns = match self.replica() {
            Ok(handle) => handle.turns.clone(),
            Err(error) => return vec![Err(error); writes.len()],
        };
        let bytes = writes.iter().map(|(key, operation)| key.as_bytes().len() + operation.kind.bytes()).sum();
        turns.take((writes.len(), bytes), || self.write_many(writes, Instant::now() + time)).await
    }

    async fn ready_for(&self, writes: &[(Key, Operation)], deadline: Instant) -> Result<&ReplicaHandle, ServiceError> {
        let handle = self.replica()?;
        self.wait_for_room(handle, deadline).await?;
        let mut seen = "";
        for (key, _) in writes {
            if key.collection() != seen {
                seen = key.collection();
                self.ensure_collection(handle, seen, deadline).await?;
            }
        }
        Ok(handle)
    }

    /// Waits while the overlay is far above its bound: writers go at the speed of the checkpoints then.
    async fn wait_for_room(&self, handle: &ReplicaHandle, deadline: Instant) -> Result<(), ServiceError> {
        while handle.store.overlay_pressure() > PRESSURE_MAX {
            if Instant::now() >= deadline {
                return Err(ServiceError::Overloaded {
                    what: "memory for writes that are not in a checkpoint yet",
                    limit: self.node.settings.store.overlay_bytes as u64,
                });
            }
            tokio::time::sleep(PRESSURE_PAUSE).await;
        }
        Ok(())
    }

    /// A first write creates its collection.
    async fn ensure_collection(
        &self,
        handle: &ReplicaHandle,
        collection: &str,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        if self.collection_exists(handle, collection)? {
            return Ok(());
        }
        self.put_collection(handle, collection, deadline).await.map(drop)
    }

    fn collection_exists(&self, handle: &ReplicaHandle, collection: &str) -> Result<bool, ServiceError> {
        let held = handle.store.chosen(&Key::of(COLLECTIONS, collection)).map_err(|e| self.storage_error(&e))?;
        Ok(held.is_some_and(|held| !held.revision.is_tombstone()))
    }

    async fn put_collection(
        &self,
        handle: &ReplicaHandle,
        collection: &str,
        deadline: Instant,
    ) -> Result<bool, ServiceError> {
        let kind = OperationKind::Create(Bytes::from_static(b"{}"));
        let operation = Operation { kind, condition: Condition::Any, request: None };
        let key = Key::of(COLLECTIONS, collection);
        match submit(handle, key, operation, false, self.node.clock.deadline_ms(deadline)).await {
            Ok(_) => Ok(true),
            Err(ServiceError::Rejected(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn storage_error(&self, error: &StorageError) -> ServiceError {
        if matches!(error, StorageError::DiskFull { .. }) {
            return ServiceError::DiskFull;
        }
        ServiceError::Faulty { name: self.name.clone(), reason: error.to_string() }
    }

    /// `None` for a document that does not exist or is deleted. `session`: the newest stamp that the client has seen.
    pub async fn read(
        &self,
        key: &Key,
        consistency: Consistency,
        session: Option<Ballot>,
        deadline: Instant,
    ) -> Result<Option<ReadDocument>, ServiceError> {
        let linearizable = match consistency {
            Consistency::Linearizable => true,
            Consistency::Local => false,
            Consistency::Default => self.settings().read_quorum == ReadQuorum::Majority,
        };
        if !linearizable {
            let handle = self.local()?;
            // Before it is read: what becomes known in between makes the answer no younger.
            let fresh_ms = handle.view().fresh_ms;
            let held = handle.store.chosen(key).map_err(|e| self.storage_error(&e))?;
            if may_answer(held.as_ref(), session) {
                let age_ms = fresh_ms.map(|fresh_ms| self.node.now_ms().saturating_sub(fresh_ms));
                return Ok(document(held, false).map(|found| ReadDocument { age_ms, ..found }));
            }
            // Behind the session's token, or not touched since: a majority knows (G3).
        }
        let handle = self.replica()?;
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |result| drop(sender.send(result)));
        let deadline_ms = self.node.clock.deadline_ms(deadline);
        let event = Event::Read(ClientRead { key: key.clone(), deadline_ms, reply });
        handle.events.try_send(event).map_err(|_| overloaded())?;
        let held: Option<Held> = receiver.await.map_err(|_| ServiceError::ShuttingDown)??;
        Ok(document(held, true))
    }

    /// Live documents of a collection, local, in key order, behind `after`, whose key begins with `prefix`.
    pub async fn page(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<Key>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, ServiceError> {
        let store = Arc::clone(&self.local()?.store);
        let prefix = Key::of(collection.as_str(), prefix);
        let read = move || {
            let mut page = Page::default();
            let (mut after, mut bytes) = (after, 0);
            loop {
                let found = store.scan(after.as_ref(), prefix.as_bytes(), (limit + 1).max(64), bytes_max)?;
                let Some(last) = found.last() else { return Ok(page) };
                after = Some(last.key.clone());
                for body in found {
                    if body.revision.is_tombstone() {
                        continue;
                    }
                    if page.documents.len() >= limit || bytes >= bytes_max {
                        page.next_after = page.documents.last().map(|(key, _): &(Key, _)| key.clone());
                        return Ok(page);
                    }
                    bytes += body.revision.body.as_ref().map_or(0, Bytes::len);
                    page.documents.push((body.key, body.revision));
                }
            }
        };
        super::databases::blocking(read).await.map_err(|e| self.storage_error(&e))
    }

    /// Changes behind `after` (`None`: from the beginning), oldest first. `CursorVoid` for a cursor of another feed.
    pub async fn changes(&self, after: Option<ChangeCursor>, limit: usize) -> Result<Vec<ChangeEntry>, ServiceError> {
        let store = Arc::clone(&self.local()?.store);
        let feed = store.feed_id();
        if let Some(cursor) = after.filter(|cursor| cursor.feed != feed) {
            let text = format!("it belongs to feed {:x}, this node's feed of the database is {feed:x}", cursor.feed);
            return Err(ServiceError::CursorVoid(text));
        }
        let read = move || {
            let mut entries = Vec::new();
            let mut from = after.map_or(0, |cursor| cursor.sequence);
            loop {
                let found = store.feed_after(from, limit.min(CHANGES_MAX))?;
                let Some((last, _)) = found.last() else { return Ok(entries) };
                from = *last;
                for (sequence, key) in found {
                    // The node's own collections are not part of what users see.
                    if let Some(held) = store.chosen(&key)?.filter(|_| !key.collection().starts_with('_')) {
                        entries.push(ChangeEntry {
                            cursor: ChangeCursor { feed, sequence },
                            key,
                            revision: held.revision,
                        });
                    }
                }
                if !entries.is_empty() {
                    return Ok(entries);
                }
            }
        };
        super::databases::blocking(read).await.map_err(|e| self.storage_error(&e))
    }

    /// Returns when the feed has something behind `after`, or at the deadline.
    pub async fn wait_for_change(&self, after: Option<ChangeCursor>, deadline: Instant) {
        let Some(handle) = &self.handle else { return };
        let mut head = handle.head.clone();
        let behind = after.map_or(0, |cursor| cursor.sequence);
        let _ = tokio::time::timeout_at(deadline.into(), head.wait_for(|head| *head > behind)).await;
    }

    /// Names in order.
    pub async fn collections(&self) -> Result<Vec<String>, ServiceError> {
        let store = Arc::clone(&self.local()?.store);
        let prefix = Key::of(COLLECTIONS, "");
        let read = move || {
            let (mut names, mut after) = (Vec::new(), None);
            loop {
                let found = store.scan(after.as_ref(), prefix.as_bytes(), 1024, 1 << 20)?;
                let Some(last) = found.last() else { return Ok(names) };
                after = Some(last.key.clone());
                names.extend(
                    found.iter().filter(|b| !b.revision.is_tombstone()).map(|b| b.key.document_key().to_owned()),
                );
            }
        };
        super::databases::blocking(read).await.map_err(|e| self.storage_error(&e))
    }

    /// True when it was created by this call.
    pub async fn create_collection(&self, name: &CollectionName, deadline: Instant) -> Result<bool, ServiceError> {
        let handle = self.replica()?;
        self.put_collection(handle, name.as_str(), deadline).await
    }

    /// Removes an empty collection; with `documents`, deletes its documents first (each by its own tombstone).
    pub async fn delete_collection(
        &self,
        name: &CollectionName,
        documents: bool,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let handle = self.local()?;
        if !self.collection_exists(handle, name.as_str())? {
            return Err(ServiceError::NotFound(format!("collection {name} does not exist in database {}", self.name)));
        }
        loop {
            let page = self.page(name, "", None, 256, 1 << 20).await?;
            if page.documents.is_empty() {
                break;
            }
            if !documents {
                return Err(ServiceError::Conflict(format!(
                    "collection {name} is not empty; add ?documents=true to delete its documents with it"
                )));
            }
            let delete = |(key, _): (Key, _)| {
                (key, Operation { kind: OperationKind::Delete, condition: Condition::Any, request: None })
            };
            for result in self.write_many(page.documents.into_iter().map(delete).collect(), deadline).await {
                match result {
                    Ok(_) | Err(ServiceError::Rejected(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let operation = Operation { kind: OperationKind::Delete, condition: Condition::Any, request: None };
        let key = Key::of(COLLECTIONS, name.as_str());
        match submit(handle, key, operation, false, self.node.clock.deadline_ms(deadline)).await {
            Ok(_) | Err(ServiceError::Rejected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn document(held: Option<Held>, linearizable: bool) -> Option<ReadDocument> {
    held.filter(|held| !held.revision.is_tombstone()).map(|held| ReadDocument {
        revision: held.revision,
        linearizable,
        age_ms: None,
    })
}

fn role_of(configuration: Option<&Configuration>, node: NodeId) -> Role {
    match configuration {
        Some(configuration) if configuration.is_voter(node) => Role::Voter,
        Some(configuration) if configuration.is_member(node) => Role::Learner,
        _ => Role::None,
    }
}

#[cfg(test)]
#[path = "database_service_test.rs"]
mod tests;
