//! Collected tombstones on their way out of the store.

use super::Counts;
use super::store_test::{checkpoint, choose, commit, key, memory_store, reopen};
use coequal_protocol::LogRecord;
use coequal_protocol::record::Change;

/// Through memory, a frozen overlay and the file; a lost record of collecting only means that it is collected again.
#[test]
fn a_collected_tombstone_is_gone_from_every_layer_and_stays_gone_after_a_power_cut() {
    let collect = |number| LogRecord::Register { key: key(number), change: Change::Collect { through: 100 } };
    let (disk, store) = memory_store();
    for number in 0..3 {
        store.append(choose(&store, &key(number), 10, None)).unwrap();
    }
    commit(&store);
    checkpoint(&store);
    assert_eq!(store.counts().documents + store.counts().tombstones, 2, "one key is not a user's");
    store.append(collect(0)).unwrap();
    assert_eq!(store.chosen(&key(0)).unwrap(), None);
    assert_eq!(store.scan(None, b"", 99, usize::MAX).unwrap().len(), 2);
    assert_eq!(store.feed_count_after(0).unwrap(), 2);
    let forgotten = reopen(&disk.after_power_cut(|_| true));
    assert!(forgotten.chosen(&key(0)).unwrap().is_some(), "the record was not committed");
    commit(&store);
    for opened in [reopen(&disk.after_power_cut(|_| true)), reopen(&disk.after_power_cut(|_| false))] {
        assert!(opened.register(&key(0)).unwrap().0.is_empty());
        assert_eq!(opened.feed_after(0, usize::MAX).unwrap().len(), 2);
    }
    checkpoint(&store);
    store.append(collect(1)).unwrap();
    store.append(collect(2)).unwrap();
    commit(&store);
    checkpoint(&store);
    let opened = reopen(&disk.after_power_cut(|_| false));
    assert_eq!(opened.counts(), Counts::default());
    assert_eq!(opened.scan(None, b"", 9, 9_999).unwrap(), vec![]);
    assert_eq!(opened.feed_count_after(0).unwrap(), 0);
    assert_eq!(opened.collectable(None, u64::MAX, 9).unwrap().keys, vec![]);
    // A row that was taken away can be written again.
    opened.append(choose(&opened, &key(0), 200, Some(3))).unwrap();
    commit(&opened);
    checkpoint(&opened);
    assert!(opened.chosen(&key(0)).unwrap().is_some());
}

#[test]
fn pages_are_full_and_complete_while_collected_rows_lie_between_them() {
    let (_, store) = memory_store();
    for number in 0..60 {
        let body = (number % 3 == 0).then_some(5);
        store.append(choose(&store, &key(number), 10, body)).unwrap();
    }
    commit(&store);
    checkpoint(&store);
    let alive = || (0..60).filter(|number| number % 3 == 0).count();
    let all = store.scan(None, b"", 99, usize::MAX).unwrap();
    assert!(all.len() > alive());
    let mut swept = None;
    loop {
        let piece = store.collectable(swept.as_ref(), 100, 7).unwrap();
        for key in piece.keys {
            store.append(LogRecord::Register { key, change: Change::Collect { through: 100 } }).unwrap();
        }
        swept = piece.next;
        if swept.is_none() {
            break;
        }
    }
    let (mut seen, mut after) = (0, None);
    loop {
        let page = store.scan(after.as_ref(), b"", 2, usize::MAX).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        assert!(page.iter().all(|body| !body.revision.is_tombstone()));
        seen += page.len();
    }
    assert_eq!(seen, alive());
    assert_eq!(store.counts().tombstones, 0);
}
