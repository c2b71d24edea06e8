//! Writes a copy of a database beside whatever reads it from the donor: one thread for the ranges, in order, and one for
//! the checkpoints that become due meanwhile.

use super::priority::yield_to_writers;
use crate::storage::{CheckpointReport, StorageError, Store};
use coequal_protocol::message::ChosenBody;
use coequal_protocol::record::Change;
use coequal_protocol::{LogRecord, Register};
use coequal_types::DatabaseName;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// A checkpoint is waited for when twice as much waits for it as was set.
const PRESSURE_MAX: f32 = 2.0;

/// The door to the thread that writes. One range waits while another is written; more are not taken.
pub(super) struct CopyWriter {
    ranges: Option<mpsc::Sender<(Vec<ChosenBody>, LogRecord)>>,
    ended: oneshot::Receiver<Result<(), StorageError>>,
    result: Option<Result<(), StorageError>>,
}

impl CopyWriter {
    /// Begins to write into `store`.
    pub(super) fn start(store: &Arc<Store>, name: &DatabaseName) -> std::io::Result<Self> {
        let (ranges, received) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let (store, name) = (Arc::clone(store), name.clone());
        std::thread::Builder::new().name(format!("copy-{name}")).spawn(move || {
            yield_to_writers();
            let result = write_all(&store, &name, received);
            drop(store);
            let _ = end.send(result);
        })?;
        Ok(Self { ranges: Some(ranges), ended, result: None })
    }

    /// Gives a range away, and with it the record that says how far the copy has got: both become durable together.
    /// Waits while a range is waiting already; after an error of the store it gives that.
    pub(super) async fn write(&mut self, bodies: Vec<ChosenBody>, reached: LogRecord) -> Result<(), StorageError> {
        let Some(ranges) = &self.ranges else { return self.finish().await };
        match ranges.send((bodies, reached)).await {
            Ok(()) => Ok(()),
            Err(_) => self.finish().await,
        }
    }

    /// Waits until everything that was given away is durable and the thread has let go of the store.
    pub(super) async fn finish(&mut self) -> Result<(), StorageError> {
        self.ranges = None;
        if self.result.is_none() {
            let vanished = || StorageError::Misused("the thread that writes the copy ended by itself".to_owned());
            self.result = Some((&mut self.ended).await.unwrap_or_else(|_| Err(vanished())));
        }
        self.result.clone().unwrap_or(Ok(()))
    }
}

fn write_all(
    store: &Arc<Store>,
    name: &DatabaseName,
    mut ranges: mpsc::Receiver<(Vec<ChosenBody>, LogRecord)>,
) -> Result<(), StorageError> {
    let mut checkpoint = Checkpoint { store, name, runs: None };
    let written = loop {
        let Some((bodies, reached)) = ranges.blocking_recv() else { break Ok(()) };
        let written = write_range(store, bodies, reached).and_then(|()| checkpoint.begin_if_due());
        if written.is_err() {
            break written;
        }
    };
    // Not before it has let go of the store, whatever happened.
    written.and(checkpoint.wait())
}

fn write_range(store: &Store, bodies: Vec<ChosenBody>, reached: LogRecord) -> Result<(), StorageError> {
    for body in bodies {
        append_chosen(store, body)?;
    }
    store.append(reached)?;
    commit_log(store)
}

/// The checkpoint beside the ranges, one at a time.
struct Checkpoint<'a> {
    store: &'a Arc<Store>,
    name: &'a DatabaseName,
    runs: Option<JoinHandle<Result<CheckpointReport, StorageError>>>,
}

impl Checkpoint<'_> {
    fn begin_if_due(&mut self) -> Result<(), StorageError> {
        if self.runs.as_ref().is_some_and(|runs| runs.is_finished() || self.store.overlay_pressure() > PRESSURE_MAX) {
            self.wait()?;
        }
        if self.runs.is_some() || !self.store.checkpoint_due() {
            return Ok(());
        }
        let store = Arc::clone(self.store);
        // It has the priority of the thread that begins it.
        let write = move || {
            let report = store.checkpoint();
            drop(store);
            report
        };
        match std::thread::Builder::new().name(format!("cp-{}", self.name)).spawn(write) {
            Ok(runs) => {
                self.runs = Some(runs);
                Ok(())
            }
            Err(_) => self.store.checkpoint().map(drop),
        }
    }

    fn wait(&mut self) -> Result<(), StorageError> {
        let vanished = || StorageError::Misused("the thread of a checkpoint ended by itself".to_owned());
        self.runs.take().map_or(Ok(()), |runs| runs.join().unwrap_or_else(|_| Err(vanished())).map(drop))
    }
}

/// Takes a copied revision as chosen. A copy begins with an empty store and goes on in key order, so nothing of this key
/// is there yet, and it is not looked for.
pub fn append_chosen(store: &Store, body: ChosenBody) -> Result<(), StorageError> {
    debug_assert!(store.register(&body.key).is_ok_and(|(known, _)| known == Register::default()));
    let feed_sequence = store.next_feed_sequence();
    let change = Change::Chosen { ballot: body.ballot, feed_sequence, revision: Some(body.revision) };
    store.append_to(None, LogRecord::Register { key: body.key, change }).map(drop)
}

/// Makes what was appended durable, and a checkpoint where one is due.
pub(super) fn commit(store: &Store) -> Result<(), StorageError> {
    commit_log(store)?;
    if store.checkpoint_due() {
        store.checkpoint()?;
    }
    Ok(())
}

fn commit_log(store: &Store) -> Result<(), StorageError> {
    match store.take_batch() {
        Some(batch) => store.commit(&batch),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::storage::{MemoryDisk, StoreIdentity, StoreSettings};
    use coequal_protocol::{Ballot, Key, Revision};
    use coequal_types::{DatabaseId, NodeId};

    const IN_A_RANGE: u64 = 64;
    /// So small that a checkpoint is due with each range.
    const SETTINGS: StoreSettings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 64 << 10 };

    fn named(number: u64) -> Key {
        Key::of("things", &format!("{number:05}"))
    }

    fn range(from: u64) -> (Vec<ChosenBody>, LogRecord) {
        let ballot = Ballot::ordinary(1, NodeId(2), 1);
        let body = Some(bytes::Bytes::from(vec![b' '; 2_000]));
        let revision = Arc::new(Revision { version: 1, stamp: ballot, body, history: Vec::new() });
        let numbers = from..from + IN_A_RANGE;
        let bodies = numbers.map(|number| ChosenBody { key: named(number), ballot, revision: Arc::clone(&revision) });
        (bodies.collect(), LogRecord::Meta { name: "reached".to_owned(), value: from.to_be_bytes().to_vec().into() })
    }

    fn copying() -> (MemoryDisk, Arc<Store>, CopyWriter) {
        let disk = MemoryDisk::default();
        let name: DatabaseName = "orders".parse().unwrap();
        let identity = StoreIdentity { database: DatabaseId::from_u128(7), name: name.clone() };
        let store = Arc::new(Store::create_with(Arc::new(disk.clone()), &identity, &SETTINGS).unwrap());
        let writer = CopyWriter::start(&store, &name).unwrap();
        (disk, store, writer)
    }

    /// Whatever is on the disk is a beginning of the copy, at least as far as its mark says.
    fn check_beginning(disk: &MemoryDisk) -> u64 {
        let store = Store::open_with(Arc::new(disk.after_power_cut(|_| false)), &SETTINGS).unwrap();
        let reached =
            store.meta("reached").map_or(0, |mark| u64::from_be_bytes(mark[..].try_into().unwrap()) + IN_A_RANGE);
        for number in 0..reached {
            assert!(store.chosen(&named(number)).unwrap().is_some(), "{number} of {reached}");
        }
        assert!(store.chosen(&named(reached)).unwrap().is_none());
        reached
    }

    #[tokio::test]
    async fn all_that_was_given_away_is_durable_at_the_end() {
        let (disk, store, mut writer) = copying();
        for at in 0..20 {
            let (bodies, reached) = range(at * IN_A_RANGE);
            writer.write(bodies, reached).await.unwrap();
        }
        writer.finish().await.unwrap();
        assert_eq!(Arc::strong_count(&store), 1, "nobody else has the store");
        assert_eq!(check_beginning(&disk), 20 * IN_A_RANGE);
    }

    /// The disk is full when a range is written, or when a checkpoint is, whichever comes first; or it fails.
    #[tokio::test]
    async fn an_error_of_the_disk_ends_the_copy_and_is_said_to_whoever_writes_and_at_the_end() {
        let fails: [fn(&MemoryDisk); 4] = [
            |disk| disk.set_free_pages(0),
            |disk| disk.set_free_pages(40),
            |disk| disk.set_free_pages(200),
            |disk| disk.set_sync_fails(true),
        ];
        for fail in fails {
            let (disk, store, mut writer) = copying();
            let mut said = None;
            for at in 0..10_000 {
                if at == 3 {
                    fail(&disk);
                }
                let (bodies, reached) = range(at * IN_A_RANGE);
                if let Err(error) = writer.write(bodies, reached).await {
                    said = Some(error);
                    break;
                }
            }
            let said = said.expect("an error");
            assert_eq!(writer.finish().await.unwrap_err().to_string(), said.to_string());
            let (bodies, reached) = range(0);
            assert!(writer.write(bodies, reached).await.is_err(), "nothing is taken any more");
            assert_eq!(Arc::strong_count(&store), 1, "nobody else has the store");
            check_beginning(&disk);
        }
    }
}
