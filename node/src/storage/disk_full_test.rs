//! No space, and disks that fail: what may be tried again and what may not.

use super::store_test::{Model, SETTINGS, checkpoint, choose, commit, identity, key, memory_store, reopen};
use super::{CheckpointReport, StorageError, Store};
use std::path::Path;
use std::process::Command;

/// Appends until a commit finds the disk full; answers the batch that did not fit.
fn fill(store: &Store, model: &mut Model, from: u64) -> super::Batch {
    for time in from..from + 100_000 {
        model.append(store, choose(store, &key(time as usize % 50), time, Some(3000)));
        if time % 3 == 0 {
            let batch = store.take_batch().unwrap();
            match store.commit(&batch) {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.is_disk_full(), "{error}");
                    return batch;
                }
            }
        }
    }
    panic!("the disk was never full");
}

#[test]
fn a_full_disk_is_said_reads_go_on_and_the_same_batch_fits_when_there_is_space() {
    for free_pages in [0, 1, 2, 5, 20, 60] {
        let (disk, store) = memory_store();
        let mut model = Model::default();
        model.append(&store, choose(&store, &key(1), 1, Some(100)));
        commit(&store);
        checkpoint(&store);
        disk.set_free_pages(free_pages);
        let batch = fill(&store, &mut model, 2);
        for _ in 0..3 {
            // Opening the file anew may have given a page back, so that it fits.
            assert!(store.commit(&batch).err().is_none_or(|error| error.is_disk_full()));
        }
        model.check(&store);
        assert_eq!(store.failure(), None);
        let durable = store.durable();
        let cut = disk.after_power_cut(|_| true);
        disk.set_free_pages(u64::MAX);
        store.commit(&batch).unwrap();
        assert_eq!(store.durable(), batch.last);
        model.append(&store, choose(&store, &key(7), 900_000, Some(10)));
        commit(&store);
        checkpoint(&store);
        model.check(&store);
        drop(store);
        model.check(&reopen(&disk));
        // And a power cut while it was full loses nothing that was committed.
        let store = reopen(&cut);
        assert!(store.durable() >= durable);
        model.cut(store.durable()).check(&store);
    }
}

#[test]
fn a_checkpoint_that_finds_the_disk_full_is_made_when_there_is_space() {
    for free_pages in [0, 1, 3, 10, 30] {
        let (disk, store) = memory_store();
        let mut model = Model::default();
        for time in 1..100 {
            model.append(&store, choose(&store, &key(time as usize), time, Some(2000)));
        }
        commit(&store);
        disk.set_free_pages(free_pages);
        for _ in 0..3 {
            assert!(store.checkpoint().unwrap_err().is_disk_full());
            model.check(&store);
        }
        disk.set_free_pages(u64::MAX);
        assert!(matches!(store.checkpoint().unwrap(), CheckpointReport::Written { .. }));
        model.check(&store);
        drop(store);
        model.check(&reopen(&disk));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_tried_again_and_reads_go_on() {
    let (disk, store) = memory_store();
    let mut model = Model::default();
    model.append(&store, choose(&store, &key(1), 1, Some(100)));
    commit(&store);
    model.append(&store, choose(&store, &key(2), 2, Some(100)));
    let batch = store.take_batch().unwrap();
    disk.set_sync_fails(true);
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, StorageError::Io { action: "syncing", .. }), "{error}");
    disk.set_sync_fails(false);
    assert_eq!(store.commit(&batch).unwrap_err(), error);
    assert_eq!(store.append(choose(&store, &key(1), 3, None)).unwrap_err(), error);
    assert_eq!(store.checkpoint().unwrap_err(), error);
    assert_eq!(store.failure(), Some(error));
    assert_eq!(store.durable(), 1);
    model.check(&store);
    let cut = disk.after_power_cut(|_| false);
    model.cut(1).check(&reopen(&cut));
}

#[test]
fn a_checkpoint_whose_sync_fails_is_final_too() {
    let (disk, store) = memory_store();
    let mut model = Model::default();
    model.append(&store, choose(&store, &key(1), 1, Some(100)));
    commit(&store);
    disk.set_sync_fails(true);
    let error = store.checkpoint().unwrap_err();
    assert!(matches!(error, StorageError::Io { action: "syncing", .. }), "{error}");
    disk.set_sync_fails(false);
    assert_eq!(store.checkpoint().unwrap_err(), error);
    model.check(&reopen(&disk.after_power_cut(|_| true)));
}

struct Tmpfs<'a>(&'a Path);

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// A real file system of 6 MB. Needs the right to mount.
#[test]
fn a_real_full_file_system_is_recovered_from() {
    let root = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(root.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: this user cannot mount a tmpfs");
        return;
    }
    let _unmount = Tmpfs(root.path());
    let store = Store::create(&root.path().join("orders"), &identity(), &SETTINGS).unwrap();
    let mut model = Model::default();
    std::fs::write(root.path().join("ballast"), vec![1; 2 << 20]).unwrap();
    let batch = fill(&store, &mut model, 1);
    model.check(&store);
    assert!(store.commit(&batch).unwrap_err().is_disk_full());
    std::fs::remove_file(root.path().join("ballast")).unwrap();
    store.commit(&batch).unwrap();
    checkpoint(&store);
    model.check(&store);
    drop(store);
    model.check(&Store::open(&root.path().join("orders"), &SETTINGS).unwrap());
}
