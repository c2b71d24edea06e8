//! Files that are not what was written: flipped bits, cut ends, files of other stores and other times.

use super::memory_disk::MemoryDisk;
use super::store_test::{Model, SETTINGS, checkpoint, choose, commit, identity, key, memory_store, reopen};
use super::{StorageError, Store, documents, log};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Once;

const PAGE: usize = 4096;
/// Of redb's header, which is the second page of both files.
const HEADER_BYTES: usize = 320;
const GUARD: std::ops::Range<usize> = PAGE + 52..PAGE + 64;
/// Both files, each closed in order and left by a power cut.
const FILES_AND_ENDS: [(&str, bool); 4] =
    [(documents::FILE, false), (documents::FILE, true), (log::FILE, false), (log::FILE, true)];

/// A store with 400 documents: most behind a checkpoint, some only in the log. Closed in order, or by a power cut.
fn filled(power_cut: bool) -> (MemoryDisk, Model) {
    let (disk, store) = memory_store();
    let mut model = Model::default();
    for time in 1..=400 {
        let len = if time % 40 == 0 { 9000 } else { time as usize };
        model.append(&store, choose(&store, &key(time as usize), time, Some(len)));
        if time % 10 == 0 {
            commit(&store);
        }
        if time == 200 || time == 350 {
            checkpoint(&store);
        }
    }
    let cut = disk.after_power_cut(|_| true);
    drop(store);
    (if power_cut { cut } else { disk }, model)
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let next = MemoryDisk::default();
    for file in [documents::FILE, log::FILE] {
        next.put(file, disk.bytes(file));
    }
    next
}

#[derive(Debug, Default)]
struct Outcomes {
    right: usize,
    refused: usize,
    other_errors: Vec<String>,
    panicked: Vec<String>,
    wrong: Vec<String>,
}

impl Outcomes {
    /// Whether nothing was opened as something else, nothing panicked, and every error says that the file is damaged.
    fn only_refusals(&self) -> bool {
        self.panicked.is_empty() && self.wrong.is_empty() && self.other_errors.is_empty()
    }

    /// Opens a store and asks it everything.
    fn try_out(&mut self, disk: &MemoryDisk, model: &Model, what: String) {
        let opened = catch_unwind(AssertUnwindSafe(|| Store::open_with(Arc::new(disk.clone()), &SETTINGS)));
        let store = match opened {
            Err(_) => return self.panicked.push(what),
            Ok(Err(StorageError::Damaged { .. })) => return self.refused += 1,
            Ok(Err(error)) => return self.other_errors.push(format!("{what}: {error}")),
            Ok(Ok(store)) => store,
        };
        match catch_unwind(AssertUnwindSafe(|| model.differs(&store))) {
            Err(_) => self.panicked.push(what),
            Ok(Err(StorageError::Damaged { .. })) => self.refused += 1,
            Ok(Err(error)) => self.other_errors.push(format!("{what}: {error}")),
            Ok(Ok(true)) => self.wrong.push(what),
            Ok(Ok(false)) => self.right += 1,
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
    }
}

/// Flips bits of every page of a file: in its first bytes, where redb keeps its structure, and elsewhere.
fn flip(file: &str, power_cut: bool) -> Outcomes {
    let (disk, model) = filled(power_cut);
    let bytes = disk.bytes(file);
    let mut outcomes = Outcomes::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for page in 0..bytes.len() / PAGE {
        let header_bytes = if page < 2 { 64 } else { 2 };
        for sample in 0..header_bytes + 2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = if sample < header_bytes {
                (random >> 33) as usize % if page < 2 { 320 } else { 16 }
            } else {
                (random >> 33) as usize % PAGE
            };
            let at = page * PAGE + offset;
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << ((random >> 20) % 8);
            let next = copy(&disk);
            next.put(file, flipped);
            outcomes.try_out(&next, &model, format!("{file} page {page} byte {offset}"));
        }
    }
    outcomes
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs without words about panics of this thread. The hook is one for all tests of the process, so it is never taken
/// away again, and what other tests say is still heard.
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = run();
    QUIET.set(false);
    result
}

#[test]
fn a_flipped_bit_is_found_or_harmless_in_every_page_of_the_documents_file() {
    for power_cut in [false, true] {
        let outcomes = quietly(|| flip(documents::FILE, power_cut));
        println!("documents, power cut {power_cut}: {outcomes:?}");
        assert!(outcomes.only_refusals(), "{outcomes:?}");
        assert!(outcomes.refused > 50);
    }
}

#[test]
fn a_flipped_bit_is_found_or_harmless_in_every_page_of_the_log() {
    for power_cut in [false, true] {
        let outcomes = quietly(|| flip(log::FILE, power_cut));
        println!("log, power cut {power_cut}: {outcomes:?}");
        assert!(outcomes.only_refusals(), "{outcomes:?}");
        assert!(outcomes.refused > 10);
    }
}

/// redb takes a newest commit that is rotten for one that a power cut has torn, and goes back to the one before.
#[test]
fn rot_in_the_last_commit_of_an_idle_log_is_not_taken_for_a_torn_write() {
    let (disk, store) = memory_store();
    let mut model = Model::default();
    for time in 1..=20 {
        model.append(&store, choose(&store, &key(time as usize), time, Some(100)));
        commit(&store);
    }
    let busy = disk.after_power_cut(|_| false);
    store.sync_mark().unwrap();
    let idle = disk.after_power_cut(|_| false);
    let rotten = |cut: &MemoryDisk| {
        let bytes = cut.bytes(log::FILE);
        let mut outcomes = Outcomes::default();
        quietly(|| {
            for at in (2 * PAGE..bytes.len()).step_by(61) {
                let next = copy(cut);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                next.put(log::FILE, flipped);
                outcomes.try_out(&next, &model, format!("byte {at}"));
            }
        });
        outcomes
    };
    let (busy, idle) = (rotten(&busy), rotten(&idle));
    println!("busy: {busy:?}\nidle: {idle:?}");
    assert!(!busy.wrong.is_empty(), "the danger is there: {busy:?}");
    assert!(idle.only_refusals() && idle.refused > 10, "{idle:?}");
}

/// What stands before redb's commit slots is checked by nobody but us, and redb fails by an assertion on some of it.
#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    const DESCRIPTION_BITS: usize = 64 * 8;
    for (file, power_cut) in FILES_AND_ENDS {
        let (disk, model) = filled(power_cut);
        let bytes = disk.bytes(file);
        let mut outcomes = Outcomes::default();
        quietly(|| {
            for bit in (0..DESCRIPTION_BITS).chain((DESCRIPTION_BITS..HEADER_BYTES * 8).step_by(13)) {
                let next = copy(&disk);
                let mut flipped = bytes.clone();
                flipped[PAGE + bit / 8] ^= 1 << (bit % 8);
                next.put(file, flipped);
                outcomes.try_out(&next, &model, format!("{file} header bit {bit}"));
            }
        });
        println!("{file}, power cut {power_cut}: {outcomes:?}");
        assert!(outcomes.only_refusals() && outcomes.right == 0, "{outcomes:?}");
    }
}

/// The length of a file stands nowhere in it but in the guard: redb believed that a cut file was never longer, and then
/// met pages in its lists that the file did not have, which it takes for a fault of its own and ends the process.
#[test]
fn a_file_that_was_cut_after_a_power_cut_is_refused() {
    for file in [documents::FILE, log::FILE] {
        let (disk, model) = filled(true);
        let bytes = disk.bytes(file);
        let mut outcomes = Outcomes::default();
        quietly(|| {
            for page in 0..bytes.len() / PAGE {
                for len in [page * PAGE, page * PAGE + 2048] {
                    let next = copy(&disk);
                    next.put(file, bytes[..len].to_vec());
                    outcomes.try_out(&next, &model, format!("{file} cut to {len}"));
                }
            }
        });
        println!("{outcomes:?}");
        assert!(outcomes.only_refusals() && outcomes.right == 0, "{outcomes:?}");
    }
}

/// Former programs wrote redb's header without a guard, and may do so again between two runs of this one.
#[test]
fn a_store_of_a_former_program_opens_and_is_guarded_from_then_on() {
    for (file, power_cut) in FILES_AND_ENDS {
        let (disk, model) = filled(power_cut);
        let mut bytes = disk.bytes(file);
        assert!(bytes[GUARD].iter().any(|byte| *byte != 0), "{file}");
        bytes[GUARD].fill(0);
        disk.put(file, bytes);
        let store = reopen(&disk);
        model.check(&store);
        drop(store);
        let guarded = disk.bytes(file);
        assert!(guarded[GUARD].iter().any(|byte| *byte != 0), "{file}");
        model.check(&reopen(&disk));
    }
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let (disk, model) = filled(false);
    for file in [documents::FILE, log::FILE] {
        let bytes = disk.bytes(file);
        let mut outcomes = Outcomes::default();
        let whole_pages = (0..bytes.len() / PAGE).map(|page| page * PAGE);
        quietly(|| {
            for len in whole_pages.chain([1, 100, 5000, bytes.len() - 1]) {
                let next = copy(&disk);
                next.put(file, bytes[..len].to_vec());
                outcomes.try_out(&next, &model, format!("{file} cut to {len}"));
            }
        });
        println!("{outcomes:?}");
        assert!(outcomes.only_refusals(), "{outcomes:?}");
        assert_eq!(outcomes.right, 0, "{file}");
    }
}

#[test]
fn files_of_another_store_or_of_another_time_are_refused() {
    let (disk, _) = filled(false);
    let (other, _) = filled(false);
    let mixed = copy(&disk);
    mixed.put(log::FILE, other.bytes(log::FILE));
    let error = Store::open_with(Arc::new(mixed), &SETTINGS).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");

    let store = reopen(&disk);
    let old = copy(&disk.after_power_cut(|_| true));
    for time in 401..600 {
        store.append(choose(&store, &key(3), time, Some(10))).unwrap();
        commit(&store);
    }
    checkpoint(&store);
    for time in 600..800 {
        store.append(choose(&store, &key(3), time, Some(10))).unwrap();
        commit(&store);
    }
    drop(store);
    for file in [documents::FILE, log::FILE] {
        let mixed = copy(&disk);
        mixed.put(file, old.bytes(file));
        let error = Store::open_with(Arc::new(mixed), &SETTINGS).unwrap_err();
        assert!(error.to_string().contains("not of one time"), "{error}");
    }
    assert!(Store::open_with(Arc::new(copy(&disk)), &SETTINGS).is_ok());
}

#[test]
fn an_empty_or_missing_file_is_not_taken_for_a_new_one() {
    let (disk, _) = filled(false);
    for file in [documents::FILE, log::FILE] {
        let emptied = copy(&disk);
        emptied.put(file, Vec::new());
        let error = Store::open_with(Arc::new(emptied), &SETTINGS).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        let zeros = copy(&disk);
        zeros.put(file, vec![0; disk.bytes(file).len()]);
        let error = Store::open_with(Arc::new(zeros), &SETTINGS).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
    let alone = MemoryDisk::default();
    alone.put(documents::FILE, disk.bytes(documents::FILE));
    let error = Store::open_with(Arc::new(alone), &SETTINGS).unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    assert!(Store::create_with(Arc::new(copy(&disk)), &identity(), &SETTINGS).is_err());
}
