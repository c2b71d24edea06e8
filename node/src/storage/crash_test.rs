//! Power cuts at every step, and processes killed while they write.

use super::store_test::{Model, SETTINGS, checkpoint, choose, commit, identity, key, memory_store, reopen};
use super::{DataDirectory, MemoryDisk, Store};
use coequal_protocol::LogRecord;
use coequal_types::NodeId;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
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
