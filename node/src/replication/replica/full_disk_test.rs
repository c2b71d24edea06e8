//! What a replica does while its store cannot be read, as when a checkpoint has found the disk full.

use super::driven_test::{Driven, EPOCH, OTHER, ballot_of_other, configuration};
use crate::replication::error::ServiceError;
use coequal_protocol::message::Message;
use coequal_protocol::promises::HELD_MAX;
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::{DatabaseStatus, NodeId};
use std::sync::Arc;

fn named(number: u64) -> Key {
    Key::of("things", &format!("{number:05}"))
}

/// Of all documents.
fn ballot_of_documents() -> Ballot {
    Ballot::ordinary(1_740_000_000_000 << 16, OTHER, 1)
}

fn fill(driven: &mut Driven, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let ballot = ballot_of_documents();
        let body = Some(bytes::Bytes::from(vec![b' '; 2_000]));
        let revision = Arc::new(Revision { version: 1, stamp: ballot, body, history: Vec::new() });
        let change =
            Change::Chosen { ballot, feed_sequence: driven.store.next_feed_sequence(), revision: Some(revision) };
        driven.store.append(LogRecord::Register { key: named(number), change }).unwrap();
    }
    driven.commit();
}

/// Documents 0 to 1,000 are in the file alone, and a checkpoint has just found no space.
fn full() -> Driven {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    fill(&mut driven, 0..1_000);
    driven.store.checkpoint().unwrap();
    fill(&mut driven, 1_000..2_000);
    driven.disk.set_free_pages(0);
    driven.disk.set_open_fails(true);
    assert!(driven.store.checkpoint().unwrap_err().is_disk_full());
    driven.disk.set_free_pages(u64::MAX);
    assert!(driven.store.register(&named(5)).unwrap_err().is_disk_full());
    driven
}

/// One more checkpoint that finds no space, and cannot open the file anew.
fn fill_memory_and_fail(driven: &Driven) {
    assert!(driven.store.checkpoint().unwrap_err().is_disk_full());
}

#[test]
fn a_write_whose_document_cannot_be_read_is_answered_by_its_deadline() {
    let mut driven = full();
    let outcome = driven.writes(named(5), 1_000);
    let read = driven.reads(named(6), 1_000);
    driven.passes(2_000);
    assert!(outcome.lock().unwrap().is_some(), "the write waits for ever");
    let read = read.lock().unwrap().take();
    assert!(matches!(read, Some(Err(ServiceError::DiskFull))), "{:?}", read.map(|read| read.map(drop)));
}

#[test]
fn a_write_that_met_a_full_disk_goes_on_when_there_is_space() {
    let mut driven = full();
    let outcome = driven.writes(named(5), 60_000);
    driven.passes(200);
    driven.disk.set_open_fails(false);
    driven.sends();
    driven.passes(2_000);
    let prepares =
        |sent: &[(NodeId, Message)]| sent.iter().any(|(_, message)| matches!(message, Message::Prepare { .. }));
    assert!(prepares(&driven.sends()), "{:?}", outcome.lock().unwrap().as_ref().map(|result| result.is_ok()));
}

/// Time passes, and the other node answers what an alignment asks: it does not know that document 5 is chosen, and
/// nothing of its feed is missing here.
fn aligns(driven: &mut Driven, milliseconds: u64) {
    for _ in 0..milliseconds / 25 {
        driven.passes(25);
        for (to, message) in driven.sends() {
            let answer = match message {
                Message::Sample { alignment, .. } => {
                    let pending = vec![named(5)];
                    Message::SampleAnswer { alignment, epoch: EPOCH, feed: 9, head: 40, behind: 0, pending }
                }
                Message::Query { key, read, .. } => {
                    let (accepted, chosen, revision) = (ballot_of_documents(), false, None);
                    Message::QueryAnswer { epoch: EPOCH, key, read, accepted, chosen, revision }
                }
                _ => continue,
            };
            if to == OTHER {
                driven.hears(OTHER, answer);
            }
        }
    }
}

#[test]
fn a_key_that_could_not_be_read_for_a_moment_is_asked_for_again_and_the_alignment_ends() {
    let mut driven = full();
    aligns(&mut driven, 200);
    assert!(driven.replica.met_full_ms.is_some(), "the document was not looked for");
    assert_eq!(driven.replica.view_status(), DatabaseStatus::Synchronizing);
    driven.disk.set_open_fails(false);
    aligns(&mut driven, 3_000);
    assert_eq!(driven.replica.view_status(), DatabaseStatus::Online);
}

/// Whoever forgot it would accept what it has promised to refuse (I4).
#[test]
fn a_promise_that_could_not_be_written_down_is_not_forgotten() {
    let mut driven = full();
    driven.disk.set_open_fails(false);
    let ballot = ballot_of_other();
    let key = |number: u64| Key::of("a", &format!("{number:06}"));
    let prepare = |number: u64| Message::Prepare { epoch: EPOCH, key: key(number), ballot };
    // The first one moves the bound; once that is on disk, promises stay in memory.
    driven.hears(OTHER, prepare(HELD_MAX as u64 + 1));
    driven.commit();
    for number in 0..HELD_MAX as u64 {
        driven.hears(OTHER, prepare(number));
    }
    assert_eq!(driven.replica.promises.held(), HELD_MAX);
    // The document of the promise that is one too many is at hand; that of the oldest one is not.
    let one_more = HELD_MAX as u64;
    driven.hears(OTHER, Message::Query { epoch: EPOCH, key: key(one_more), read: 1, known: Ballot::NONE });
    driven.commit();
    driven.sends();
    driven.disk.set_free_pages(0);
    driven.disk.set_open_fails(true);
    fill_memory_and_fail(&driven);
    driven.disk.set_free_pages(u64::MAX);
    driven.hears(OTHER, prepare(one_more));
    driven.disk.set_open_fails(false);
    driven.passes(2_000);
    driven.sends();
    // An older ballot for the first key, which would have been the one to be written down.
    let older = Ballot { time: ballot.time - 1, ..ballot };
    driven.hears(OTHER, Message::Prepare { epoch: EPOCH, key: key(0), ballot: older });
    let sent = driven.sends_durably();
    let promised =
        sent.iter().any(|(_, message)| matches!(message, Message::Promised { ballot, .. } if *ballot == older));
    assert!(!promised, "a newer ballot was promised");
}
