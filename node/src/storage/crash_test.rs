//! Power cuts at every step, and processes killed while they write.

use super::store_test::{Model, SETTINGS, checkpoint, choose, commit, identity, key, memory_store, reopen};
use super::{DataDirectory, Disk, DiskFile, MemoryDisk, Store};
use coequal_protocol::LogRecord;
use coequal_types::NodeId;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn check_cut(disk: &MemoryDisk, store: &Store, model: &Model, mut survives: impl FnMut(usize) -> bool) {
    let cut = disk.after_power_cut(&mut survives);
    let opened = reopen(&cut);
    assert!(opened.durable() >= store.durable());
    let model = model.clone().cut(opened.durable());
    model.check(&opened);
    // It can also go on from there.
    opened.append(choose(&opened, &key(999), 1_000_000, Some(10))).unwrap();
    commit(&opened);
    checkpoint(&opened);
    assert!(opened.chosen(&key(999)).unwrap().is_some());
}

#[test]
fn a_power_cut_after_any_step_loses_nothing_that_was_durable() {
    let (disk, store) = memory_store();
    let mut model = Model::default();
    for time in 1..=40 {
        model.append(&store, choose(&store, &key(time as usize % 7), time, Some(500)));
        let cursor = LogRecord::Cursor { source: NodeId(9), feed: 1, sequence: time };
        model.append(&store, cursor);
        check_cut(&disk, &store, &model, |_| true);
        if time % 3 == 0 {
            let batch = store.take_batch().unwrap();
            check_cut(&disk, &store, &model, |_| true);
            store.commit(&batch).unwrap();
            check_cut(&disk, &store, &model, |_| false);
        }
        if time % 10 == 0 {
            let _ = store.checkpoint().unwrap();
            check_cut(&disk, &store, &model, |_| false);
            commit(&store);
            let _ = store.checkpoint().unwrap();
            check_cut(&disk, &store, &model, |_| false);
            check_cut(&disk, &store, &model, |number| number % 2 == 0);
        }
    }
}

/// A disk whose power is cut, in a copy, after every step: the copy must open and hold what was durable.
#[derive(Debug)]
struct CutDisk {
    memory: MemoryDisk,
    cuts: Arc<Cuts>,
}

#[derive(Debug, Default)]
struct Cuts {
    model: Mutex<Model>,
    durable: AtomicU64,
    on: AtomicBool,
    random: AtomicU64,
    count: AtomicU64,
    torn: AtomicU64,
}

#[derive(Debug)]
struct CutFile {
    file: Arc<dyn DiskFile>,
    memory: MemoryDisk,
    cuts: Arc<Cuts>,
}

impl Cuts {
    fn random(&self) -> u64 {
        let next = |last: u64| last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let last = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        next(last.unwrap()) >> 33
    }

    fn cut(&self, memory: &MemoryDisk) {
        // A store that is dropped by a failed check writes once more.
        if !self.on.load(Ordering::Relaxed) || std::thread::panicking() {
            return;
        }
        // Nothing, everything, some writes, some sectors of some writes.
        for kind in 0..4 {
            let one_in = 2 + self.random() % 6;
            let disk = memory.after_torn_power_cut(|_, sector| match kind {
                0 => false,
                1 => true,
                2 if sector % 8 != 0 => true,
                _ => {
                    let survives = !self.random().is_multiple_of(one_in);
                    self.torn.fetch_add(u64::from(!survives), Ordering::Relaxed);
                    survives
                }
            });
            let store = Store::open_with(Arc::new(disk), &SETTINGS);
            let store = store.unwrap_or_else(|error| panic!("cut {}: {error}", self.count.load(Ordering::Relaxed)));
            assert!(store.durable() >= self.durable.load(Ordering::Relaxed), "a durable row is lost");
            self.model.lock().unwrap().clone().cut(store.durable()).check(&store);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Disk for CutDisk {
    fn path(&self) -> &Path {
        self.memory.path()
    }
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.memory.open(name, create)?;
        Ok(Arc::new(CutFile { file, memory: self.memory.clone(), cuts: Arc::clone(&self.cuts) }))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.memory.exists(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }
}

impl DiskFile for CutFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)?;
        self.cuts.cut(&self.memory);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.cuts.cut(&self.memory);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        self.cuts.cut(&self.memory);
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A commit or a checkpoint that is cut after any of its writes, whole or torn, while the files grow and shrink, is never
/// taken for damage.
#[test]
fn a_torn_write_at_any_step_is_never_taken_for_damage() {
    let (memory, cuts) = (MemoryDisk::default(), Arc::new(Cuts::default()));
    let disk = CutDisk { memory: memory.clone(), cuts: Arc::clone(&cuts) };
    let store = Store::create_with(Arc::new(disk), &identity(), &SETTINGS).unwrap();
    let (mut lengths, mut shrunk) = (Vec::new(), 0);
    for time in 1..=60_u64 {
        // Large rows make both files grow, and small ones in their place let them shrink.
        let len = if (15..30).contains(&time) { 150_000 } else { 700 };
        cuts.on.store(time % 4 == 3 || [15, 22, 29, 31].contains(&time), Ordering::Relaxed);
        cuts.model.lock().unwrap().append(&store, choose(&store, &key(time as usize % 15), time, Some(len)));
        commit(&store);
        cuts.durable.store(store.durable(), Ordering::Relaxed);
        if time % 15 == 0 {
            cuts.on.store(true, Ordering::Relaxed);
            checkpoint(&store);
        }
        let now = ["log.redb", "documents.redb"].map(|file| memory.bytes(file).len());
        shrunk += lengths.last().map_or(0, |last: &[usize; 2]| (0..2).filter(|file| now[*file] < last[*file]).count());
        lengths.push(now);
    }
    drop(store);
    let (count, torn) = (cuts.count.load(Ordering::Relaxed), cuts.torn.load(Ordering::Relaxed));
    println!("{count} power cuts, {torn} sectors lost, {shrunk} times a file was shorter; lengths {lengths:?}");
    assert!(count > 500 && torn > 1000 && shrunk > 0);
    assert!((0..2).all(|file| lengths.iter().any(|now| now[file] > lengths[0][file])), "{lengths:?}");
}

/// The writing half of the test below, in a process of its own; does nothing in a usual run.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var("COEQUAL_STORAGE_TEST_CHILD") else { return };
    let directory = DataDirectory::open(Path::new(&path)).unwrap();
    let store = match Store::open(&directory.database_path(&identity().name), &SETTINGS) {
        Ok(store) => store,
        Err(_) => Store::create(&directory.database_path(&identity().name), &identity(), &SETTINGS).unwrap(),
    };
    let store = &store;
    let first = store.meta("written").map_or(1, |text| String::from_utf8(text.to_vec()).unwrap().parse().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let _ = store.checkpoint().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        for time in first + 1.. {
            store.append(choose(store, &key(time as usize % 300), time, Some(700))).unwrap();
            store.append(LogRecord::Meta { name: "written".to_owned(), value: time.to_string().into() }).unwrap();
            commit(store);
            println!("\ndurable {time}");
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_it_said_was_durable() {
    let root = tempfile::tempdir().unwrap();
    for round in 1..=6_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::crash_test::child_that_writes_until_it_is_killed", "--nocapture"])
            .env("COEQUAL_STORAGE_TEST_CHILD", root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        let mut count = 0;
        for line in lines.by_ref() {
            if let Some(time) = line.unwrap().strip_prefix("durable ") {
                said = time.parse::<u64>().unwrap();
                count += 1;
                if count == 150 + 37 * round {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(count >= 150, "the child wrote {count}");
        let began = Instant::now();
        let directory = DataDirectory::open(root.path()).unwrap();
        let store = Store::open(&directory.database_path(&identity().name), &SETTINGS).unwrap();
        println!("opened in {:?}", began.elapsed());
        assert_eq!(directory.incarnation(), round * 2);
        let written: u64 = String::from_utf8(store.meta("written").unwrap().to_vec()).unwrap().parse().unwrap();
        assert!(written >= said, "{written} {said}");
        for time in written.saturating_sub(299).max(2)..=written {
            let held = store.chosen(&key(time as usize % 300)).unwrap().unwrap();
            assert_eq!(held.revision.version, time);
        }
    }
}
