//! `log.redb`: every change, in order, on disk before it is answered.

use super::codec::{CodecError, decode_records, unseal};
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_mark;
use super::page_sums::{Health, RedbFile};
use super::store::{Batch, Lsn};
use super::tables::{LOG, LOG_STATE};
use coequal_protocol::LogRecord;
use coequal_protocol::faults::{Fault, broken};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) const FILE: &str = "log.redb";

/// Appends go to the end, so there is little to keep; what a commit writes beyond half of this goes to the file at once.
const CACHE_BYTES: usize = 2 << 20;
/// Rows that a commit takes away when a checkpoint has made them superfluous; more than it adds, so that they end.
const REMOVED_ROWS_MAX: usize = 64;
/// How long a file may stay locked by a process that was just killed.
const LOCKED_MAX: Duration = Duration::from_secs(2);

const STORE: &[u8] = b"store";
const REMOVED: &[u8] = b"removed";

type OpenFile = (Database, Arc<dyn DiskFile>, Arc<Health>);

/// The open file.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    store: [u8; 16],
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    database: Database,
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
    /// Rows up to this one are gone.
    removed: Lsn,
    /// The last row, or `removed` when there is none.
    last: Lsn,
    /// A mark was written since the last sync.
    mark_unsynced: bool,
}

impl Log {
    /// Writes a new, empty file.
    pub(super) fn create(disk: &Arc<dyn Disk>, store: [u8; 16]) -> Result<(), StorageError> {
        let path = disk.path().join(FILE);
        let (database, _, health) = open_database(disk, true)?;
        let write = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(LOG)?;
            let mut state = transaction.open_table(LOG_STATE)?;
            state.insert(STORE, store.as_slice())?;
            state.insert(REMOVED, 0_u64.to_be_bytes().as_slice())?;
            drop(state);
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| health.first().unwrap_or_else(|| StorageError::redb(&path, "creating", error)))
    }

    /// Opens the file that belongs to the documents file with the same store id and this checkpoint.
    pub(super) fn open(disk: Arc<dyn Disk>, store: [u8; 16], checkpoint: Lsn) -> Result<Self, StorageError> {
        let path = disk.path().join(FILE);
        let opened = Opened::open(&disk, &path, store)?;
        let Opened { removed, last, .. } = opened;
        if removed > checkpoint || last < checkpoint {
            return Err(StorageError::damaged(
                &path,
                format!(
                    "it has the rows {} to {last}, and the documents file has a checkpoint at {checkpoint}: they are not of one time",
                    removed + 1
                ),
            ));
        }
        Ok(Self { disk, path, store, opened: Mutex::new(Some(opened)) })
    }

    /// The last row.
    pub(super) fn last(&self) -> Lsn {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |opened| opened.last)
    }

    /// Space that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().and_then(|opened| opened.file.allocated().ok()).unwrap_or(0)
    }

    /// Hands on the records of all rows behind `after`, each with its row's number; answers the bytes of the rows.
    pub(super) fn replay(
        &self,
        after: Lsn,
        mut take: impl FnMut(Lsn, LogRecord) -> Result<(), StorageError>,
    ) -> Result<u64, StorageError> {
        let guard = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = guard.as_ref() else { return Ok(0) };
        let mut bytes = 0;
        let last = opened.last - u64::from(broken(Fault::LogReplaySkipsRow) && opened.last > 0);
        for lsn in after + 1..=last {
            let row = opened.row(lsn).map_err(|error| StorageError::redb(&self.path, "reading", error))?;
            let wrong = |error: CodecError| StorageError::damaged(&self.path, format!("row {lsn}: {error}"));
            let row = row.ok_or_else(|| wrong(CodecError("is missing")))?;
            bytes += row.len() as u64;
            let records = unseal(&lsn.to_be_bytes(), &row).map_err(wrong)?;
            let replayed = decode_records(records, |record| take(lsn, record).map_err(ReplayError::Taken));
            replayed.map_err(|error| match error {
                ReplayError::Codec(error) => wrong(error),
                ReplayError::Taken(error) => error,
            })?;
        }
        Ok(bytes)
    }

    /// Writes a batch durably and takes away some rows up to `superfluous`. After [`StorageError::DiskFull`] the same
    /// batch may come again; after any other error nothing may.
    pub(super) fn commit(&self, batch: &Batch, superfluous: Lsn) -> Result<(), StorageError> {
        let first = batch.rows.first().map_or(batch.last, |(first, _)| *first);
        let mut guard = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match &mut *guard {
            Some(opened) => opened,
            None => guard.insert(self.open_again(first.saturating_sub(1))?),
        };
        match opened.append(batch, superfluous) {
            Ok(removed) => {
                opened.removed = removed;
                opened.last = batch.last;
                opened.mark_unsynced = true;
                let marked = log_mark::write(&*opened.file, batch.last);
                marked.map_err(|error| StorageError::io(&self.path, "writing", &error))
            }
            Err(error) => {
                let error = match opened.health.first() {
                    Some(first) => first,
                    None => StorageError::redb(&self.path, "writing", error),
                };
                if !error.is_disk_full() {
                    return Err(error);
                }
                if opened.health.sync_failed() {
                    let reason = "no space left on the disk".to_owned();
                    return Err(StorageError::Io { path: self.path.clone(), action: "syncing", reason });
                }
                // redb refuses everything after a failed write; the next commit opens the file anew, which shows what
                // is committed.
                drop(guard.take());
                Err(error)
            }
        }
    }
}

impl Log {
    /// Brings the last mark to the disk, if no commit has done so since. A failure is final, as of any sync.
    pub(super) fn sync_mark(&self) -> Result<(), StorageError> {
        let mut guard = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = guard.as_mut().filter(|opened| opened.mark_unsynced) else { return Ok(()) };
        if broken(Fault::DurableMarkUnsynced) {
            return Ok(());
        }
        let synced = opened.file.sync();
        opened.mark_unsynced = false;
        synced.map_err(|error| StorageError::Io {
            path: self.path.clone(),
            action: "syncing",
            reason: error.to_string(),
        })
    }

    /// After the disk was full: everything up to `durable` must still be there.
    fn open_again(&self, durable: Lsn) -> Result<Opened, StorageError> {
        let opened = Opened::open(&self.disk, &self.path, self.store)?;
        if opened.last < durable {
            let what = format!("it ends at row {}, and row {durable} was durable", opened.last);
            return Err(StorageError::damaged(&self.path, what));
        }
        Ok(opened)
    }
}

enum ReplayError {
    Codec(CodecError),
    Taken(StorageError),
}

impl From<CodecError> for ReplayError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl Opened {
    fn open(disk: &Arc<dyn Disk>, path: &std::path::Path, store: [u8; 16]) -> Result<Self, StorageError> {
        let (database, file, health) = open_database(disk, false)?;
        let read = || -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            let state = transaction.open_table(LOG_STATE)?;
            let found = state.get(STORE)?.map(|value| value.value().to_vec());
            let removed = state.get(REMOVED)?.map(|value| number(value.value()));
            let log = transaction.open_table(LOG)?;
            let first = log.first()?.map(|(key, _)| number(key.value()));
            let last = log.last()?.map(|(key, _)| number(key.value()));
            Ok((found, removed, first, last))
        };
        let read = read();
        let (found, removed, first, last) =
            read.map_err(|error| health.first().unwrap_or_else(|| StorageError::redb(path, "opening", error)))?;
        if found.as_deref() != Some(store.as_slice()) {
            return Err(StorageError::damaged(path, "it belongs to another store than the documents file beside it"));
        }
        let removed = removed.ok_or_else(|| StorageError::damaged(path, "it does not say where it begins"))?;
        let begin = removed.saturating_add(1);
        if first.is_some_and(|first| first != begin) {
            return Err(StorageError::damaged(path, format!("row {begin} is missing")));
        }
        let last = last.unwrap_or(removed);
        if last == Lsn::MAX {
            return Err(StorageError::damaged(path, "it has more rows than can be numbered"));
        }
        let mark = log_mark::read(&*file).map_err(|error| StorageError::io(path, "opening", &error))?;
        match mark {
            Some(durable) if durable <= last => {
                let mark_unsynced = durable < last;
                if mark_unsynced {
                    // A process that was killed may have left rows that are not on the disk yet.
                    let marked = file.sync().and_then(|()| log_mark::write(&*file, last));
                    marked.map_err(|error| StorageError::io(path, "opening", &error))?;
                }
                Ok(Self { database, file, health, removed, last, mark_unsynced })
            }
            Some(durable) => {
                let what = format!("it ends at row {last}, and row {durable} was durable");
                Err(StorageError::damaged(path, what))
            }
            None => Err(StorageError::damaged(path, "it does not say which row was durable last")),
        }
    }

    fn row(&self, lsn: Lsn) -> Result<Option<Vec<u8>>, redb::Error> {
        let table = self.database.begin_read()?.open_table(LOG)?;
        Ok(table.get(lsn.to_be_bytes().as_slice())?.map(|value| value.value().to_vec()))
    }

    fn append(&self, batch: &Batch, superfluous: Lsn) -> Result<Lsn, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        let unsynced = broken(Fault::CommitNotSynced);
        transaction.set_durability(if unsynced { Durability::None } else { Durability::Immediate })?;
        let mut log = transaction.open_table(LOG)?;
        for (lsn, row) in &batch.rows {
            log.insert(lsn.to_be_bytes().as_slice(), &row[..])?;
        }
        let mut removed = self.removed;
        for _ in 0..REMOVED_ROWS_MAX {
            if removed >= superfluous {
                break;
            }
            removed += 1;
            log.remove(removed.to_be_bytes().as_slice())?;
        }
        drop(log);
        if removed != self.removed {
            put_removed(&transaction, removed)?;
        }
        transaction.commit()?;
        Ok(removed)
    }
}

fn put_removed(transaction: &WriteTransaction, removed: Lsn) -> Result<(), redb::Error> {
    transaction.open_table(LOG_STATE)?.insert(REMOVED, removed.to_be_bytes().as_slice())?;
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn open_database(disk: &Arc<dyn Disk>, create: bool) -> Result<OpenFile, StorageError> {
    let path = disk.path().join(FILE);
    let file = open_patiently(disk, FILE, create)?;
    if create {
        log_mark::write(&*file, 0).map_err(|error| StorageError::io(&path, "creating", &error))?;
    } else if file.len().is_ok_and(|len| len <= 4096) {
        return Err(StorageError::damaged(&path, "it is empty"));
    }
    let health = Arc::new(Health::default());
    let backend = RedbFile::plain(Arc::clone(&file), path.clone(), Arc::clone(&health));
    let mut builder = redb::Builder::new();
    // The log is small (checkpoints see to it), so all of it is checked now; what is read later is held to that.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(!create);
    let opened = builder.create_with_backend(backend);
    let database = opened.map_err(|error| match health.first() {
        Some(first) => first,
        None => StorageError::redb(&path, "opening", error.into()),
    })?;
    Ok((database, file, health))
}

/// Opens a file; waits a moment for a process that was killed to let it go.
pub(super) fn open_patiently(
    disk: &Arc<dyn Disk>,
    name: &str,
    create: bool,
) -> Result<Arc<dyn DiskFile>, StorageError> {
    let deadline = Instant::now() + LOCKED_MAX;
    loop {
        match disk.open(name, create) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::Missing { path: disk.path().join(name) });
            }
            opened => return opened.map_err(|error| StorageError::io(&disk.path().join(name), "opening", &error)),
        }
    }
}
