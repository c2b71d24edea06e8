//! The pulled side of feeds: whose bodies are sent along, and what a full disk does in the middle of it.

use super::Event;
use super::driven_test::{Driven, EPOCH, OTHER, THIRD, configuration, requests};
use crate::storage::Store;
use coequal_protocol::message::{FeedEntry, Message};
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::NodeId;
use std::sync::Arc;

const FEED: u64 = 9;
/// So much is behind each batch that the node is far from the end.
const FAR: u64 = 100_000;

fn named(number: u64) -> Key {
    Key::of("things", &format!("{number:05}"))
}

fn entry(number: u64, sequence: u64, with_body: bool) -> FeedEntry {
    let ballot = Ballot::ordinary(1_740_000_000_000 << 16, OTHER, 1);
    let revision = Arc::new(Revision { version: 1, stamp: ballot, body: Some("{}".into()), history: Vec::new() });
    FeedEntry { key: named(number), ballot, sequence, revision: with_body.then_some(revision) }
}

/// The newest pull from the other node: its number, behind which entry, and whether it wants bodies.
fn pull(sent: &[(NodeId, Message)]) -> Option<(u64, u64, bool)> {
    sent.iter().rev().find_map(|(to, message)| match message {
        Message::FeedRequest { request, after, bodies, .. } if *to == OTHER => Some((*request, *after, *bodies)),
        _ => None,
    })
}

/// Waits for the next pull.
fn next_pull(driven: &mut Driven) -> (u64, u64, bool) {
    for _ in 0..200 {
        if let Some(pull) = pull(&driven.sends()) {
            return pull;
        }
        driven.passes(25);
    }
    panic!("no pull in five seconds");
}

fn answers(driven: &mut Driven, pull: (u64, u64, bool), numbers: std::ops::Range<u64>) {
    answers_with_left(driven, pull, numbers, FAR);
}

fn answers_with_left(
    driven: &mut Driven,
    (request, after, bodies): (u64, u64, bool),
    numbers: std::ops::Range<u64>,
    remaining: u64,
) {
    let entries: Vec<FeedEntry> = numbers.zip(after + 1..).map(|(number, at)| entry(number, at, bodies)).collect();
    let through = after + entries.len() as u64;
    let batch = Message::FeedBatch { request, feed: FEED, after, through, remaining, entries, epoch: EPOCH };
    driven.hears(OTHER, batch);
}

fn catching_up() -> Driven {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven
}

fn chosen_of(store: &Store, numbers: std::ops::Range<u64>) -> usize {
    numbers.filter(|number| store.chosen(&named(*number)).unwrap().is_some()).count()
}

#[test]
fn bodies_are_not_sent_along_where_most_of_the_last_batch_were_here() {
    let mut driven = catching_up();
    let first = next_pull(&mut driven);
    assert!(first.2, "a node that is far behind wants them");
    answers(&mut driven, first, 0..10);
    let second = next_pull(&mut driven);
    assert!(second.2, "none of the last ones was here");
    // As from a second source: the same documents, six of ten.
    answers(&mut driven, second, 4..14);
    let third = next_pull(&mut driven);
    assert!(!third.2, "six of ten were here");
    answers(&mut driven, third, 14..24);
    let sent = driven.sends();
    let wanted = sent.iter().find_map(|(_, message)| match message {
        Message::BodyRequest { keys } => Some(keys.len()),
        _ => None,
    });
    assert_eq!(wanted, Some(10), "what is not here is asked for by itself");
    assert_eq!(chosen_of(&driven.store, 0..24), 14);
    let fourth = next_pull(&mut driven);
    assert!(fourth.2, "ten of ten were not here");
}

/// How long until the next pull, in milliseconds, and how many entries it asks for.
fn wait_for_pull(driven: &mut Driven) -> (u64, u32) {
    let began_ms = driven.now_ms;
    loop {
        let asked = driven.sends().iter().find_map(|(to, message)| match message {
            Message::FeedRequest { entries_max, .. } if *to == OTHER => Some(*entries_max),
            _ => None,
        });
        match asked {
            Some(entries) => return (driven.now_ms - began_ms, entries),
            None => driven.passes(25),
        }
        assert!(driven.now_ms < began_ms + 5_000, "no pull in five seconds");
    }
}

#[test]
fn a_node_that_catches_up_stands_back_while_others_write_and_only_then() {
    let mut driven = catching_up();
    let first = next_pull(&mut driven);
    driven.passes(10);
    answers_with_left(&mut driven, first, 0..10, FAR);
    driven.passes(1);
    let second = pull(&driven.sends()).expect("at once: nobody writes");
    driven.passes(10);
    for _ in 0..10 {
        let [_, accept, _] = requests(EPOCH);
        driven.hears(THIRD, accept);
    }
    driven.sends();
    answers_with_left(&mut driven, second, 10..20, FAR - 1_000);
    // Time passes while it works on them.
    driven.passes(10);
    let (waited_ms, entries) = wait_for_pull(&mut driven);
    assert!((50..=75).contains(&waited_ms), "it waited {waited_ms} ms behind work of 10");
    assert!(entries <= 128, "{entries} entries at once beside writers");
}

/// A node that does not vote yet is sent no accepts; it sees what comes to its source.
#[test]
fn what_comes_to_the_source_meanwhile_tells_of_writers_too() {
    let mut driven = catching_up();
    let first = next_pull(&mut driven);
    driven.passes(10);
    answers_with_left(&mut driven, first, 0..10, FAR);
    driven.passes(1);
    let second = pull(&driven.sends()).expect("at once");
    driven.passes(10);
    // Ten are taken in, and only five fewer are left.
    answers_with_left(&mut driven, second, 10..20, FAR - 5);
    driven.passes(10);
    assert!(wait_for_pull(&mut driven).0 >= 50);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_feed_loses_nothing_and_skips_nothing() {
    let mut driven = catching_up();
    let first = next_pull(&mut driven);
    answers(&mut driven, first, 0..10);
    driven.commit();
    let second = next_pull(&mut driven);
    driven.disk.set_free_pages(0);
    answers(&mut driven, second, 10..400);
    let batch = driven.store.take_batch().expect("what came");
    assert!(driven.store.commit(&batch).unwrap_err().is_disk_full());
    driven.handle(Event::DiskFull(true));
    let asked_meanwhile = pull(&driven.sends());
    if let Some(third) = asked_meanwhile {
        answers(&mut driven, third, 400..410);
    }
    assert_eq!(chosen_of(&driven.store, 400..410), 0, "what comes while it is full is not taken");
    // The power fails while it is full: the cursor is not ahead of the documents.
    let cut =
        Store::open_with(Arc::new(driven.disk.after_power_cut(|_| false)), &super::driven_test::SETTINGS).unwrap();
    let cursor = cut.cursor(OTHER).map_or(0, |(_, sequence)| sequence);
    assert_eq!((cursor, chosen_of(&cut, 0..10), chosen_of(&cut, 10..400)), (10, 10, 0));
    driven.disk.set_free_pages(u64::MAX);
    driven.store.commit(&batch).unwrap();
    driven.handle(Event::Durable(driven.store.durable()));
    driven.handle(Event::DiskFull(false));
    let again = next_pull(&mut driven);
    assert_eq!(again.1, 400, "from where it was");
    answers(&mut driven, again, 400..410);
    driven.commit();
    let cut =
        Store::open_with(Arc::new(driven.disk.after_power_cut(|_| false)), &super::driven_test::SETTINGS).unwrap();
    assert_eq!((cut.cursor(OTHER), chosen_of(&cut, 0..410)), (Some((FEED, 410)), 410));
}
