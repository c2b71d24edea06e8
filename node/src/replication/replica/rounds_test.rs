//! Whom a round asks, and what a promise is worth that only memory has.

use super::driven_test::{Driven, EPOCH, ME, OTHER, THIRD, configuration};
use coequal_protocol::message::Message;
use coequal_protocol::{Ballot, Key};
use coequal_types::NodeId;
use std::collections::BTreeSet;

fn key(number: usize) -> Key {
    Key::of("things", &format!("a{number}"))
}

fn of_other(driven: &Driven, after_ms: u64, key: &Key) -> (Ballot, Message) {
    let ballot = Ballot::ordinary((driven.wall_ms + driven.now_ms + after_ms) << 16, OTHER, 1);
    (ballot, Message::Prepare { epoch: EPOCH, key: key.clone(), ballot })
}

fn promised(sent: &[(NodeId, Message)], at: Ballot) -> bool {
    sent.iter()
        .any(|(to, message)| *to == OTHER && matches!(message, Message::Promised { ballot, .. } if *ballot == at))
}

fn refused(sent: &[(NodeId, Message)], at: Ballot) -> Option<Ballot> {
    sent.iter().find_map(|(_, message)| match message {
        Message::Refused { ballot, promised, .. } if *ballot == at => Some(*promised),
        _ => None,
    })
}

/// A node of three that keeps promises in memory: the bound is on its disk.
fn promising() -> Driven {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    let (first, prepare) = of_other(&driven, 0, &key(0));
    driven.hears(OTHER, prepare);
    assert!(!promised(&driven.sends(), first), "a promise above the bound waits for the disk");
    assert!(promised(&driven.sends_durably(), first));
    driven
}

#[test]
fn a_promise_below_the_noted_time_leaves_at_once_and_leaves_nothing_to_write() {
    let mut driven = promising();
    let (ballot, prepare) = of_other(&driven, 1, &key(1));
    driven.hears(OTHER, prepare);
    assert!(promised(&driven.sends(), ballot));
    assert!(driven.store.take_batch().is_none());
}

#[test]
fn after_a_loss_of_power_nothing_is_taken_that_a_lost_promise_had_refused() {
    let mut driven = promising();
    let (below, prepare_below) = of_other(&driven, 5, &key(1));
    let (lost, prepare) = of_other(&driven, 6, &key(1));
    driven.hears(OTHER, prepare);
    assert!(promised(&driven.sends(), lost));
    let mut driven = driven.restarted();
    driven.hears(OTHER, prepare_below);
    let beyond = refused(&driven.sends_durably(), below).unwrap();
    assert!(beyond > lost, "{beyond} {lost}");
    let (above, prepare) = of_other(&driven, 10_000, &key(1));
    assert!(above > beyond);
    driven.hears(OTHER, prepare);
    assert!(promised(&driven.sends_durably(), above));
}

/// The bound moves on before ballots come to it, so that hardly a promise has to wait.
#[test]
fn under_writes_the_noted_time_stays_ahead() {
    let mut driven = promising();
    let mut waited = 0;
    for number in 1..1_000 {
        driven.now_ms += 10;
        let (ballot, prepare) = of_other(&driven, 0, &key(number));
        driven.hears(OTHER, prepare);
        waited += usize::from(!promised(&driven.sends(), ballot));
        driven.commit();
        driven.sends();
    }
    assert!(waited <= 1, "{waited} of 1,000 in 10 s");
}

fn asked(sent: &[(NodeId, Message)]) -> BTreeSet<NodeId> {
    let prepares = sent.iter().filter(|(_, message)| matches!(message, Message::Prepare { .. }));
    prepares.map(|(to, _)| *to).collect()
}

/// Node 1 of three reaches both others and begins a write; whom it asked first.
fn begun() -> (Driven, NodeId, NodeId) {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.reaches(THIRD, true);
    driven.sends();
    driven.writes(key(1), 60_000);
    let first = asked(&driven.sends());
    assert_eq!(first.len(), 1, "two are enough, and one of them is this node");
    let first = first.into_iter().next().unwrap();
    (driven, first, if first == OTHER { THIRD } else { OTHER })
}

#[test]
fn a_round_asks_as_many_as_are_needed_and_all_when_one_takes_long() {
    let (mut driven, first, last) = begun();
    driven.passes(25);
    assert_eq!(asked(&driven.sends()), [first, last].into());
    // The next write does not wait for it again.
    for number in 2..10 {
        driven.writes(key(number), 60_000);
    }
    assert_eq!(asked(&driven.sends()), [last].into());
}

#[test]
fn a_round_asks_the_others_at_once_when_one_is_gone() {
    let (mut driven, first, last) = begun();
    driven.reaches(first, false);
    assert!(asked(&driven.sends()).contains(&last));
}

#[test]
fn documents_are_spread_over_those_who_are_asked() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.reaches(THIRD, true);
    driven.sends();
    for number in 0..64 {
        driven.writes(key(number), 60_000);
    }
    let sent = driven.sends();
    let of = |node: NodeId| sent.iter().filter(|(to, m)| *to == node && matches!(m, Message::Prepare { .. })).count();
    assert!(of(OTHER) > 16 && of(THIRD) > 16 && of(OTHER) + of(THIRD) == 64 && of(ME) == 0);
}
