//! The door: one database on this node's disk.
//!
//! Threads: one appends ([`Store::append`]), one commits ([`Store::take_batch`], [`Store::commit`]), one makes
//! checkpoints ([`Store::checkpoint`]); any thread reads. They may be the same thread.
//!
//! Locks are taken in this order and never the other way round: memory (`live`), then the documents file. The log has a
//! lock of its own, under which nothing else is taken.

use super::codec::is_storable;
use super::disk::{Directory, Disk, sync_directory};
use super::documents::{self, Documents, Head};
use super::error::StorageError;
use super::log::{self, Log};
use super::overlay::Entry;
use super::state::Live;
use bytes::Bytes;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::record::Change;
use coequal_protocol::record::FeedId;
use coequal_protocol::register::Held;
use coequal_protocol::{Key, LogRecord, Register};
use coequal_types::{DatabaseId, DatabaseName, NodeId};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Memory that a store may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Pages of the documents file.
    pub cache_bytes: usize,
    /// Registers that wait for a checkpoint; while one runs, up to twice as much. The log is kept at about twice this.
    pub overlay_bytes: usize,
}

/// Which database it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Its UUID.
    pub database: DatabaseId,
    /// Its name.
    pub name: DatabaseName,
}

/// A sequence of the feed has the number of the opening above these bits.
const OPENING_BITS: u32 = 40;

/// Number of a log row: everything that was appended between two batches.
pub type Lsn = u64;

/// What was appended since the last batch, encoded.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Durable up to here once it is committed.
    pub last: Lsn,
    pub(super) rows: Vec<(Lsn, Bytes)>,
    pub(super) urgent: bool,
}

impl Batch {
    /// Whether it holds a promise or an accept, for which somebody waits. Marks of chosen revisions and cursors may
    /// reach the disk lazily.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Its size on disk, roughly.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|(_, row)| row.len()).sum()
    }
}

/// Chosen registers of users' collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// With a body.
    pub documents: u64,
    /// Deleted.
    pub tombstones: u64,
}

/// A database's files, and what is not yet in them.
#[derive(Debug)]
pub struct Store {
    pub(super) settings: StoreSettings,
    identity: StoreIdentity,
    path: PathBuf,
    feed: FeedId,
    next_feed_sequence: AtomicU64,
    live: RwLock<Live>,
    pub(super) documents: Documents,
    log: Log,
    durable: AtomicU64,
    /// Log rows up to here may go: the documents file holds them durably.
    pub(super) superfluous: AtomicU64,
    failed: Mutex<Option<StorageError>>,
    pub(super) checkpointing: Mutex<()>,
}

impl Store {
    /// Makes a new store in `directory`, which is made too; [`StorageError::Exists`] if there is one.
    pub fn create(directory: &Path, identity: &StoreIdentity, settings: &StoreSettings) -> Result<Self, StorageError> {
        let io = |error| StorageError::io(directory, "creating", &error);
        std::fs::create_dir_all(directory).map_err(io)?;
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent).map_err(io)?;
        }
        Self::create_with(Arc::new(Directory::new(directory)), identity, settings)
    }

    /// Opens the store in `directory` and replays its log.
    pub fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StorageError> {
        Self::open_with(Arc::new(Directory::new(directory)), settings)
    }

    /// Makes a new store on a disk of the caller's.
    pub fn create_with(
        disk: Arc<dyn Disk>,
        identity: &StoreIdentity,
        settings: &StoreSettings,
    ) -> Result<Self, StorageError> {
        let (mut store, mut feed) = ([0; 16], [0; 8]);
        let random = getrandom::fill(&mut store).and_then(|()| getrandom::fill(&mut feed));
        random.map_err(|error| StorageError::io(disk.path(), "creating", &std::io::Error::other(error.to_string())))?;
        Self::create_as(disk, identity, settings, store, u64::from_le_bytes(feed))
    }

    /// The same with the store's own identities given: a simulation must get the same store again. Nobody else should
    /// choose them, since two stores of one feed would be taken for one.
    pub fn create_as(
        disk: Arc<dyn Disk>,
        identity: &StoreIdentity,
        settings: &StoreSettings,
        store: [u8; 16],
        feed: FeedId,
    ) -> Result<Self, StorageError> {
        let path = disk.path().to_owned();
        let io = |error| StorageError::io(&path, "creating", &error);
        // The documents file gets its name last, so without it there is at most an unfinished attempt.
        if disk.exists(documents::FILE).map_err(io)? {
            return Err(StorageError::Exists { path: path.join(documents::FILE) });
        }
        disk.remove(log::FILE).map_err(io)?;
        disk.remove(documents::FILE_NEW).map_err(io)?;
        // A feed of zero means "no feed yet" between nodes.
        let feed = feed.max(1);
        Log::create(&disk, store)?;
        Documents::create(&disk, store, feed, identity)?;
        Self::open_with(disk, settings)
    }

    /// Opens a store on a disk of the caller's.
    pub fn open_with(disk: Arc<dyn Disk>, settings: &StoreSettings) -> Result<Self, StorageError> {
        let path = disk.path().to_owned();
        let (documents, head) = Documents::open(Arc::clone(&disk), settings.cache_bytes)?;
        let Head { store, identity, feed, opens, checkpoint } = head;
        let log = Log::open(disk, store, checkpoint)?;
        let mut live = Live::new(checkpoint, log.last() + 1);
        let reading = documents.begin()?;
        live.facts = reading.facts()?;
        live.feed_head = reading.feed_head()?;
        live.pending = reading.pending()?.into_iter().collect();
        live.log_bytes = log.replay(checkpoint, |lsn, record| {
            let stored = match &record {
                LogRecord::Register { key, .. } if live.entry(key).is_none() => reading.register(key)?,
                _ => None,
            };
            let promise = matches!(&record, LogRecord::Register { change: Change::Promise { .. }, .. });
            if !(promise && broken(Fault::PromiseOnlyInMemory)) {
                live.apply(lsn, &record, stored.map(Entry::stored));
            }
            Ok(())
        })?;
        drop(reading);
        let begin = opens << OPENING_BITS;
        if live.feed_head >= begin {
            // Each opening is counted durably before it gives a sequence.
            let what =
                format!("its feed has the entry {:#x}, which only a later opening can have given", live.feed_head);
            return Err(StorageError::damaged(&path.join(documents::FILE), what));
        }
        Ok(Self {
            settings: settings.clone(),
            identity,
            path,
            feed,
            next_feed_sequence: AtomicU64::new(if broken(Fault::FeedSequenceReused) { 1 } else { begin | 1 }),
            durable: AtomicU64::new(log.last()),
            superfluous: AtomicU64::new(checkpoint),
            live: RwLock::new(live),
            documents,
            log,
            failed: Mutex::new(None),
            checkpointing: Mutex::new(()),
        })
    }

    /// Which database it is.
    pub fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// Its directory, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Applies a record in memory and adds it to the batch being gathered; answers the log row that it will be in.
    /// On an error nothing has changed.
    pub fn append(&self, record: LogRecord) -> Result<Lsn, StorageError> {
        // Also when memory knows the register: a checkpoint that ends before memory is locked again takes it away from there.
        let stored = match &record {
            LogRecord::Register { key, .. } => Some(self.register(key)?.0),
            _ => None,
        };
        self.append_to(stored, record)
    }

    /// The same for a caller who has just read the register that the record changes, without having appended anything for
    /// it since: the file need not be asked again.
    pub fn append_to(&self, stored: Option<Register>, record: LogRecord) -> Result<Lsn, StorageError> {
        self.check()?;
        if !is_storable(&record) {
            return Err(StorageError::Misused("a revision remembers too many writes".to_owned()));
        }
        // Memory, if it knows the register, is newer. If a checkpoint has moved it into the file since it was read, what was
        // read is what the file has.
        let mut live = self.live_mut();
        let lsn = live.open_lsn;
        live.apply(lsn, &record, stored.map(Entry::stored));
        live.record(&record);
        Ok(lsn)
    }

    /// Everything appended since the last call, `None` if nothing; the next append begins another log row.
    pub fn take_batch(&self) -> Option<Batch> {
        self.live_mut().take_batch()
    }

    /// (whether somebody waits for it, bytes) of what [`Store::take_batch`] would give.
    pub fn gathered(&self) -> (bool, usize) {
        self.live().waiting()
    }

    /// Makes a batch durable. Batches come in order. After [`StorageError::DiskFull`] the same batch may be tried again;
    /// any other failure is final: everything afterwards is refused with it.
    pub fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        self.check()?;
        let durable = self.durable();
        if batch.last <= durable {
            return Ok(());
        }
        if batch.rows.first().is_none_or(|(first, _)| *first != durable + 1) {
            let text = format!("a batch that ends at {} was to follow {durable}", batch.last);
            return Err(StorageError::Misused(text));
        }
        match self.log.commit(batch, self.superfluous.load(Ordering::Acquire)) {
            Ok(()) => {
                self.durable.store(batch.last, Ordering::Release);
                Ok(())
            }
            Err(_) if broken(Fault::FsyncErrorIgnored) => {
                self.durable.store(batch.last, Ordering::Release);
                Ok(())
            }
            Err(error) => Err(self.fail_unless_full(error)),
        }
    }

    /// For a log that has fallen idle: makes durable that everything up to [`Store::durable`] is, so that rot in the
    /// newest commit is told from a commit that a power cut has torn. Does nothing when the disk knows already; after an
    /// error everything is refused with it.
    pub fn sync_mark(&self) -> Result<(), StorageError> {
        self.check()?;
        self.log.sync_mark().map_err(|error| self.fail_unless_full(error))
    }

    /// Everything up to this log row is durable.
    pub fn durable(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }

    /// A register, and the last log row that touched it: 0 when that is long since durable.
    pub fn register(&self, key: &Key) -> Result<(Register, Lsn), StorageError> {
        if let Some(entry) = self.live().entry(key) {
            return Ok((entry.register.clone(), entry.lsn));
        }
        Ok((self.stored(key)?.unwrap_or_default(), 0))
    }

    /// The chosen revision of a document.
    pub fn chosen(&self, key: &Key) -> Result<Option<Held>, StorageError> {
        if let Some(entry) = self.live().entry(key) {
            return Ok(entry.register.chosen.clone());
        }
        Ok(self.stored(key)?.and_then(|register| register.chosen))
    }

    /// The register in the documents file. Memory was looked at first; a checkpoint that ends in between only makes the
    /// file newer, and what it wrote then is what memory held.
    fn stored(&self, key: &Key) -> Result<Option<Register>, StorageError> {
        self.documents.register(key)
    }

    /// How often it was opened until now.
    pub fn opening(&self) -> u64 {
        self.next_feed_sequence.load(Ordering::Relaxed) >> OPENING_BITS
    }

    /// How far this node has applied `source`'s feed, and which feed that is.
    pub fn cursor(&self, source: NodeId) -> Option<(FeedId, u64)> {
        self.live().facts.cursors.get(&source).copied()
    }

    /// All cursors.
    pub fn cursors(&self) -> Vec<(NodeId, FeedId, u64)> {
        let live = self.live();
        live.facts.cursors.iter().map(|(node, (feed, sequence))| (*node, *feed, *sequence)).collect()
    }

    /// A small named value.
    pub fn meta(&self, name: &str) -> Option<Bytes> {
        self.live().facts.meta.get(name).cloned()
    }

    /// Identity of this node's change feed.
    pub fn feed_id(&self) -> FeedId {
        self.feed
    }

    /// Highest sequence of the feed so far, 0 if none.
    pub fn feed_head(&self) -> u64 {
        self.live().feed_head
    }

    /// A new sequence, higher than all before. Its upper part counts the openings of the store durably, so that none
    /// comes twice even if entries were lost in a crash.
    pub fn next_feed_sequence(&self) -> u64 {
        self.next_feed_sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// At most `max` keys with something accepted that is not known to be chosen.
    pub fn pending(&self, max: usize) -> Vec<Key> {
        self.live().pending.iter().take(max).cloned().collect()
    }

    /// Whether a key is one of them.
    pub fn is_pending(&self, key: &Key) -> bool {
        self.live().pending.contains(key)
    }

    /// How many such keys there are.
    pub fn pending_count(&self) -> usize {
        self.live().pending.len()
    }

    /// Chosen registers of users' collections.
    pub fn counts(&self) -> Counts {
        self.live().facts.counts
    }

    /// Space that the files take, in bytes.
    pub fn disk_usage(&self) -> u64 {
        self.documents.allocated() + self.log.allocated()
    }

    /// The failure after which no more is written, if there was one.
    pub fn failure(&self) -> Option<StorageError> {
        lock(&self.failed).clone()
    }

    pub(super) fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Nothing is tried again after a failed write, except when the disk was full.
    pub(super) fn fail_unless_full(&self, error: StorageError) -> StorageError {
        if error.is_disk_full() {
            return error;
        }
        lock(&self.failed).get_or_insert(error).clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
