//! One loop for each database: events in, one step after the other, effects out. It has a thread of its own, or shares the
//! one that serves clients where there is only that. Another thread commits the log, so that the next batch gathers while the
//! last one is on its way to the disk (group commit).

use super::clock::NodeClock;
use super::priority::yield_to_writers;
use super::replica::{Event, Replica, ReplicaStart, ReplicaView};
use super::window_turns::WindowTurns;
use crate::network::Network;
use crate::storage::{Lsn, StorageError, Store};
use coequal_protocol::Message;
use coequal_types::{DatabaseId, DatabaseStatus, NodeId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Events that may wait for a database; beyond that clients get "too many at once" and peers' messages are lost.
pub const EVENTS_MAX: usize = 65_536;
const EVENTS_AT_ONCE: usize = 1_024;
/// Events between two looks at the clock; they take well below a millisecond.
const EVENTS_PER_LOOK: usize = 32;
/// After so many milliseconds with the events of one look, others of the same thread have their turn.
const TURN_MS: u64 = 5;
/// Lines of batches that are begun between two looks at everything else, so that a single write does not wait for
/// whole windows of an import.
const LINES_AT_ONCE: usize = 32;
/// Records that nobody waits for go to the disk after this long at the latest.
const LAZY_COMMIT_MS: u64 = 25;
/// A log to which nothing came for so long has fallen idle.
const LOG_IDLE: Duration = Duration::from_millis(LAZY_COMMIT_MS);
const VIEW_EVERY_MS: u64 = 100;
/// Bounds of the pause after which a loop without events shows that it is there.
const SIGN_OF_LIFE_MS: (u64, u64) = (25, 250);
const DISK_FULL_RETRY: Duration = Duration::from_millis(500);

/// Counters of one database, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commits of the log.
    pub commits: AtomicU64,
    /// Time spent in them, in microseconds.
    pub commit_micros: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Changes of status.
    pub status_changes: AtomicU64,
    /// Chosen revisions that became known here.
    pub learned: AtomicU64,
}

/// Wakes the node's own tasks: counts what concerns them.
pub type News = watch::Sender<u64>;

/// The door to a running database.
#[derive(Clone)]
pub struct ReplicaHandle {
    /// Where events go.
    pub events: mpsc::Sender<Event>,
    /// Where the writes of batches go: a lane of their own, which holds up no other event.
    pub lines: mpsc::Sender<Event>,
    /// In what order windows of batches are written.
    pub turns: WindowTurns,
    /// Its store, for reads.
    pub store: Arc<Store>,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// The feed's head, as it moves.
    pub head: watch::Receiver<u64>,
    view: Arc<RwLock<Arc<ReplicaView>>>,
    awake_ms: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    finished: watch::Receiver<bool>,
}

impl ReplicaHandle {
    /// What it looked like: within the last tenth of a second while anything is under way, else within the last quarter.
    pub fn view(&self) -> Arc<ReplicaView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the loop was last awake, in monotonic milliseconds: a process that stood still finds out here before the loop
    /// does. It wakes several times within the silence that a peer may keep.
    pub fn awake_ms(&self) -> u64 {
        self.awake_ms.load(Ordering::Relaxed)
    }

    /// Ends the loop after a last commit, and waits for it.
    pub async fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.events.try_send(Event::Tick);
        let mut finished = self.finished.clone();
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

struct Shared {
    view: Arc<RwLock<Arc<ReplicaView>>>,
    awake_ms: Arc<AtomicU64>,
    news: News,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    head: watch::Sender<u64>,
    checkpointing: Arc<AtomicBool>,
}

/// What a database's loop shares with the rest of its node.
pub struct Surroundings {
    /// To its peers.
    pub network: Network,
    /// The node's clocks.
    pub clock: NodeClock,
    /// Counts up when something here concerns the node: a status, an epoch, a document of the system database.
    pub news: News,
    /// Silence after which a peer counts as unreachable, in milliseconds.
    pub unreachable_after_ms: u64,
    /// Whether the loop is a task of the caller's runtime instead of a thread of its own; outside of one, starting it panics.
    pub databases_share_threads: bool,
}

/// Starts a database's loop, and the thread of its log.
pub fn spawn(database: DatabaseId, start: ReplicaStart, around: Surroundings) -> std::io::Result<ReplicaHandle> {
    let Surroundings { network, clock, news, unreachable_after_ms, databases_share_threads } = around;
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let (lines, bulk) = mpsc::channel(EVENTS_MAX);
    let (durable_sender, durable) = mpsc::unbounded_channel();
    let (finished_sender, finished) = watch::channel(false);
    let store = Arc::clone(&start.store);
    let counters = Arc::new(Counters::default());
    let replica = Replica::new(start, clock.now());
    let (head_sender, head) = watch::channel(store.feed_head());
    let view = Arc::new(RwLock::new(Arc::new(replica.view())));
    let stop = Arc::new(AtomicBool::new(false));
    let awake_ms = Arc::new(AtomicU64::new(clock.now().monotonic_ms));
    let shared = Shared {
        view: Arc::clone(&view),
        awake_ms: Arc::clone(&awake_ms),
        news,
        stop: Arc::clone(&stop),
        counters: Arc::clone(&counters),
        head: head_sender,
        checkpointing: Arc::new(AtomicBool::new(false)),
    };
    let name = replica.configuration().name.to_string();
    let committer = spawn_committer(&name, Arc::clone(&store), Arc::clone(&counters), durable_sender)?;
    let run = DatabaseLoop {
        database,
        replica,
        store: Arc::clone(&store),
        network,
        clock,
        shared,
        committer: Some(committer),
        committing: false,
        committed_ms: 0,
        viewed_ms: 0,
        unseen: true,
        told: Told::default(),
        databases_share_threads,
        sign_of_life_ms: (unreachable_after_ms / 4).clamp(SIGN_OF_LIFE_MS.0, SIGN_OF_LIFE_MS.1),
    };
    let running = async move {
        run.run(Inbox { events: inbox, lines: bulk }, durable).await;
        let _ = finished_sender.send(true);
    };
    if databases_share_threads {
        tokio::spawn(running);
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name(format!("db-{name}")).spawn(move || runtime.block_on(running))?;
    }
    Ok(ReplicaHandle {
        events,
        lines,
        turns: WindowTurns::default(),
        store,
        counters,
        head,
        view,
        awake_ms,
        stop,
        finished,
    })
}

/// Clients and other nodes have their turn, where the same thread serves them.
async fn let_others_run(databases_share_threads: bool) {
    if databases_share_threads {
        tokio::task::yield_now().await;
    }
}

/// Whether an event may change a view. What a peer has confirmed may wait for the next one, as it comes with each request.
fn may_be_seen(event: &Event) -> bool {
    !matches!(event, Event::Tick | Event::Peer { message: Message::FeedRequest { .. }, .. })
}

/// Each node's messages, in order.
fn by_node(sends: Vec<(NodeId, Message)>) -> Vec<(NodeId, Vec<Message>)> {
    let mut nodes: Vec<(NodeId, Vec<Message>)> = Vec::new();
    for (to, message) in sends {
        match nodes.iter_mut().find(|(node, _)| *node == to) {
            Some((_, messages)) => messages.push(message),
            None => nodes.push((to, vec![message])),
        }
    }
    nodes
}

/// Says to the committer that something was appended; one at a time is under way.
struct CommitWanted;

/// What the committer says.
enum Committed {
    Durable(Lsn),
    DiskFull(bool),
    Failed(String),
}

/// Waits until a commit is wanted; false at the end. Who waits has an idle log, whose mark is synced meanwhile.
fn is_wanted(wanted: &std::sync::mpsc::Receiver<CommitWanted>, store: &Store) -> Result<bool, StorageError> {
    match wanted.recv_timeout(LOG_IDLE) {
        Ok(CommitWanted) => Ok(true),
        Err(RecvTimeoutError::Timeout) => store.sync_mark().map(|()| wanted.recv().is_ok()),
        Err(RecvTimeoutError::Disconnected) => store.sync_mark().map(|()| false),
    }
}

/// Writes batches in order. Each takes in what was appended until the disk is really turned to; before, whoever else waits
/// for this processor goes first, so that on a busy machine more writes share an fsync. Where nobody waits, that costs
/// less than a microsecond.
///
/// A full disk is waited for: the batch stays the next one. Any other failure is final: after a failed fsync nothing is
/// retried.
fn spawn_committer(
    name: &str,
    store: Arc<Store>,
    counters: Arc<Counters>,
    done: mpsc::UnboundedSender<Committed>,
) -> std::io::Result<std::sync::mpsc::Sender<CommitWanted>> {
    let (sender, wanted) = std::sync::mpsc::channel::<CommitWanted>();
    std::thread::Builder::new().name(format!("log-{name}")).spawn(move || {
        loop {
            match is_wanted(&wanted, &store) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let _ = done.send(Committed::Failed(error.to_string()));
                    return;
                }
            }
            std::thread::yield_now();
            let Some(batch) = store.take_batch() else {
                let _ = done.send(Committed::Durable(store.durable()));
                continue;
            };
            let mut full = false;
            loop {
                let started = std::time::Instant::now();
                let committed = store.commit(&batch);
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                counters.commit_micros.fetch_add(micros, Ordering::Relaxed);
                match committed {
                    Ok(()) => break,
                    Err(StorageError::DiskFull { .. }) => {
                        if !full {
                            full = true;
                            let _ = done.send(Committed::DiskFull(true));
                        }
                        if done.is_closed() {
                            return;
                        }
                        std::thread::sleep(DISK_FULL_RETRY);
                    }
                    Err(error) => {
                        let _ = done.send(Committed::Failed(error.to_string()));
                        return;
                    }
                }
            }
            counters.commits.fetch_add(1, Ordering::Relaxed);
            if full {
                let _ = done.send(Committed::DiskFull(false));
            }
            let _ = done.send(Committed::Durable(batch.last));
        }
    })?;
    Ok(sender)
}

/// What comes in, in two lanes.
struct Inbox {
    events: mpsc::Receiver<Event>,
    lines: mpsc::Receiver<Event>,
}

impl Inbox {
    /// Waits for events of either lane. Being dropped while it waits loses nothing.
    async fn recv(&mut self, into: &mut Vec<Event>) {
        tokio::select! {
            biased;
            _ = self.events.recv_many(into, EVENTS_AT_ONCE) => {}
            Some(line) = self.lines.recv() => into.push(line),
        }
    }

    /// Takes some of both that wait.
    fn take(&mut self, into: &mut Vec<Event>) {
        while into.len() < EVENTS_AT_ONCE
            && let Ok(event) = self.events.try_recv()
        {
            into.push(event);
        }
        for _ in 0..LINES_AT_ONCE {
            let Ok(line) = self.lines.try_recv() else { return };
            into.push(line);
        }
    }
}

/// Epochs that the node was told of, and whether this copy is void.
type Told = ((u64, u64), bool);

struct DatabaseLoop {
    database: DatabaseId,
    replica: Replica,
    store: Arc<Store>,
    network: Network,
    clock: NodeClock,
    shared: Shared,
    committer: Option<std::sync::mpsc::Sender<CommitWanted>>,
    committing: bool,
    committed_ms: u64,
    viewed_ms: u64,
    /// Something happened since the last view that may be seen in the next.
    unseen: bool,
    told: Told,
    databases_share_threads: bool,
    sign_of_life_ms: u64,
}

impl DatabaseLoop {
    async fn run(mut self, mut inbox: Inbox, mut durable: mpsc::UnboundedReceiver<Committed>) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE + LINES_AT_ONCE + 1);
        while !self.shared.stop.load(Ordering::SeqCst) {
            let wait_ms = self.due_ms().saturating_sub(self.clock.now().monotonic_ms);
            tokio::select! {
                biased;
                Some(committed) = durable.recv() => self.on_committed(committed),
                () = inbox.recv(&mut events) => {}
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            }
            // By then there may be more to take.
            let_others_run(self.databases_share_threads).await;
            inbox.take(&mut events);
            self.shared.awake_ms.store(self.clock.now().monotonic_ms, Ordering::Relaxed);
            while let Ok(committed) = durable.try_recv() {
                self.on_committed(committed);
            }
            let mut now = self.clock.now();
            let mut began_ms = now.monotonic_ms;
            for (number, event) in events.drain(..).enumerate() {
                if number % EVENTS_PER_LOOK == 0 {
                    now = self.clock.now();
                }
                if now.monotonic_ms - began_ms >= TURN_MS {
                    let_others_run(self.databases_share_threads).await;
                    now = self.clock.now();
                    began_ms = now.monotonic_ms;
                }
                self.unseen |= may_be_seen(&event);
                self.replica.handle(now, event);
            }
            self.replica.advance(self.clock.now());
            self.flush();
            self.commit();
            self.checkpoint();
        }
        self.end(&mut durable).await;
    }

    /// When there is something to do next, in monotonic milliseconds.
    fn due_ms(&self) -> u64 {
        let mut due_ms = self.replica.next_due_ms().min(self.clock.now().monotonic_ms + self.sign_of_life_ms);
        if self.unseen {
            due_ms = due_ms.min(self.viewed_ms + VIEW_EVERY_MS);
        }
        if self.committer.is_some() && !self.committing && self.store.gathered().1 > 0 {
            due_ms = due_ms.min(self.committed_ms + LAZY_COMMIT_MS);
        }
        due_ms
    }

    fn on_committed(&mut self, committed: Committed) {
        self.unseen = true;
        let now = self.clock.now();
        match committed {
            Committed::Durable(lsn) => {
                self.committing = false;
                self.committed_ms = now.monotonic_ms;
                self.replica.handle(now, Event::Durable(lsn));
            }
            Committed::DiskFull(full) => {
                tracing::warn!(full, database = %self.replica.configuration().name, "disk full");
                self.replica.handle(now, Event::DiskFull(full));
            }
            Committed::Failed(reason) => {
                tracing::error!(%reason, database = %self.replica.configuration().name, "the log could not be written");
                self.committer = None;
                self.replica.handle(now, Event::StorageFailed(reason));
            }
        }
    }

    /// Hands out messages and what others see.
    fn flush(&mut self) {
        let effects = self.replica.take_effects();
        // A message that cannot be queued is lost; the protocol sends again what still matters.
        for (to, messages) in by_node(effects.sends) {
            self.network.send_all(to, self.database, messages);
        }
        if effects.learned > 0 {
            self.shared.counters.learned.fetch_add(effects.learned, Ordering::Relaxed);
            self.shared.head.send_replace(self.store.feed_head());
        }
        let changed = !effects.status_changes.is_empty();
        for (from, to) in effects.status_changes {
            tracing::info!(database = %self.replica.configuration().name, %from, %to, "status");
            if let (DatabaseStatus::Faulty, Some(reason)) = (to, self.replica.fault()) {
                tracing::error!(database = %self.replica.configuration().name, %reason, "the local copy cannot be used");
            }
            self.shared.counters.status_changes.fetch_add(1, Ordering::Relaxed);
        }
        let told = (self.replica.epochs(), self.replica.superseded().is_some());
        let is_news = changed || told != self.told;
        let now_ms = self.clock.now().monotonic_ms;
        if is_news || now_ms.saturating_sub(self.viewed_ms) >= VIEW_EVERY_MS {
            (self.viewed_ms, self.unseen, self.told) = (now_ms, false, told);
            let view = Arc::new(self.replica.view());
            *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        }
        if is_news || effects.learned > 0 && self.replica.configuration().name.is_system() {
            self.shared.news.send_modify(|count| *count += 1);
        }
    }

    fn commit(&mut self) {
        let Some(committer) = self.committer.as_ref().filter(|_| !self.committing) else { return };
        let now_ms = self.clock.now().monotonic_ms;
        let due = self.replica.waits_for_durability() || now_ms.saturating_sub(self.committed_ms) >= LAZY_COMMIT_MS;
        if !due {
            return;
        }
        if self.store.gathered().1 > 0 {
            self.committing = true;
            if committer.send(CommitWanted).is_err() {
                self.replica.handle(self.clock.now(), Event::StorageFailed("the log's thread ended".to_owned()));
            }
        }
    }

    fn checkpoint(&mut self) {
        if self.replica.view_status() == DatabaseStatus::Faulty || !self.store.checkpoint_due() {
            return;
        }
        if self.shared.checkpointing.swap(true, Ordering::SeqCst) {
            return;
        }
        let store = Arc::clone(&self.store);
        let (busy, counters) = (Arc::clone(&self.shared.checkpointing), Arc::clone(&self.shared.counters));
        let name = self.replica.configuration().name.clone();
        let spawned = std::thread::Builder::new().name(format!("cp-{name}")).spawn(move || {
            yield_to_writers();
            match store.checkpoint() {
                Ok(_) => {
                    counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                }
                // The overlay keeps what the checkpoint could not write; the next one tries again.
                Err(error) => {
                    tracing::warn!(%error, database = %name, "checkpoint failed; it will be tried again");
                    std::thread::sleep(DISK_FULL_RETRY);
                }
            }
            busy.store(false, Ordering::SeqCst);
        });
        if spawned.is_err() {
            self.shared.checkpointing.store(false, Ordering::SeqCst);
        }
    }

    /// The last commit of an orderly stop.
    async fn end(&mut self, durable: &mut mpsc::UnboundedReceiver<Committed>) {
        self.replica.shut_down();
        self.flush();
        let patience = Duration::from_secs(5);
        while self.committing {
            match tokio::time::timeout(patience, durable.recv()).await {
                Ok(Some(committed)) => self.on_committed(committed),
                _ => break,
            }
        }
        self.flush();
        if let Some(committer) = &self.committer {
            let _ = committer.send(CommitWanted);
            let _ = tokio::time::timeout(patience, durable.recv()).await;
        }
        self.committer = None;
    }
}

#[cfg(test)]
#[path = "database_loop_test.rs"]
mod tests;
