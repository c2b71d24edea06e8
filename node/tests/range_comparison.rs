//! Silent differences between real stores: a copy that lost documents, went back to older revisions or holds another
//! content, behind cursors that say that all is there. Feeds never tell; a comparison finds and repairs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use coequal_node::replication::service::Consistency;
use coequal_node::storage::{Store, StoreSettings};
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::record::Change;
use coequal_protocol::{Held, Key, LogRecord};
use coequal_types::rest::ComparisonRun;
use coequal_types::{DatabaseName, DatabaseSettings};
use common::{TestNode, is_online, put, restart, soon, three, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DOCUMENTS: u32 = 300;

fn name() -> DatabaseName {
    "orders".parse().unwrap()
}

fn document(at: u32) -> Key {
    Key::of("notes", &format!("k{at:03}"))
}

/// Three nodes with the same 300 documents, two of them deleted again.
async fn filled(directory: &Path) -> (Vec<TestNode>, Vec<std::path::PathBuf>) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("COEQUAL_LOG"))
        .with_test_writer()
        .try_init();
    let (nodes, paths) = three(directory).await;
    nodes[0].running.service.create_database(&name(), DatabaseSettings::default(), soon()).await.unwrap();
    until("orders ONLINE everywhere", || nodes.iter().all(|node| is_online(node, &name()))).await;
    let database = nodes[0].running.service.database(&name()).unwrap();
    for at in 0..DOCUMENTS {
        database.write(document(at), put(&format!("{{\"n\":{at}}}")), false, soon()).await.unwrap();
    }
    for at in [50, 51] {
        let delete = Operation { kind: OperationKind::Delete, condition: Condition::Any, request: None };
        database.write(document(at), delete, false, soon()).await.unwrap();
    }
    until_equal(&nodes).await;
    (nodes, paths)
}

async fn export(node: &TestNode) -> BTreeMap<Key, (u64, Vec<u8>)> {
    let database = node.running.service.database(&name()).unwrap();
    let Ok(page) = database.page(&"notes".parse().unwrap(), "", None, 1000, 1 << 24).await else {
        return BTreeMap::new();
    };
    page.documents.into_iter().map(|(key, r)| (key, (r.version, r.body.clone().unwrap().to_vec()))).collect()
}

async fn until_equal(nodes: &[TestNode]) {
    for _ in 0..3_000 {
        let mut exports = Vec::new();
        for node in nodes {
            exports.push(export(node).await);
        }
        let drained = nodes.iter().all(|node| {
            let replication = node.running.service.database(&name()).unwrap().replication();
            replication.nodes.iter().all(|node| node.backlog_entries == 0)
        });
        if drained && !exports[0].is_empty() && exports.windows(2).all(|two| two[0] == two[1]) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the copies still differ after 30 s");
}

/// Writes the store of a stopped node anew, through the storage code, with each chosen revision as `change` gives it: the
/// cursors say that everything was applied.
fn alter(directory: &Path, change: impl Fn(&Key, Held) -> Option<Held>) -> u64 {
    let place = directory.join("databases").join("orders");
    let fresh = directory.join("altered");
    let settings = StoreSettings { cache_bytes: 16 << 20, overlay_bytes: 4 << 20 };
    let old = Store::open(&place, &settings).unwrap();
    let new = Store::create(&fresh, old.identity(), &settings).unwrap();
    let mut changed = 0;
    for body in old.scan(None, b"", usize::MAX >> 1, usize::MAX >> 1).unwrap() {
        let before = Held { ballot: body.ballot, revision: body.revision };
        let after = change(&body.key, before.clone());
        changed += u64::from(after.as_ref() != Some(&before));
        if let Some(Held { ballot, revision }) = after {
            let feed_sequence = new.next_feed_sequence();
            let change = Change::Chosen { ballot, feed_sequence, revision: Some(revision) };
            new.append(LogRecord::Register { key: body.key, change }).unwrap();
        }
    }
    for (source, feed, sequence) in old.cursors() {
        new.append(LogRecord::Cursor { source, feed, sequence }).unwrap();
    }
    for meta in ["owner", "configuration", "clock", "aligned"] {
        if let Some(value) = old.meta(meta) {
            new.append(LogRecord::Meta { name: meta.to_owned(), value }).unwrap();
        }
    }
    new.commit(&new.take_batch().unwrap()).unwrap();
    drop((old, new));
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&fresh, &place).unwrap();
    changed
}

/// Stops the third node, alters its store, and starts it again: ONLINE, and nobody the wiser.
async fn damaged(
    nodes: &mut Vec<TestNode>,
    paths: &[std::path::PathBuf],
    change: impl Fn(&Key, Held) -> Option<Held>,
) -> u64 {
    let node = nodes.pop().unwrap();
    let (address, join) = (node.peer_address.clone(), vec![nodes[0].peer_address.clone()]);
    node.running.stop().await;
    let changed = alter(&paths[2], change);
    nodes.push(restart(&paths[2], "n2", &address, join).await);
    until("the third node ONLINE again", || is_online(&nodes[2], &name())).await;
    until("its feed is drained", || {
        let replication = nodes[2].running.service.database(&name()).unwrap().replication();
        replication.nodes.iter().all(|node| node.reachable && node.backlog_entries == 0)
    })
    .await;
    assert_ne!(export(&nodes[0]).await, export(&nodes[2]).await, "the difference is there, and ONLINE");
    changed
}

/// Three losses of 23 documents, ten steps back, and a deleted document that is back.
fn lost_and_older(key: &Key, held: Held) -> Option<Held> {
    let at: u32 = key.document_key().trim_start_matches('k').parse().unwrap_or(u32::MAX);
    let older = || {
        let mut revision = (*held.revision).clone();
        revision.body = Some("{\"older\":true}".into());
        let mut ballot = held.ballot;
        ballot.time -= 1;
        Some(Held { ballot, revision: Arc::new(revision) })
    };
    match at {
        5 | 100..120 | 298 | 299 => None,
        200..210 | 50 => older(),
        _ => Some(held),
    }
}

/// Another content at the same ballot.
fn rotten(key: &Key, held: Held) -> Option<Held> {
    let mut revision = (*held.revision).clone();
    if key.document_key() == "k042" {
        revision.body = Some("{\"n\":43}".into());
    }
    Some(Held { revision: Arc::new(revision), ..held })
}

/// Compares and waits for the end.
async fn compare(node: &TestNode) -> ComparisonRun {
    let database = node.running.service.database(&name()).unwrap();
    let before = database.comparison().unwrap().last.map_or(0, |last| last.ended_unix_ms.unwrap());
    let begun = database.compare(soon()).await.unwrap();
    assert!(begun.running.is_some());
    let again = database.compare(soon()).await.unwrap();
    if let Some(again) = again.running {
        assert_eq!(again.started_unix_ms, begun.running.unwrap().started_unix_ms, "asked twice it is one");
    }
    let last = || database.comparison().unwrap().last.filter(|last| last.ended_unix_ms.unwrap() > before);
    until("the comparison ends", || last().is_some()).await;
    last().unwrap()
}

fn metric(node: &TestNode, name: &str) -> f64 {
    let samples = node.running.service.metrics();
    samples.iter().find(|sample| sample.name == name).unwrap_or_else(|| panic!("no {name}")).value
}

async fn stop(nodes: Vec<TestNode>) {
    for node in nodes {
        node.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_finds_and_repairs_what_a_copy_silently_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (mut nodes, paths) = filled(directory.path()).await;
    let changed = damaged(&mut nodes, &paths, lost_and_older).await;
    assert_eq!(changed, 34);
    let run = compare(&nodes[0]).await;
    assert_eq!((run.differences, run.repaired, run.unresolved, run.quarantined), (34, 34, 0, 0), "{run:?}");
    assert!(run.peers.len() == 2 && run.peers.iter().all(|peer| peer.compared), "{run:?}");
    assert!(run.findings[0].contains("document k005 of collection notes"), "{run:?}");
    assert!(run.keys_compared >= 2 * 300 && run.ranges_done >= 6 && run.ranges_total >= run.ranges_done, "{run:?}");
    until_equal(&nodes).await;
    let database = nodes[2].running.service.database(&name()).unwrap();
    let deleted = database.read(&document(50), Consistency::Local, None, soon()).await.unwrap();
    assert!(deleted.is_none(), "what was deleted is deleted again");
    assert_eq!(metric(&nodes[0], "coequal_comparison_repaired_total"), 34.0);
    assert_eq!(metric(&nodes[0], "coequal_comparison_differences_total"), 34.0);
    // What a replica shows of itself is up to a tenth of a second old.
    let received = || metric(&nodes[2], "coequal_comparison_received_repairs_total");
    until("the repaired copy counts what it received", || received() >= 34.0).await;
    assert_eq!(received(), 34.0, "each once");
    assert!(metric(&nodes[0], "coequal_comparison_last_end_timestamp_seconds") > 1e9);
    let again = compare(&nodes[0]).await;
    assert_eq!((again.differences, again.peers.len()), (0, 2), "{again:?}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_finds_and_repairs_by_itself_what_it_silently_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (mut nodes, paths) = filled(directory.path()).await;
    let changed = damaged(&mut nodes, &paths, lost_and_older).await;
    let run = compare(&nodes[2]).await;
    assert_eq!((run.differences, run.repaired, run.unresolved), (changed, changed, 0), "{run:?}");
    until_equal(&nodes).await;
    // What a comparison found is remembered across a restart.
    let node = nodes.pop().unwrap();
    let (address, join) = (node.peer_address.clone(), vec![nodes[0].peer_address.clone()]);
    node.running.stop().await;
    nodes.push(restart(&paths[2], "n2", &address, join).await);
    until("the third node ONLINE again", || is_online(&nodes[2], &name())).await;
    let last = nodes[2].running.service.database(&name()).unwrap().comparison().unwrap().last;
    assert_eq!(last, Some(run));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_with_another_content_at_the_same_ballot_is_put_aside_and_deployed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (mut nodes, paths) = filled(directory.path()).await;
    assert_eq!(damaged(&mut nodes, &paths, rotten).await, 1);
    let run = compare(&nodes[0]).await;
    assert_eq!((run.differences, run.repaired, run.quarantined), (1, 0, 1), "{run:?}");
    assert!(run.findings[0].contains("document k042") && run.findings[0].contains("two contents"), "{run:?}");
    let aside = paths[2].join("aside");
    until("the damaged copy is put aside", || std::fs::read_dir(&aside).is_ok_and(|found| found.count() > 0)).await;
    until("deployed anew", || is_online(&nodes[2], &name())).await;
    until_equal(&nodes).await;
    let database = nodes[2].running.service.database(&name()).unwrap();
    let read = database.read(&document(42), Consistency::Local, None, soon()).await.unwrap().unwrap();
    assert_eq!(read.revision.body.as_deref(), Some(&b"{\"n\":42}"[..]));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_writers_write_nothing_is_reported_where_nothing_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let (nodes, _) = filled(directory.path()).await;
    let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let database = node.running.service.database(&name()).unwrap();
        let (ended, written) = (Arc::clone(&ended), Arc::clone(&written));
        writers.push(tokio::spawn(async move {
            let mut n = u32::try_from(at).unwrap();
            while !ended.load(Ordering::Relaxed) {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let delete = Operation { kind: OperationKind::Delete, condition: Condition::Any, request: None };
                let write = if n.is_multiple_of(7) { delete } else { put(&format!("{{\"n\":{n}}}")) };
                // A delete of what is deleted is refused; that is as good.
                let _ = database.write(document((n >> 8) % (DOCUMENTS + 100)), write, false, soon()).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut runs = Vec::new();
    for round in 0..2 {
        until("writers are at work", || written.load(Ordering::Relaxed) > round * 300 + 100).await;
        for node in &nodes {
            runs.push(compare(node).await);
        }
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    println!(
        "{} writes while {} keys were compared",
        written.load(Ordering::Relaxed),
        runs.iter().map(|r| r.keys_compared).sum::<u64>()
    );
    for run in runs {
        assert_eq!(run.differences, 0, "{run:?}");
        assert!(run.peers.iter().all(|peer| peer.compared), "{run:?}");
    }
    until_equal(&nodes).await;
    stop(nodes).await;
}
