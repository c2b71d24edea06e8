//! The store against a model that keeps everything in plain maps.

use super::disk::Disk;
use super::memory_disk::MemoryDisk;
use super::*;
use bytes::Bytes;
use coequal_protocol::message::ChosenBody;
use coequal_protocol::record::Change;
use coequal_protocol::revision::{Effect, HistoryEntry};
use coequal_protocol::tombstone_collection::has_collected;
use coequal_protocol::{Ballot, Key, LogRecord, Register, Revision};
use coequal_types::{DatabaseId, NodeId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) const SETTINGS: StoreSettings = StoreSettings { cache_bytes: 4 << 20, overlay_bytes: 1 << 20 };

pub(super) fn identity() -> StoreIdentity {
    StoreIdentity { database: DatabaseId::from_u128(5), name: "orders".parse().unwrap() }
}

pub(super) fn memory_store() -> (MemoryDisk, Store) {
    let disk = MemoryDisk::default();
    let store = Store::create_with(Arc::new(disk.clone()), &identity(), &SETTINGS).unwrap();
    (disk, store)
}

pub(super) fn reopen(disk: &MemoryDisk) -> Store {
    Store::open_with(Arc::new(disk.clone()), &SETTINGS).unwrap()
}

pub(super) fn key(number: usize) -> Key {
    let collection = ["books", "_collections", "cars"][number % 3];
    Key::of(collection, &format!("k{:05}", number.wrapping_mul(7919) % 100_000))
}

pub(super) fn ballot(time: u64) -> Ballot {
    Ballot::ordinary(time, NodeId(77), 1)
}

pub(super) fn revision(time: u64, len: Option<usize>) -> Arc<Revision> {
    let entry = HistoryEntry { stamp: ballot(time), version: time, effect: Effect::Replaced, request: None };
    let body = len.map(|len| Bytes::from(vec![b'a' + (time % 26) as u8; len]));
    Arc::new(Revision { version: time, stamp: ballot(time), body, history: vec![entry] })
}

/// A record that chooses a new revision of a key.
pub(super) fn choose(store: &Store, key: &Key, time: u64, len: Option<usize>) -> LogRecord {
    let change = Change::Chosen {
        ballot: ballot(time),
        feed_sequence: store.next_feed_sequence(),
        revision: Some(revision(time, len)),
    };
    LogRecord::Register { key: key.clone(), change }
}

pub(super) fn commit(store: &Store) {
    while let Some(batch) = store.take_batch() {
        store.commit(&batch).unwrap();
    }
}

pub(super) fn checkpoint(store: &Store) -> CheckpointReport {
    let report = store.checkpoint().unwrap();
    if !matches!(report, CheckpointReport::Waiting { .. }) {
        return report;
    }
    commit(store);
    store.checkpoint().unwrap()
}

/// Everything that was appended, and what follows from it.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) records: Vec<(Lsn, LogRecord)>,
    registers: BTreeMap<Key, Register>,
    cursors: BTreeMap<NodeId, (u64, u64)>,
    meta: BTreeMap<String, Bytes>,
}

impl Model {
    pub(super) fn append(&mut self, store: &Store, record: LogRecord) {
        let lsn = store.append(record.clone()).unwrap();
        self.take(&record);
        self.records.push((lsn, record));
    }

    fn take(&mut self, record: &LogRecord) {
        match record {
            LogRecord::Register { key, change } => self.registers.entry(key.clone()).or_default().apply(change),
            LogRecord::Cursor { source, feed, sequence } => {
                self.cursors.insert(*source, (*feed, *sequence));
            }
            LogRecord::Meta { name, value } if value.is_empty() => drop(self.meta.remove(name)),
            LogRecord::Meta { name, value } => drop(self.meta.insert(name.clone(), value.clone())),
        }
    }

    /// The model as it was after log row `last`.
    pub(super) fn cut(self, last: Lsn) -> Self {
        let mut cut = Self::default();
        for (lsn, record) in self.records.into_iter().filter(|(lsn, _)| *lsn <= last) {
            cut.take(&record);
            cut.records.push((lsn, record));
        }
        cut
    }

    fn register(&self, key: &Key) -> Register {
        self.registers.get(key).cloned().unwrap_or_default()
    }

    fn chosen(&self) -> impl Iterator<Item = ChosenBody> {
        self.registers.iter().filter_map(|(key, register)| {
            let held = register.chosen.clone()?;
            Some(ChosenBody { key: key.clone(), ballot: held.ballot, revision: held.revision })
        })
    }

    /// Every question to the store has the model's answer.
    pub(super) fn check(&self, store: &Store) {
        for (key, register) in &self.registers {
            assert_eq!(store.register(key).unwrap().0, *register, "{key:?}");
            assert_eq!(store.chosen(key).unwrap(), register.chosen, "{key:?}");
        }
        assert_eq!(store.chosen(&Key::of("books", "never")).unwrap(), None);
        for prefix in ["", "books\0", "books\0k0", "_c", "cars\0k1", "zoo"] {
            let expected: Vec<_> = self.chosen().filter(|b| b.key.as_bytes().starts_with(prefix.as_bytes())).collect();
            for (entries_max, bytes_max) in [(usize::MAX, usize::MAX), (1, 9), (3, usize::MAX), (7, 1000)] {
                assert_eq!(scan_all(store, prefix.as_bytes(), entries_max, bytes_max), expected, "{prefix:?}");
            }
        }
        let pending: BTreeSet<_> =
            self.registers.iter().filter(|(_, r)| r.is_pending()).map(|(key, _)| key.clone()).collect();
        assert_eq!(store.pending(usize::MAX).into_iter().collect::<BTreeSet<_>>(), pending);
        assert_eq!(store.pending_count(), pending.len());
        let users = || self.chosen().filter(|body| !body.key.collection().starts_with('_'));
        let tombstones = users().filter(|body| body.revision.is_tombstone()).count() as u64;
        assert_eq!(store.counts(), Counts { documents: users().count() as u64 - tombstones, tombstones });
        let cursors: Vec<_> = self.cursors.iter().map(|(node, (feed, at))| (*node, *feed, *at)).collect();
        assert_eq!(store.cursors(), cursors);
        for name in ["a", "b"] {
            assert_eq!(store.meta(name), self.meta.get(name).cloned());
        }
        self.check_feed(store);
        self.check_collectable(store);
    }

    /// Whatever the pieces, looking through the store finds exactly what is to be forgotten.
    fn check_collectable(&self, store: &Store) {
        for through in [0, 3, 20, u64::MAX] {
            let collected = |(_, register): &(&Key, &Register)| has_collected(register, through);
            let expected: Vec<Key> = self.registers.iter().filter(collected).map(|(key, _)| key.clone()).collect();
            for looked_max in [1, 4, 1000] {
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let swept = store.collectable(after.as_ref(), through, looked_max).unwrap();
                    found.extend(swept.keys);
                    after = swept.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(found, expected, "through {through}, {looked_max} at once");
            }
        }
    }

    /// Whether the store answers anything else than the model, for damaged stores: it may refuse to answer.
    pub(super) fn differs(&self, store: &Store) -> Result<bool, StorageError> {
        let mut differs = store.durable() != self.records.last().map_or(0, |(lsn, _)| *lsn);
        for (key, register) in &self.registers {
            differs |= store.register(key)?.0 != *register;
        }
        let scanned = store.scan(None, b"", usize::MAX, usize::MAX)?;
        differs |= scanned != self.chosen().collect::<Vec<_>>();
        let mut feed: Vec<_> = self.registers.iter().map(|(key, r)| (r.feed_sequence, key.clone())).collect();
        feed.sort();
        differs |= store.feed_after(0, usize::MAX)? != feed;
        differs |= store.feed_count_after(0)? != feed.len() as u64;
        Ok(differs)
    }

    fn check_feed(&self, store: &Store) {
        let feed: BTreeMap<u64, Key> = self
            .registers
            .iter()
            .filter(|(_, register)| register.feed_sequence > 0)
            .map(|(key, register)| (register.feed_sequence, key.clone()))
            .collect();
        let feed: Vec<_> = feed.into_iter().collect();
        // The newest entry of all may be a tombstone that was collected.
        assert!(store.feed_head() >= feed.last().map_or(0, |(sequence, _)| *sequence));
        let positions = feed.iter().step_by(5).flat_map(|(sequence, _)| [sequence - 1, *sequence]);
        for after in positions.chain([0, u64::MAX]) {
            let behind: Vec<_> = feed.iter().filter(|(sequence, _)| *sequence > after).cloned().collect();
            assert_eq!(store.feed_count_after(after).unwrap(), behind.len() as u64);
            for max in [0, 1, 3, usize::MAX] {
                let expected: Vec<_> = behind.iter().take(max).cloned().collect();
                assert_eq!(store.feed_after(after, max).unwrap(), expected);
            }
        }
    }
}

fn scan_all(store: &Store, prefix: &[u8], entries_max: usize, bytes_max: usize) -> Vec<ChosenBody> {
    let mut all: Vec<ChosenBody> = Vec::new();
    loop {
        let after = all.last().map(|body| body.key.clone());
        let page = store.scan(after.as_ref(), prefix, entries_max, bytes_max).unwrap();
        assert!(page.len() <= entries_max);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Promise(usize),
    Accept(usize, Option<usize>),
    Learn(usize),
    Copy(usize, Option<usize>),
    Collect(usize),
    Cursor(u64),
    Meta(bool, usize),
    Commit,
    TakeOnly,
    Checkpoint,
    Reopen,
    PowerCut(u64),
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let body = || proptest::option::weighted(0.8, prop_oneof![9 => 0..400_usize, 1 => 3900..9000_usize]);
    let op = prop_oneof![
        3 => (0..40_usize).prop_map(Op::Promise),
        8 => (0..40_usize, body()).prop_map(|(key, body)| Op::Accept(key, body)),
        8 => (0..40_usize).prop_map(Op::Learn),
        8 => (0..40_usize, body()).prop_map(|(key, body)| Op::Copy(key, body)),
        6 => (0..40_usize).prop_map(Op::Collect),
        3 => (0..3_u64).prop_map(Op::Cursor),
        2 => (any::<bool>(), 0..3_usize).prop_map(|(which, len)| Op::Meta(which, len)),
        6 => Just(Op::Commit),
        1 => Just(Op::TakeOnly),
        4 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
        1 => any::<u64>().prop_map(Op::PowerCut),
    ];
    proptest::collection::vec(op, 1..120)
}

/// The record that an operation stands for, as a node would make it.
fn record_of(op: &Op, time: u64, store: &Store, model: &Model) -> Option<LogRecord> {
    let register = |number: usize, change| Some(LogRecord::Register { key: key(number), change });
    match op {
        Op::Promise(number) => register(*number, model.register(&key(*number)).prepare(ballot(time)).1?),
        Op::Accept(number, body) => {
            register(*number, model.register(&key(*number)).accept(ballot(time), &revision(time, *body), 0).1?)
        }
        Op::Learn(number) => {
            let now = model.register(&key(*number));
            register(*number, now.learn(now.accepted_ballot(), None, store.next_feed_sequence())?)
        }
        Op::Copy(number, body) => {
            let now = model.register(&key(*number));
            let revision = revision(time, *body);
            register(*number, now.learn(ballot(time), Some(&revision), store.next_feed_sequence())?)
        }
        Op::Collect(number) => {
            let through = time - time % 7;
            let collected = has_collected(&model.register(&key(*number)), through);
            register(*number, collected.then_some(Change::Collect { through })?)
        }
        Op::Cursor(node) => Some(LogRecord::Cursor { source: NodeId(*node), feed: *node + 1, sequence: time }),
        Op::Meta(which, len) => {
            let name = if *which { "a" } else { "b" }.to_owned();
            Some(LogRecord::Meta { name, value: Bytes::from(vec![time as u8; *len]) })
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_store_answers_like_a_model_through_checkpoints_reopenings_and_power_cuts(ops in ops()) {
        let (mut disk, mut store) = memory_store();
        let mut model = Model::default();
        for (time, op) in (1..).zip(&ops) {
            match op {
                Op::Commit => commit(&store),
                // The open row ends, and is committed with what follows.
                Op::TakeOnly => _ = store.checkpoint().unwrap(),
                Op::Checkpoint => _ = checkpoint(&store),
                Op::Reopen => {
                    let durable = store.durable();
                    drop(store);
                    store = reopen(&disk);
                    prop_assert_eq!(store.durable(), durable);
                    model = model.cut(durable);
                }
                Op::PowerCut(seed) => {
                    let mut state = *seed | 1;
                    let next = disk.after_power_cut(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        state % 3 > 0
                    });
                    let durable = store.durable();
                    drop(store);
                    disk = next;
                    store = reopen(&disk);
                    prop_assert!(store.durable() >= durable);
                    model = model.cut(store.durable());
                }
                other => {
                    if let Some(record) = record_of(other, time, &store, &model) {
                        model.append(&store, record);
                    }
                }
            }
        }
        model.check(&store);
        commit(&store);
        checkpoint(&store);
        model.check(&store);
        drop(store);
        model.check(&reopen(&disk));
    }
}

#[test]
fn a_store_is_made_once_and_keeps_its_identity() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("orders");
    assert!(matches!(Store::open(&path, &SETTINGS), Err(StorageError::Missing { .. })));
    let store = Store::create(&path, &identity(), &SETTINGS).unwrap();
    let feed = store.feed_id();
    assert_ne!(feed, 0);
    drop(store);
    assert!(matches!(Store::create(&path, &identity(), &SETTINGS), Err(StorageError::Exists { .. })));
    let store = Store::open(&path, &SETTINGS).unwrap();
    assert_eq!((store.identity(), store.feed_id()), (&identity(), feed));
    assert!(store.disk_usage() > 0);
    let system = StoreIdentity { name: coequal_types::DatabaseName::system(), ..identity() };
    let store = Store::create(&root.path().join("_system"), &system, &SETTINGS).unwrap();
    assert_eq!(store.identity(), &system);
}

#[test]
fn an_unfinished_creation_is_begun_again() {
    let (disk, store) = memory_store();
    drop(store);
    let half = MemoryDisk::default();
    half.put(super::log::FILE, disk.bytes(super::log::FILE));
    half.put(super::documents::FILE_NEW, vec![1; 9000]);
    let store = Store::create_with(Arc::new(half.clone()), &identity(), &SETTINGS).unwrap();
    assert_eq!(store.durable(), 0);
    assert!(!half.exists(super::documents::FILE_NEW).unwrap());
}

#[test]
fn sequences_are_not_used_twice_even_if_their_entries_were_lost() {
    let (disk, store) = memory_store();
    let lost = store.next_feed_sequence();
    store.append(choose(&store, &key(0), 1, Some(9))).unwrap();
    let cut = disk.after_power_cut(|_| false);
    drop(store);
    let store = reopen(&cut);
    assert_eq!(store.feed_head(), 0);
    assert!(store.next_feed_sequence() > lost + 1_000_000);
}

#[test]
fn the_feed_is_bounded_by_documents_and_not_by_writes() {
    let (disk, store) = memory_store();
    for time in 1..=5000 {
        store.append(choose(&store, &key(time as usize % 10), time, Some(20))).unwrap();
        if time % 100 == 0 {
            checkpoint(&store);
        }
    }
    checkpoint(&store);
    assert_eq!(store.feed_count_after(0).unwrap(), 10);
    let rows = store.documents.begin().unwrap().feed(0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(rows.len(), 10);
    assert!(disk.bytes(super::documents::FILE).len() < 2 << 20);
}

#[test]
fn a_checkpoint_waits_for_the_log_and_the_log_shrinks_after_it() {
    let (disk, store) = memory_store();
    assert_eq!(store.checkpoint().unwrap(), CheckpointReport::Nothing);
    let lsn = store.append(choose(&store, &key(0), 1, Some(9))).unwrap();
    assert_eq!(store.checkpoint().unwrap(), CheckpointReport::Waiting { until: lsn });
    assert!(!store.checkpoint_due());
    let later = store.append(choose(&store, &key(0), 2, Some(9))).unwrap();
    assert_eq!(later, lsn + 1);
    commit(&store);
    assert!(store.checkpoint_due());
    assert!(matches!(store.checkpoint().unwrap(), CheckpointReport::Written { lsn: 1, registers: 1, .. }));
    assert_eq!(store.register(&key(0)).unwrap().1, later);
    for time in 3..400 {
        store.append(choose(&store, &key(time as usize), time, Some(4000))).unwrap();
        commit(&store);
        if store.checkpoint_due() {
            checkpoint(&store);
        }
    }
    assert!(store.overlay_pressure() < 1.0);
    assert!(disk.bytes(super::log::FILE).len() < 8 << 20);
    checkpoint(&store);
    assert_eq!(store.register(&key(0)).unwrap().1, 0);
    assert_eq!(store.overlay_pressure(), 0.0);
}

#[test]
fn batches_come_in_order_and_a_repeated_one_does_no_harm() {
    let (_, store) = memory_store();
    store.append(choose(&store, &key(0), 1, Some(9))).unwrap();
    assert!(!store.gathered().0);
    let first = store.take_batch().unwrap();
    assert!(!first.is_urgent() && first.bytes() > 9);
    let accept = Change::Accept { ballot: ballot(2), revision: revision(2, None) };
    store.append(LogRecord::Register { key: key(0), change: accept }).unwrap();
    let second = store.take_batch().unwrap();
    assert!(second.is_urgent());
    assert!(matches!(store.commit(&second), Err(StorageError::Misused(_))));
    store.commit(&first).unwrap();
    store.commit(&second).unwrap();
    store.commit(&first).unwrap();
    assert_eq!((store.durable(), store.take_batch().is_none()), (2, true));
}

/// One thread appends and commits, one makes checkpoints, others read, on real files. Versions never go back, a key
/// never vanishes, and the feed never shows a document twice.
#[test]
fn reads_are_right_while_checkpoints_run_beside_appends() {
    const KEYS: usize = 200;
    let root = tempfile::tempdir().unwrap();
    let settings = StoreSettings { overlay_bytes: 64 << 10, ..SETTINGS };
    let store = &Store::create(&root.path().join("orders"), &identity(), &settings).unwrap();
    for number in 0..KEYS {
        store.append(choose(store, &key(number), 1, Some(100))).unwrap();
    }
    commit(store);
    let (done, checkpoints) = (&AtomicBool::new(false), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                if let CheckpointReport::Written { .. } = store.checkpoint().unwrap() {
                    checkpoints.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::yield_now();
            }
        });
        scope.spawn(move || {
            let mut seen = BTreeMap::new();
            while !done.load(Ordering::SeqCst) {
                let page = store.scan(None, b"", usize::MAX, usize::MAX).unwrap();
                assert_eq!(page.len(), KEYS);
                for body in page {
                    let before = seen.insert(body.key.clone(), body.revision.version).unwrap_or(0);
                    assert!(before <= body.revision.version);
                    assert!(store.chosen(&body.key).unwrap().unwrap().revision.version >= body.revision.version);
                }
            }
        });
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                let feed = store.feed_after(0, usize::MAX).unwrap();
                let keys: BTreeSet<_> = feed.iter().map(|(_, key)| key).collect();
                assert_eq!(keys.len(), feed.len());
            }
        });
        for time in 2..4000 {
            store.append(choose(store, &key(time as usize * 31 % KEYS), time, Some(100))).unwrap();
            if time % 5 == 0 {
                commit(store);
            }
        }
        commit(store);
        done.store(true, Ordering::SeqCst);
    });
    assert!(checkpoints.load(Ordering::SeqCst) > 2);
    assert_eq!(store.feed_count_after(0).unwrap(), KEYS as u64);
}

/// Figures for the record; run with `--ignored --nocapture --release`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let root = tempfile::tempdir_in(std::env::var("COEQUAL_MEASURE").unwrap_or_else(|_| ".".to_owned())).unwrap();
    let path = root.path().join("orders");
    let settings = StoreSettings { cache_bytes: 256 << 20, overlay_bytes: 256 << 20 };
    let store = Store::create(&path, &identity(), &settings).unwrap();
    let random_key = |time: u64| Key::of("books", &format!("{:016x}", time.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut time = 0;
    for (batch, batches) in [(1, 4000), (100, 1000), (1000, 100)] {
        let began = std::time::Instant::now();
        let mut append = std::time::Duration::ZERO;
        for _ in 0..batches {
            let appending = std::time::Instant::now();
            for _ in 0..batch {
                time += 1;
                store.append(choose(&store, &random_key(time), time, Some(300))).unwrap();
            }
            append += appending.elapsed();
            commit(&store);
        }
        let (took, records) = (began.elapsed(), batch * batches);
        let rate = f64::from(records) / took.as_secs_f64();
        println!("batch {batch}: {rate:.0} records/s, append {:?} each", append / records as u32);
    }
    println!("pressure {:.2}, {:?}", store.overlay_pressure(), checkpoint(&store));
    for round in 0..2 {
        for _ in 0..100_000 {
            time += 1;
            store.append(choose(&store, &random_key(time), time, Some(300))).unwrap();
        }
        commit(&store);
        println!("100k new random keys, round {round}: {:?}", checkpoint(&store));
    }
    let began = std::time::Instant::now();
    for number in 1..=100_000 {
        store.chosen(&random_key(number)).unwrap().unwrap();
    }
    println!("read {:?} each", began.elapsed() / 100_000);
    let began = std::time::Instant::now();
    println!("count {} took {:?}", store.feed_count_after(time / 2).unwrap(), began.elapsed());
    for _ in 0..100_000 {
        time += 1;
        store.append(choose(&store, &random_key(time), time, Some(300))).unwrap();
        if time % 100 == 0 {
            commit(&store);
        }
    }
    commit(&store);
    println!("disk {} MB", store.disk_usage() >> 20);
    // As after a kill: the files as they are, without closing.
    let copy = root.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["log.redb", "documents.redb"] {
        std::fs::copy(path.join(file), copy.join(file)).unwrap();
    }
    let began = std::time::Instant::now();
    let store = Store::open(&copy, &settings).unwrap();
    println!("opened with 100k records to replay in {:?}", began.elapsed());
    checkpoint(&store);
    for file in ["log.redb", "documents.redb"] {
        std::fs::copy(copy.join(file), path.join(file)).unwrap();
    }
    let began = std::time::Instant::now();
    drop(Store::open(&path, &settings));
    println!("opened with nothing to replay in {:?}", began.elapsed());
}
