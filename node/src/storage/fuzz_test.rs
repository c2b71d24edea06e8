//! What must hold of any bytes that stand in a file: they are read back as they were, or refused.

use super::codec::{
    CodecError, RecordsWriter, decode_records, decode_register, encode_register, is_storable, seal, unseal,
};
use super::disk::Disk;
use super::documents::{self, in_transaction};
use super::feed_counts::FeedCounts;
use super::log;
use super::page_sums::RedbFile;
use super::store::{Lsn, Store};
use super::tables::{CURSORS, FEED, FORMAT, LOG, LOG_STATE, META, PENDING, REGISTERS, STATE, state};
use super::{Counts, MemoryDisk, StorageError, StoreIdentity, StoreSettings};
use bytes::Bytes;
use coequal_protocol::message::ChosenBody;
use coequal_protocol::record::Change;
use coequal_protocol::revision::{Effect, HistoryEntry};
use coequal_protocol::{Ballot, Key, LogRecord, Register, Revision};
use coequal_types::{DatabaseId, NodeId};
use redb::ReadableTable as _;
use std::sync::{Arc, OnceLock};

const PAGE: usize = 4096;
const SECTOR: usize = 512;
const SETTINGS: StoreSettings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 };

/// One encoded value; the first byte says which kind.
pub fn records(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(register) = decode_register(bytes) {
                assert_eq!(decode_register(&encode_register(&register)), Ok(register), "a register is read back");
            }
        }
        1 => {
            if let Ok(found) = rows(bytes) {
                let mut writer = RecordsWriter::default();
                found.iter().for_each(|record| writer.push(record));
                assert!(found.iter().all(is_storable), "what was read can be kept");
                assert_eq!(rows(&writer.finish()), Ok(found), "records are read back");
            }
        }
        2 => {
            if let Ok(counts) = FeedCounts::decode(bytes) {
                assert_eq!(FeedCounts::decode(&counts.encode()), Ok(counts.clone()), "counts are read back");
                let _total = counts.behind(0);
            }
        }
        _ => {
            let (key, rest) = bytes.split_at(bytes.len() / 2);
            assert_eq!(unseal(key, &seal(key, rest)), Ok(rest), "what was sealed is unsealed");
            let _either = unseal(key, rest);
        }
    }
}

fn rows(bytes: &[u8]) -> Result<Vec<LogRecord>, CodecError> {
    let mut found = Vec::new();
    decode_records(bytes, |record| {
        found.push(record);
        Ok::<_, CodecError>(())
    })?;
    Ok(found)
}

/// Everything that a store answers.
#[derive(Debug, PartialEq)]
struct Answers {
    durable: Lsn,
    registers: Vec<Register>,
    scanned: Vec<ChosenBody>,
    feed: Vec<(u64, Key)>,
    counts: (Counts, u64, u64),
    pending: Vec<Key>,
    cursors: Vec<(NodeId, u64, u64)>,
    meta: [Option<Bytes>; 2],
}

fn key(number: u64) -> Key {
    Key::of(["books", "_collections", "cars"][number as usize % 3], &format!("k{number:03}"))
}

const KEYS: u64 = 40;

fn answers(store: &Store) -> Result<Answers, StorageError> {
    Ok(Answers {
        durable: store.durable(),
        registers: (0..KEYS).map(|number| Ok(store.register(&key(number))?.0)).collect::<Result<_, StorageError>>()?,
        scanned: store.scan(None, b"", usize::MAX, usize::MAX)?,
        feed: store.feed_after(0, usize::MAX)?,
        counts: (store.counts(), store.feed_head(), store.feed_count_after(0)?),
        pending: store.pending(usize::MAX),
        cursors: store.cursors(),
        meta: ["a", "b"].map(|name| store.meta(name)),
    })
}

/// The files of a store at rest, what it answers, and the last sequence that it gave to an entry of its feed.
struct Image {
    files: [(&'static str, Vec<u8>); 2],
    answers: Answers,
}

fn images() -> &'static [Image; 2] {
    static IMAGES: OnceLock<[Image; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| [image(false), image(true)])
}

/// Most of it behind two checkpoints, some only in the log; closed in order, or by a power cut.
fn image(power_cut: bool) -> Image {
    let disk = MemoryDisk::default();
    let identity = StoreIdentity { database: DatabaseId::from_u128(5), name: "orders".parse().expect("a name") };
    let store = Store::create_with(Arc::new(disk.clone()), &identity, &SETTINGS).expect("a store");
    for time in 1..=KEYS * 2 {
        let length = if time % 20 == 0 { 5000 } else { time as usize };
        write(&store, time, (time % 9 != 0).then_some(length)).expect("room");
        if time == KEYS || time == KEYS + KEYS / 2 {
            checkpoint(&store).expect("room");
        }
    }
    let answers = answers(&store).expect("a whole store");
    let cut = disk.after_power_cut(|_| true);
    drop(store);
    let disk = if power_cut { cut } else { disk };
    Image { files: [documents::FILE, log::FILE].map(|file| (file, disk.bytes(file))), answers }
}

fn write(store: &Store, time: u64, length: Option<usize>) -> Result<(), StorageError> {
    let stamp = Ballot::ordinary(time, NodeId(77), 1);
    let entry = HistoryEntry { stamp, version: time, effect: Effect::Replaced, request: None };
    let body = length.map(|length| Bytes::from(vec![b'a' + (time % 26) as u8; length]));
    let revision = Arc::new(Revision { version: time, stamp, body, history: vec![entry] });
    let change = if time.is_multiple_of(7) {
        Change::Accept { ballot: stamp, revision }
    } else {
        Change::Chosen { ballot: stamp, feed_sequence: store.next_feed_sequence(), revision: Some(revision) }
    };
    store.append(LogRecord::Register { key: key(time % KEYS), change })?;
    store.append(LogRecord::Cursor { source: NodeId(time % 3), feed: 9, sequence: time })?;
    store.append(LogRecord::Meta { name: "a".to_owned(), value: Bytes::from(time.to_string()) })?;
    commit(store)
}

fn commit(store: &Store) -> Result<(), StorageError> {
    store.take_batch().map_or(Ok(()), |batch| store.commit(&batch))
}

fn checkpoint(store: &Store) -> Result<(), StorageError> {
    store.checkpoint()?;
    commit(store)?;
    store.checkpoint().map(drop)
}

fn disk_of(image: &Image) -> MemoryDisk {
    let disk = MemoryDisk::default();
    for (file, bytes) in &image.files {
        disk.put(file, bytes.clone());
    }
    disk
}

/// Numbers out of the input, zero when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % end.max(1)
    }
}

/// One fault of a disk in one of the two files: a sector rots, a page is lost or is another one's, the end is missing.
/// The store is refused, or everything is as it was.
pub fn stores(data: &[u8]) {
    let mut input = Input(data);
    let image = &images()[usize::from(input.byte() % 2)];
    let (file, whole) = &image.files[usize::from(input.byte() % 2)];
    let mut bytes = whole.clone();
    damage(&mut bytes, &mut input);
    let disk = disk_of(image);
    disk.put(file, bytes);
    let found = Store::open_with(Arc::new(disk.clone()), &SETTINGS).and_then(|store| Ok((answers(&store)?, store)));
    match found {
        Ok((found, store)) => {
            assert_eq!(found, image.answers, "opened, and not what was written");
            assert!(store.next_feed_sequence() > store.feed_head(), "an entry of the feed would come twice");
            if go_on(&store).is_ok() {
                drop(store);
                let again = Store::open_with(Arc::new(disk), &SETTINGS).and_then(|store| store.register(&key(2)));
                let stamp = again.map(|(register, _)| register.chosen.map(|held| held.ballot.time));
                assert!(
                    stamp.as_ref().is_ok_and(|time| *time == Some(1002)) || is_clear(&stamp.err()),
                    "not as written"
                );
            }
        }
        Err(error) => assert!(is_clear(&Some(error.clone())), "{error:?}"),
    }
}

/// A fault of the disk is said to be one.
fn is_clear(error: &Option<StorageError>) -> bool {
    matches!(error, Some(StorageError::Damaged { .. } | StorageError::NewerFormat { .. } | StorageError::Io { .. }))
}

fn go_on(store: &Store) -> Result<(), StorageError> {
    write(store, 1002, Some(10))?;
    checkpoint(store)
}

fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let pages = bytes.len() / PAGE;
    let (kind, page) = (input.byte() % 6, input.below(pages));
    let place = page * PAGE..(page + 1) * PAGE;
    match kind {
        0 => {
            let sector = page * PAGE + usize::from(input.byte() % 8) * SECTOR;
            for _ in 0..16 {
                let at = input.below(SECTOR);
                bytes[sector + at] ^= input.byte();
            }
        }
        1 => bytes[place].fill(0),
        2 => {
            let other = input.below(pages) * PAGE;
            bytes.copy_within(other..other + PAGE, place.start);
        }
        3 => bytes.truncate(place.start + input.below(PAGE)),
        4 => bytes.extend_from_slice(input.0),
        _ => bytes[place].fill(input.byte()),
    }
}

/// Rows of a store whose pages are whole and whose content no program wrote, or a later one: refused, or served.
pub fn migrations(data: &[u8]) {
    let mut input = Input(data);
    let disk = disk_of(&images()[0]);
    let mut format = Some(FORMAT);
    for _ in 0..=input.byte() % 3 {
        if let Some(written) = change_row(&disk, &mut input) {
            format = written;
        }
    }
    match Store::open_with(Arc::new(disk), &SETTINGS) {
        Ok(store) => {
            let is_known = format.is_some_and(|format| (1..=FORMAT).contains(&format));
            assert!(is_known, "opened in format {format:?}, which is not known");
            let _refused_or_right = answers(&store);
            let _refused_or_right = go_on(&store);
            let _refused_or_right = answers(&store);
        }
        Err(error) => {
            assert!(is_clear(&Some(error.clone())), "{error:?}");
            if let Some(format) = format.filter(|format| *format > FORMAT) {
                assert!(matches!(error, StorageError::NewerFormat { found, .. } if found == format), "{error:?}");
            }
        }
    }
}

/// Writes or removes one row; answers the format, if that row was changed.
#[allow(clippy::option_option)]
fn change_row(disk: &MemoryDisk, input: &mut Input<'_>) -> Option<Option<u32>> {
    const NAMES: [&[u8]; 8] = [
        state::FORMAT,
        state::STORE,
        state::IDENTITY,
        state::FEED,
        state::OPENS,
        state::CHECKPOINT,
        state::COUNTS,
        state::FEED_COUNTS,
    ];
    let table = [STATE, CURSORS, META, PENDING, FEED, REGISTERS, LOG, LOG_STATE][usize::from(input.byte() % 8)];
    let is_log = matches!(redb::TableHandle::name(&table), "log" | "log_state");
    let file = disk.open(if is_log { log::FILE } else { documents::FILE }, false).expect("a file");
    let backend = if is_log { RedbFile::plain } else { RedbFile::summed };
    let backend = backend(file, "memory".into(), Arc::default());
    let database = redb::Builder::new().create_with_backend(backend).expect("a whole file");
    let is_state = redb::TableHandle::name(&table) == "state";
    let (choice, how, length) = (input.byte(), input.byte(), usize::from(input.byte()));
    let taken = input.0.split_at_checked(length).unwrap_or((input.0, &[]));
    input.0 = taken.1;
    let mut format = None;
    in_transaction(&database, |transaction| {
        let mut rows = transaction.open_table(table)?;
        let present = rows.iter()?.nth(usize::from(choice)).transpose()?;
        let present = present.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()));
        let named = NAMES[usize::from(choice % 8)];
        let (key, old) = match present {
            _ if is_state => (named.to_vec(), rows.get(named)?.map(|value| value.value().to_vec()).unwrap_or_default()),
            Some(row) => row,
            None => (taken.0.to_vec(), Vec::new()),
        };
        let value = match how % 4 {
            0 => taken.0.to_vec(),
            1 => seal(&key, taken.0),
            2 => old.iter().zip(taken.0.iter().chain(std::iter::repeat(&0))).map(|(old, by)| old ^ by).collect(),
            _ => {
                rows.remove(&key[..])?;
                format = (is_state && key == state::FORMAT).then_some(None);
                return Ok(());
            }
        };
        rows.insert(&key[..], &value[..])?;
        if is_state && key == state::FORMAT {
            format = Some(value.try_into().ok().map(u32::from_be_bytes));
        }
        Ok(())
    })
    .expect("a whole file");
    format
}
