//! What a peer that catches up will ask for next is read while it applies what it has got, and is never of another time. A peer
//! that is up to date gets news in company.

use super::Event;
use super::driven_test::{Driven, EPOCH, OTHER, configuration};
use coequal_protocol::message::{FeedEntry, Message};
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::{Ballot, Key, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;

const DOCUMENTS: u64 = 1_200;
const ONE_GO: usize = 512;
/// Bodies of a batch at most, but for the last one.
const BODY_BYTES_MAX: usize = 4 << 20;

fn named(number: u64) -> Key {
    Key::of("things", &format!("{number:05}"))
}

/// Version `version` of a document, chosen by the other nodes.
fn chooses(driven: &Driven, number: u64, version: u64) {
    chooses_body(driven, number, version, "{}".into());
}

fn chooses_body(driven: &Driven, number: u64, version: u64, body: bytes::Bytes) {
    let ballot = Ballot::ordinary((1_740_000_000_000 << 16) + version, OTHER, 1);
    let revision = Arc::new(Revision { version, stamp: ballot, body: Some(body), history: Vec::new() });
    let change = Change::Chosen { ballot, feed_sequence: driven.store.next_feed_sequence(), revision: Some(revision) };
    driven.store.append(LogRecord::Register { key: named(number), change }).unwrap();
}

fn filled() -> Driven {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    (0..DOCUMENTS).for_each(|number| chooses(&driven, number, 1));
    driven.commit();
    driven.reaches(OTHER, true);
    driven.sends();
    driven
}

struct Batch {
    entries: Vec<FeedEntry>,
    through: u64,
    remaining: u64,
    epoch: u64,
}

/// The answer to a pull, in the turn in which it comes.
fn pulls(driven: &mut Driven, request: u64, after: u64) -> Batch {
    pulls_at_most(driven, request, after, 1 << 20)
}

fn pulls_at_most(driven: &mut Driven, request: u64, after: u64, bytes_max: u32) -> Batch {
    let feed = driven.store.feed_id();
    let entries_max = ONE_GO as u32;
    driven.hears(
        OTHER,
        Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies: true, own_feed: 0, durable: 0 },
    );
    turn(driven);
    let answer = driven.sends().into_iter().find_map(|(_, message)| match message {
        Message::FeedBatch { request: number, after: from, through, remaining, entries, epoch, .. }
            if number == request && from == after =>
        {
            Some(Batch { entries, through, remaining, epoch })
        }
        _ => None,
    });
    answer.expect("an answer")
}

/// One turn of the loop, at the same time.
fn turn(driven: &mut Driven) {
    driven.handle(Event::Tick);
    driven.passes(1);
}

#[test]
fn the_next_piece_is_read_before_it_is_asked_for() {
    let mut driven = filled();
    let first = pulls(&mut driven, 1, 0);
    assert_eq!((first.entries.len(), first.remaining), (ONE_GO, DOCUMENTS - ONE_GO as u64));
    assert!(driven.replica.next_due_ms() <= driven.now_ms, "the next turn comes at once");
    turn(&mut driven);
    assert!(driven.replica.next_due_ms() > driven.now_ms, "there is nothing to be read any more");
    // A document of the piece is written again: what was read is from before that, and its newest revision comes later.
    let again = ONE_GO as u64 + 5;
    chooses(&driven, again, 2);
    driven.commit();
    let second = pulls(&mut driven, 2, first.through);
    let version = |batch: &Batch, number: u64| {
        let found = batch.entries.iter().find(|entry| entry.key == named(number));
        found.and_then(|entry| entry.revision.as_ref()).map(|revision| revision.version)
    };
    assert_eq!(version(&second, again), Some(1), "this piece was read before");
    assert!(second.remaining > 0);
    turn(&mut driven);
    let third = pulls(&mut driven, 3, second.through);
    assert_eq!((version(&third, again), third.remaining), (Some(2), 0));
    let mut seen = BTreeMap::new();
    for entry in [first, second, third].into_iter().flat_map(|batch| batch.entries) {
        seen.insert(entry.key, entry.revision.unwrap().version);
    }
    assert_eq!(seen.len() as u64, DOCUMENTS);
    assert_eq!(seen.values().filter(|version| **version == 2).count(), 1);
}

/// By the end of a feed its reader counts as fresh as of its request (`Coequal-Age`), and as aligned.
#[test]
fn what_reached_the_end_before_the_feed_grew_is_read_again() {
    let mut driven = filled();
    let first = pulls(&mut driven, 1, 0);
    turn(&mut driven);
    let second = pulls(&mut driven, 2, first.through);
    turn(&mut driven);
    chooses(&driven, DOCUMENTS, 1);
    driven.commit();
    let third = pulls(&mut driven, 3, second.through);
    assert_eq!((third.remaining, third.through), (0, driven.store.feed_head()));
    assert!(third.entries.iter().any(|entry| entry.key == named(DOCUMENTS)));
}

#[test]
fn a_pull_from_elsewhere_is_not_answered_with_what_was_read() {
    let mut driven = filled();
    let first = pulls(&mut driven, 1, 0);
    turn(&mut driven);
    // The peer came back from an older disk.
    let anew = pulls(&mut driven, 2, 0);
    assert_eq!(anew.through, first.through);
    assert_eq!(anew.entries.first().map(|entry| entry.key.clone()), Some(named(0)));
}

#[test]
fn what_was_read_in_a_former_epoch_is_read_again() {
    let mut driven = filled();
    let first = pulls(&mut driven, 1, 0);
    turn(&mut driven);
    let again = ONE_GO as u64 + 5;
    chooses(&driven, again, 2);
    driven.adopts(configuration(EPOCH + 1, 3));
    driven.commit();
    let second = pulls(&mut driven, 2, first.through);
    assert_eq!(second.epoch, EPOCH + 1);
    assert!(second.entries.iter().all(|entry| entry.key != named(again)), "it stands at the end of the feed now");
}

#[test]
fn what_is_said_to_remain_is_right_at_the_end_and_about_right_before() {
    let mut driven = filled();
    let (mut after, mut left, mut request) = (0, DOCUMENTS, 0);
    loop {
        request += 1;
        let batch = pulls(&mut driven, request, after);
        left -= batch.entries.len() as u64;
        assert_eq!(batch.remaining, left);
        after = batch.through;
        if left == 0 {
            break;
        }
    }
    assert_eq!(after, driven.store.feed_head());
}

#[test]
fn a_batch_has_four_mebibytes_of_bodies_at_most_however_many_are_asked_for() {
    const LARGE: u64 = 12;
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    for number in 0..LARGE {
        chooses_body(&driven, number, 1, vec![b' '; 1_000_000].into());
        driven.commit();
    }
    driven.reaches(OTHER, true);
    driven.sends();
    let (mut after, mut came, mut request) = (0, 0, 0);
    while came < LARGE {
        request += 1;
        let batch = pulls_at_most(&mut driven, request, after, u32::MAX);
        let bodies = batch.entries.iter().filter_map(|entry| entry.revision.as_ref()?.body.as_ref());
        let sizes: Vec<usize> = bodies.map(bytes::Bytes::len).collect();
        let (_, but_the_last) = sizes.split_last().expect("a body");
        assert!(but_the_last.iter().sum::<usize>() <= BODY_BYTES_MAX, "{} bodies in one batch", sizes.len());
        came += sizes.len() as u64;
        after = batch.through;
        // The next one is read ahead, under the same bound.
        turn(&mut driven);
    }
    assert_eq!((came, after), (LARGE, driven.store.feed_head()));
}

/// Asks for what comes next and leaves bodies out, as a peer that is up to date does.
fn asks(driven: &mut Driven, request: u64) {
    let (feed, after) = (driven.store.feed_id(), driven.store.feed_head());
    let (entries_max, bytes_max) = (ONE_GO as u32, 1 << 20);
    driven.hears(
        OTHER,
        Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies: false, own_feed: 0, durable: 0 },
    );
}

/// Entries of the batch that was sent since, if one was.
fn batch_sent(driven: &mut Driven) -> Option<usize> {
    driven.sends().into_iter().find_map(|(_, message)| match message {
        Message::FeedBatch { entries, .. } => Some(entries.len()),
        _ => None,
    })
}

#[test]
fn few_entries_wait_for_company_and_many_do_not() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.passes(500);
    driven.sends();

    asks(&mut driven, 1);
    chooses(&driven, 0, 1);
    driven.passes(1);
    assert_eq!(batch_sent(&mut driven), Some(1), "the first one has nothing to wait for");

    asks(&mut driven, 2);
    let served_ms = driven.now_ms;
    chooses(&driven, 1, 1);
    driven.passes(1);
    assert_eq!(batch_sent(&mut driven), None, "the next one came too soon after it");
    assert_eq!(driven.replica.next_due_ms(), served_ms + 4, "the loop wakes for it");
    chooses(&driven, 2, 1);
    driven.passes(2);
    assert_eq!(batch_sent(&mut driven), None);
    driven.passes(1);
    assert_eq!(batch_sent(&mut driven), Some(2), "with what came meanwhile");

    asks(&mut driven, 3);
    (0..65).for_each(|number| chooses(&driven, number, 2));
    driven.passes(1);
    assert_eq!(batch_sent(&mut driven), Some(65), "so many are company enough");

    asks(&mut driven, 4);
    driven.passes(499);
    assert_eq!(batch_sent(&mut driven), None, "nothing to tell");
    driven.passes(1);
    assert_eq!(batch_sent(&mut driven), Some(0), "a sign of life");
}
