//! Writes that one node coordinates for another: done once (I9), and never called not applied by who cannot know (G7).

use super::driven_test::{Driven, EPOCH, ME, OTHER, Outcome, configuration, put};
use super::{Event, Replica};
use crate::replication::error::ServiceError;
use coequal_protocol::Key;
use coequal_protocol::message::{ForwardResult, Message};
use coequal_types::{Configuration, NodeId};

const KEYS: usize = 64;

fn forward(number: u64, key: &Key) -> Message {
    Message::Forward { forward: number, key: key.clone(), operation: put(), deadline_ms: 60_000 }
}

fn key(number: usize) -> Key {
    Key::of("things", &format!("a{number}"))
}

fn versions(sent: Vec<(NodeId, Message)>) -> Vec<(u64, u64)> {
    let version = |(to, message)| match message {
        Message::ForwardAnswer { forward, result: ForwardResult::Written { version, .. } } if to == OTHER => {
            (forward, version)
        }
        other => panic!("{other:?}"),
    };
    sent.into_iter().map(version).collect()
}

#[test]
fn a_forwarded_write_that_comes_again_is_done_once() {
    // The only voter; the other one learns.
    let alone = Configuration { voters: vec![ME], learners: vec![OTHER], ..configuration(EPOCH, 2) };
    let mut driven = Driven::new(alone);
    driven.hears(OTHER, forward(1, &key(1)));
    // While it is under way …
    driven.hears(OTHER, forward(1, &key(1)));
    assert_eq!(versions(driven.sends_durably()), [(1, 1)]);
    // … and when it is done, its answer lost on the way.
    driven.hears(OTHER, forward(1, &key(1)));
    assert_eq!(versions(driven.sends_durably()), [(1, 1)]);
    driven.hears(OTHER, forward(2, &key(1)));
    assert_eq!(versions(driven.sends_durably()), [(2, 2)], "another one is another one");
}

/// A replica that has forwarded a write to the other node.
fn with_a_forwarded_write(milliseconds: u64) -> (Driven, Outcome) {
    let mut driven = Driven::voting(configuration(EPOCH, 2));
    driven.reaches(OTHER, true);
    driven.passes(25);
    let asked = driven.sends().into_iter().find_map(|(_, message)| match message {
        Message::FeedRequest { request, .. } => Some(request),
        _ => None,
    });
    // The other node's copy is in use: it answers pulls.
    let (request, entries) = (asked.unwrap(), Vec::new());
    let batch = Message::FeedBatch { request, feed: 9, after: 0, through: 0, remaining: 0, entries, epoch: EPOCH };
    driven.hears(OTHER, batch);
    // Keys that are fought for; the other node coordinates some of them.
    for number in 0..KEYS {
        driven.hears(OTHER, forward(number as u64, &key(number)));
        driven.sends_durably();
        let outcome = driven.writes(key(number), milliseconds);
        if driven.sends_durably().iter().any(|(to, m)| *to == OTHER && matches!(m, Message::Forward { .. })) {
            assert!(outcome.lock().unwrap().is_none());
            return (driven, outcome);
        }
    }
    panic!("no key of {KEYS} is coordinated by the other node");
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(*outcome.lock().unwrap(), Some(Err(ServiceError::OutcomeUnknown)))
}

#[test]
fn a_forwarded_write_whose_coordinator_stays_away_is_unknown() {
    let (mut driven, outcome) = with_a_forwarded_write(60_000);
    driven.reaches(OTHER, false);
    driven.passes(400);
    assert!(outcome.lock().unwrap().is_none(), "it may come back");
    driven.passes(200);
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[test]
fn a_forwarded_write_whose_coordinator_started_anew_is_unknown() {
    let (mut driven, outcome) = with_a_forwarded_write(60_000);
    driven.handle(Event::Peer { from: OTHER, incarnation: 2, message: Message::Recall { feed: 9 } });
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[test]
fn a_forwarded_write_past_its_deadline_is_unknown() {
    let (mut driven, outcome) = with_a_forwarded_write(1_000);
    driven.passes(950);
    assert!(outcome.lock().unwrap().is_none());
    driven.passes(100);
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[test]
fn a_forwarded_write_is_unknown_when_its_own_node_stops() {
    let (mut driven, outcome) = with_a_forwarded_write(60_000);
    Replica::shut_down(&mut driven.replica);
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[test]
fn a_coordinator_that_comes_back_is_asked_again_by_the_same_number() {
    let (mut driven, outcome) = with_a_forwarded_write(60_000);
    driven.reaches(OTHER, false);
    driven.passes(300);
    driven.sends();
    driven.reaches(OTHER, true);
    let numbers: Vec<u64> = driven
        .sends()
        .into_iter()
        .filter_map(|(_, message)| if let Message::Forward { forward, .. } = message { Some(forward) } else { None })
        .collect();
    assert_eq!(numbers.len(), 1);
    driven.hears(OTHER, Message::ForwardAnswer { forward: numbers[0], result: ForwardResult::NotApplied });
    assert!(matches!(*outcome.lock().unwrap(), Some(Err(ServiceError::NoQuorum { .. }))), "the coordinator knows");
}
