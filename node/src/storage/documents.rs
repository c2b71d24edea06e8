//! `documents.redb`: registers in key order, the change feed, and what follows from them.

use super::codec::{CodecError, decode_register, encode_register, seal, unseal};
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::feed_counts::FeedCounts;
use super::migrations;
use super::page_sums::{Health, RedbFile};
use super::state::{Facts, Frozen};
use super::store::{Counts, Lsn, StoreIdentity};
use super::tables::{CURSORS, FEED, FORMAT, META, PENDING, REGISTERS, STATE, state};
use bytes::Bytes;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::{Key, Register};
use coequal_types::{DatabaseId, NodeId};
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub(super) const FILE: &str = "documents.redb";
/// Its name until it is complete.
pub(super) const FILE_NEW: &str = "documents.redb.new";

/// The open file. It is opened again after the disk was full, because redb then refuses even to read.
#[derive(Debug)]
pub(super) struct Documents {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cache_bytes: usize,
    opened: RwLock<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    /// The registers' table for single reads, as it was after the last write: opened once, not for each read. It keeps nothing
    /// from being used again that a later write would free otherwise, since the next write ends it.
    registers: RwLock<Option<RegisterTable>>,
    database: Database,
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
}

/// A store can be opened so often: the count is the upper 24 bits of the feed's sequences.
const OPENS_MAX: u64 = (1 << 24) - 1;

type RegisterTable = Arc<ReadOnlyTable<&'static [u8], &'static [u8]>>;

/// A key and its value.
type Row = (Vec<u8>, Vec<u8>);

/// What the file says of itself.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) store: [u8; 16],
    pub(super) identity: StoreIdentity,
    pub(super) feed: u64,
    pub(super) opens: u64,
    pub(super) checkpoint: Lsn,
}

/// A read transaction. Keep it short: while it lives, the file can only grow.
pub(super) struct Reading<'a> {
    transaction: ReadTransaction,
    opened: RwLockReadGuard<'a, Option<Opened>>,
    documents: &'a Documents,
}

impl Documents {
    /// Writes a new file, complete or not at all.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        store: [u8; 16],
        feed: u64,
        identity: &StoreIdentity,
    ) -> Result<(), StorageError> {
        let path = disk.path().join(FILE_NEW);
        let opened = open_file(disk, FILE_NEW, true, 1 << 20)?;
        let name = [identity.database.as_bytes().as_slice(), identity.name.as_str().as_bytes()].concat();
        let result = in_transaction(&opened.database, |transaction| {
            for table in [REGISTERS, FEED, PENDING, CURSORS, META] {
                transaction.open_table(table)?;
            }
            let mut table = transaction.open_table(STATE)?;
            table.insert(state::FORMAT, FORMAT.to_be_bytes().as_slice())?;
            table.insert(state::STORE, store.as_slice())?;
            table.insert(state::IDENTITY, name.as_slice())?;
            table.insert(state::FEED, feed.to_be_bytes().as_slice())?;
            table.insert(state::OPENS, 0_u64.to_be_bytes().as_slice())?;
            table.insert(state::CHECKPOINT, 0_u64.to_be_bytes().as_slice())?;
            table.insert(state::COUNTS, [0; 16].as_slice())?;
            table.insert(state::FEED_COUNTS, [].as_slice())?;
            Ok(())
        });
        result.map_err(|error| opened.explain(&path, "creating", error))?;
        drop(opened);
        disk.rename(FILE_NEW, FILE).map_err(|error| StorageError::io(&path, "naming", &error))
    }

    /// Opens the file, brings it to the current format, and counts the opening durably.
    pub(super) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<(Self, Head), StorageError> {
        let path = disk.path().join(FILE);
        let opened = open_file(&disk, FILE, false, cache_bytes)?;
        migrations::migrate(&opened.database, &path, FORMAT, migrations::ALL)?;
        let documents = Self { disk, path, cache_bytes, opened: RwLock::new(Some(opened)) };
        let mut head = documents.begin()?.head()?;
        if head.opens >= OPENS_MAX {
            let what = format!("it says that it was opened {} times, and {OPENS_MAX} are possible", head.opens);
            return Err(StorageError::damaged(&documents.path, what));
        }
        head.opens += 1;
        documents.write(|transaction| {
            let mut table = transaction.open_table(STATE)?;
            table.insert(state::OPENS, head.opens.to_be_bytes().as_slice())?;
            Ok(())
        })?;
        Ok((documents, head))
    }

    /// Begins a read transaction.
    pub(super) fn begin(&self) -> Result<Reading<'_>, StorageError> {
        self.ensure_open()?;
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = opened.as_ref() else { return Err(self.closed()) };
        let begun = open.database.begin_read();
        let transaction = begun.map_err(|error| open.explain(&self.path, "reading", error.into()))?;
        Ok(Reading { transaction, opened, documents: self })
    }

    /// One register.
    pub(super) fn register(&self, key: &Key) -> Result<Option<Register>, StorageError> {
        match self.register_as_open(key) {
            // After a write that found no space redb reads nothing any more until the file is opened anew.
            Err(StorageError::DiskFull { .. }) => {
                self.open_again()?;
                self.register_as_open(key)
            }
            found => found,
        }
    }

    fn register_as_open(&self, key: &Key) -> Result<Option<Register>, StorageError> {
        self.ensure_open()?;
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = opened.as_ref() else { return Err(self.closed()) };
        // The value is a part of a page that only the table keeps from being used anew: a write that ends meanwhile takes
        // the other reference away. So the table lives until the value is read.
        let table = open.table().map_err(|error| open.explain(&self.path, "reading", error))?;
        let found = table.get(&key.as_bytes()[..]);
        let found = found.map_err(|error| open.explain(&self.path, "reading", error.into()))?;
        found.map(|value| self.decode(key.as_bytes(), value.value())).transpose()
    }

    fn decode(&self, key: &[u8], value: &[u8]) -> Result<Register, StorageError> {
        let read = unseal(key, value).and_then(decode_register);
        read.map_err(|error| self.damaged(&format!("register of {}", String::from_utf8_lossy(key)), error))
    }

    fn damaged(&self, what: &str, error: CodecError) -> StorageError {
        StorageError::damaged(&self.path, format!("{what}: {error}"))
    }

    /// Writes a frozen overlay in one transaction. Doing it twice does no harm.
    pub(super) fn write_frozen(&self, frozen: &Frozen) -> Result<(), StorageError> {
        self.write(|transaction| write_frozen(transaction, frozen))
    }

    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StorageError> {
        self.ensure_open()?;
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let open = opened.as_ref().ok_or_else(|| self.closed())?;
        let result = in_transaction(&open.database, change);
        // Before anybody may miss in memory what the file has now.
        *open.registers.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.written(result, open)
    }

    fn ensure_open(&self) -> Result<(), StorageError> {
        let closed = self.opened.read().unwrap_or_else(PoisonError::into_inner).is_none();
        if closed { self.open_again() } else { Ok(()) }
    }

    fn written(&self, result: Result<(), redb::Error>, open: &Opened) -> Result<(), StorageError> {
        result.map_err(|error| match open.explain(&self.path, "writing", error) {
            // Nothing may be tried again after a failed sync, whatever its reason.
            StorageError::DiskFull { path } if open.health.sync_failed() => {
                StorageError::Io { path, action: "syncing", reason: "no space left on the disk".to_owned() }
            }
            error => error,
        })
    }

    /// Closes and opens the file after the disk was full; everything committed is there.
    pub(super) fn open_again(&self) -> Result<(), StorageError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_some_and(|open| open.health.first().is_none()) {
            return Ok(());
        }
        drop(opened.take());
        *opened = Some(open_file(&self.disk, FILE, false, self.cache_bytes)?);
        Ok(())
    }

    /// Space that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().and_then(|open| open.file.allocated().ok()).unwrap_or(0)
    }

    fn closed(&self) -> StorageError {
        StorageError::Io { path: self.path.clone(), action: "reading", reason: "it is closed".to_owned() }
    }
}

impl Opened {
    fn table(&self) -> Result<RegisterTable, redb::Error> {
        if let Some(table) = self.registers.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(table));
        }
        // Under the lock: a write that ends meanwhile waits for it, and takes the table away again.
        let mut registers = self.registers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = registers.as_ref() {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.database.begin_read()?.open_table(REGISTERS)?);
        *registers = Some(Arc::clone(&table));
        Ok(table)
    }

    /// The failure behind redb's error: redb names it only the first time.
    fn explain(&self, path: &std::path::Path, action: &'static str, error: redb::Error) -> StorageError {
        match self.health.first() {
            Some(first) => first,
            None => StorageError::redb(path, action, error),
        }
    }
}

fn open_file(disk: &Arc<dyn Disk>, name: &str, create: bool, cache_bytes: usize) -> Result<Opened, StorageError> {
    let path = disk.path().join(name);
    let file = super::log::open_patiently(disk, name, create)?;
    let health = Arc::new(Health::default());
    let backend = RedbFile::summed(Arc::clone(&file), path.clone(), Arc::clone(&health));
    // redb would take an empty file for a new database.
    if !create && file.len().is_ok_and(|len| len < 3 * 4096) {
        return Err(StorageError::damaged(&path, "it is shorter than any database"));
    }
    // The allocator gives a page with its header the room of a page and a quarter.
    let pages_bytes = cache_bytes / 5 * 4;
    let opened = redb::Builder::new().set_cache_size(pages_bytes).create_with_backend(backend);
    match opened {
        Ok(database) => Ok(Opened { registers: RwLock::new(None), database, file, health }),
        Err(error) => Err(match health.first() {
            Some(first) => first,
            None => StorageError::redb(&path, "opening", error.into()),
        }),
    }
}

/// One transaction, committed in two phases and so that opening after a crash is quick.
pub(super) fn in_transaction(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    change(&transaction)?;
    transaction.commit()?;
    Ok(())
}

fn write_frozen(transaction: &WriteTransaction, frozen: &Frozen) -> Result<(), redb::Error> {
    let Frozen { overlay, lsn, facts, log_bytes: _ } = frozen;
    let (mut gone, mut pending) = (Vec::new(), Vec::new());
    let mut registers = transaction.open_table(REGISTERS)?;
    for (key, entry) in &overlay.entries {
        let key_bytes: &[u8] = key.0.as_bytes();
        if entry.register.is_empty() {
            // Collected, or never written; the feed's entry goes below.
            registers.remove(key_bytes)?;
        } else {
            registers.insert(key_bytes, seal(key_bytes, &encode_register(&entry.register)).as_slice())?;
        }
        let moved = entry.stored.feed_sequence != entry.register.feed_sequence && !broken(Fault::FeedKeepsOldEntries);
        if entry.stored.feed_sequence != 0 && moved {
            gone.push(entry.stored.feed_sequence);
        }
        if entry.stored.pending != entry.register.is_pending() {
            pending.push((key_bytes, entry.register.is_pending()));
        }
    }
    drop(registers);
    let mut feed = transaction.open_table(FEED)?;
    gone.sort_unstable();
    for sequence in gone {
        feed.remove(sequence.to_be_bytes().as_slice())?;
    }
    for (sequence, key) in &overlay.feed {
        let sequence = sequence.to_be_bytes();
        feed.insert(sequence.as_slice(), seal(&sequence, key.as_bytes()).as_slice())?;
    }
    drop(feed);
    let mut table = transaction.open_table(PENDING)?;
    for (key, is_pending) in pending {
        if is_pending {
            table.insert(key, [].as_slice())?;
        } else {
            table.remove(key)?;
        }
    }
    drop(table);
    write_facts(transaction, *lsn, facts)
}

fn write_facts(transaction: &WriteTransaction, lsn: Lsn, facts: &Facts) -> Result<(), redb::Error> {
    let Facts { cursors, meta, counts, feed_counts } = facts;
    let mut table = transaction.open_table(CURSORS)?;
    for (node, (feed, sequence)) in cursors {
        let value = [feed.to_be_bytes(), sequence.to_be_bytes()].concat();
        table.insert(node.0.to_be_bytes().as_slice(), value.as_slice())?;
    }
    drop(table);
    let mut table = transaction.open_table(META)?;
    table.retain(|name, _| std::str::from_utf8(name).is_ok_and(|name| meta.contains_key(name)))?;
    for (name, value) in meta {
        let name = name.as_bytes();
        if table.get(name)?.is_none_or(|stored| stored.value() != &value[..]) {
            table.insert(name, &value[..])?;
        }
    }
    drop(table);
    let mut table = transaction.open_table(STATE)?;
    let Counts { documents, tombstones } = counts;
    let counts = [documents.to_be_bytes(), tombstones.to_be_bytes()].concat();
    table.insert(state::COUNTS, counts.as_slice())?;
    table.insert(state::FEED_COUNTS, feed_counts.encode().as_slice())?;
    table.insert(state::CHECKPOINT, lsn.to_be_bytes().as_slice())?;
    Ok(())
}

impl Reading<'_> {
    fn fail(&self, error: redb::Error) -> StorageError {
        match self.opened.as_ref() {
            Some(open) => open.explain(&self.documents.path, "reading", error),
            None => self.documents.closed(),
        }
    }

    fn damaged(&self, what: &str, error: CodecError) -> StorageError {
        self.documents.damaged(what, error)
    }

    /// One register.
    pub(super) fn register(&self, key: &Key) -> Result<Option<Register>, StorageError> {
        let get =
            || -> Result<_, redb::Error> { Ok(self.transaction.open_table(REGISTERS)?.get(&key.as_bytes()[..])?) };
        let Some(value) = get().map_err(|error| self.fail(error))? else { return Ok(None) };
        self.documents.decode(key.as_bytes(), value.value()).map(Some)
    }

    /// Registers in key order from `from`, until `take` has enough.
    pub(super) fn registers(
        &self,
        from: std::ops::Bound<&[u8]>,
        mut take: impl FnMut(Key, Register) -> bool,
    ) -> Result<(), StorageError> {
        let range = || -> Result<_, redb::Error> {
            let table = self.transaction.open_table(REGISTERS)?;
            Ok(table.range::<&[u8]>((from, std::ops::Bound::Unbounded))?)
        };
        for row in range().map_err(|error| self.fail(error))? {
            let (key, value) = row.map_err(|error| self.fail(error.into()))?;
            let register = self.documents.decode(key.value(), value.value())?;
            if !take(self.key(key.value())?, register) {
                break;
            }
        }
        Ok(())
    }

    /// At most `max` feed entries from `first` on and before `end`.
    pub(super) fn feed(&self, first: u64, end: u64, max: usize) -> Result<Vec<(u64, Key)>, StorageError> {
        let range = || -> Result<_, redb::Error> {
            let table = self.transaction.open_table(FEED)?;
            Ok(table.range::<&[u8]>(first.to_be_bytes().as_slice()..end.to_be_bytes().as_slice())?)
        };
        let mut found = Vec::new();
        for row in range().map_err(|error| self.fail(error))?.take(max) {
            let (sequence, value) = row.map_err(|error| self.fail(error.into()))?;
            let key = unseal(sequence.value(), value.value()).map_err(|error| self.damaged("feed", error))?;
            let sequence = self.number(Some(sequence.value()), "feed")?;
            found.push((sequence, self.key(key)?));
        }
        Ok(found)
    }

    /// Highest sequence of the feed, or 0.
    pub(super) fn feed_head(&self) -> Result<u64, StorageError> {
        let last = || -> Result<_, redb::Error> {
            let table = self.transaction.open_table(FEED)?;
            Ok(table.last()?.map(|(sequence, _)| sequence.value().to_vec()))
        };
        match last().map_err(|error| self.fail(error))? {
            Some(sequence) => self.number(Some(&sequence), "feed"),
            None => Ok(0),
        }
    }

    /// Keys with something accepted that is not known to be chosen.
    pub(super) fn pending(&self) -> Result<Vec<Key>, StorageError> {
        self.rows(PENDING)?.into_iter().map(|(key, _)| self.key(&key)).collect()
    }

    /// Everything else that a checkpoint kept.
    pub(super) fn facts(&self) -> Result<Facts, StorageError> {
        let mut facts = Facts::default();
        for (node, value) in self.rows(CURSORS)? {
            let node = NodeId(self.number(Some(&node), "cursors")?);
            let feed = self.number(value.get(..8), "cursors")?;
            facts.cursors.insert(node, (feed, self.number(value.get(8..), "cursors")?));
        }
        for (name, value) in self.rows(META)? {
            let name = String::from_utf8(name).map_err(|_| self.damaged("meta", CodecError("a name is not UTF-8")))?;
            facts.meta.insert(name, Bytes::from(value));
        }
        let counts = self.state(state::COUNTS)?;
        facts.counts.documents = self.number(counts.get(..8), "counts")?;
        facts.counts.tombstones = self.number(counts.get(8..), "counts")?;
        let feed_counts = FeedCounts::decode(&self.state(state::FEED_COUNTS)?);
        facts.feed_counts = feed_counts.map_err(|error| self.damaged("state", error))?;
        Ok(facts)
    }

    fn head(&self) -> Result<Head, StorageError> {
        let wrong = |what| self.damaged("state", CodecError(what));
        let identity = self.state(state::IDENTITY)?;
        let (uuid, name) = identity.split_first_chunk::<16>().ok_or_else(|| wrong("no identity"))?;
        let name = std::str::from_utf8(name).map_err(|_| wrong("the name is not UTF-8"))?;
        let name = if name == coequal_types::names::SYSTEM_DATABASE {
            coequal_types::DatabaseName::system()
        } else {
            name.parse().map_err(|_| wrong("the name is not a name"))?
        };
        let store = self.state(state::STORE)?;
        Ok(Head {
            store: store.try_into().map_err(|_| wrong("no store id"))?,
            identity: StoreIdentity { database: DatabaseId::from_bytes(*uuid), name },
            feed: self.number(Some(&self.state(state::FEED)?), "state")?,
            opens: self.number(Some(&self.state(state::OPENS)?), "state")?,
            checkpoint: self.number(Some(&self.state(state::CHECKPOINT)?), "state")?,
        })
    }

    fn state(&self, name: &[u8]) -> Result<Vec<u8>, StorageError> {
        let get = || -> Result<_, redb::Error> { Ok(self.transaction.open_table(STATE)?.get(name)?) };
        let value = get().map_err(|error| self.fail(error))?;
        value
            .map(|value| value.value().to_vec())
            .ok_or_else(|| self.damaged(&String::from_utf8_lossy(name), CodecError("is missing")))
    }

    fn rows(
        &self,
        table: redb::TableDefinition<'static, &'static [u8], &'static [u8]>,
    ) -> Result<Vec<Row>, StorageError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.transaction.open_table(table)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(rows)
        };
        read().map_err(|error| self.fail(error))
    }

    fn key(&self, bytes: &[u8]) -> Result<Key, StorageError> {
        Key::from_bytes(Bytes::copy_from_slice(bytes)).ok_or_else(|| self.damaged("key", CodecError("not a key")))
    }

    fn number(&self, bytes: Option<&[u8]>, what: &str) -> Result<u64, StorageError> {
        let bytes: Option<[u8; 8]> = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| self.damaged(what, CodecError("not 8 bytes")))
    }
}
