//! The acceptor's rules of one register: what it takes, what it refuses, what it keeps.

#![allow(clippy::unwrap_used)]

mod common;

use coequal_protocol::record::Change;
use coequal_protocol::register::{
    Answer, invariant_chosen_is_accepted_and_fed, invariant_one_value_per_ballot, invariant_promise_covers_accepted,
    invariant_promise_never_falls,
};
use coequal_protocol::{Ballot, Register, Revision};
use coequal_types::NodeId;
use common::{ballot, held, revision};
use proptest::prelude::*;
use std::sync::Arc;

fn creation(time: u64, node: u64) -> Ballot {
    Ballot::creation(time, NodeId(node), 1)
}

/// Applies what the register says to record.
fn record(register: &mut Register, change: Option<Change>) {
    if let Some(change) = change {
        register.apply(&change);
    }
    assert!(invariant_promise_covers_accepted(register), "{register:?}");
    assert!(invariant_chosen_is_accepted_and_fed(register), "{register:?}");
}

fn promise(register: &mut Register, at: Ballot) -> Answer {
    let (answer, change) = register.prepare(at);
    record(register, change);
    answer
}

fn accept(register: &mut Register, at: Ballot, value: &Arc<Revision>) -> Answer {
    let (answer, change) = register.accept(at, value, 0);
    record(register, change);
    answer
}

fn learn(register: &mut Register, at: Ballot, value: Option<&Arc<Revision>>, sequence: u64) -> bool {
    let change = register.learn(at, value, sequence);
    let news = change.is_some();
    record(register, change);
    news
}

fn accepted(at: Ballot, body: &str) -> Register {
    let mut register = Register::default();
    assert_eq!(accept(&mut register, at, &revision(at, body)), Answer::Accepted);
    register
}

#[test]
fn a_prepare_below_the_promise_is_refused_and_names_what_to_go_beyond() {
    let mut register = Register::default();
    promise(&mut register, ballot(5, 2));
    for lower in [ballot(5, 1), ballot(4, 3), ballot(1, 1)] {
        assert_eq!(register.prepare(lower), (Answer::Refused { promised: ballot(5, 2) }, None), "{lower}");
    }
}

#[test]
fn a_repeated_prepare_is_answered_alike_and_records_nothing() {
    let mut register = Register::default();
    let first = promise(&mut register, ballot(5, 2));
    assert_eq!(register.prepare(ballot(5, 2)), (first, None));
}

#[test]
fn a_prepare_at_or_below_the_accepted_ballot_is_refused() {
    let register = accepted(ballot(5, 2), "a");
    for lower in [ballot(5, 2), ballot(5, 1), ballot(4, 9)] {
        let (answer, change) = register.prepare(lower);
        assert_eq!((answer, change), (Answer::Refused { promised: ballot(6, 2) }, None), "{lower}");
    }
}

#[test]
fn a_promise_tells_the_newest_accepted_revision_and_whether_it_is_known_to_be_chosen() {
    let mut register = accepted(ballot(5, 2), "a");
    let told = |chosen| Answer::Promised { held: Some(held(ballot(5, 2), "a")), chosen };
    assert_eq!(promise(&mut register, ballot(7, 1)), told(false));
    learn(&mut register, ballot(5, 2), None, 1);
    assert_eq!(promise(&mut register, ballot(8, 1)), told(true));
}

#[test]
fn an_accepted_revision_above_the_chosen_one_is_told_as_not_chosen() {
    let mut register = accepted(ballot(5, 2), "a");
    learn(&mut register, ballot(5, 2), None, 1);
    accept(&mut register, ballot(9, 1), &revision(ballot(9, 1), "b"));
    assert!(register.is_pending());
    let told = Answer::Promised { held: Some(held(ballot(9, 1), "b")), chosen: false };
    assert_eq!(promise(&mut register, ballot(10, 3)), told);
}

#[test]
fn an_accept_below_the_promise_is_refused() {
    let mut register = Register::default();
    promise(&mut register, ballot(5, 2));
    let (answer, change) = register.accept(ballot(5, 1), &revision(ballot(5, 1), "a"), 0);
    assert_eq!((answer, change), (Answer::Refused { promised: ballot(5, 2) }, None));
}

#[test]
fn an_accept_at_the_promise_or_above_it_is_taken() {
    for taken in [ballot(5, 2), ballot(5, 3), ballot(6, 1)] {
        let mut register = Register::default();
        promise(&mut register, ballot(5, 2));
        assert_eq!(accept(&mut register, taken, &revision(taken, "a")), Answer::Accepted, "{taken}");
        assert_eq!(register.accepted_ballot(), taken);
    }
}

#[test]
fn an_equal_ballot_is_a_duplicate_only_with_the_identical_value() {
    let register = accepted(ballot(5, 2), "a");
    let same = register.accept(ballot(5, 2), &revision(ballot(5, 2), "a"), 0);
    assert_eq!(same, (Answer::Accepted, None));
    let other = register.accept(ballot(5, 2), &revision(ballot(5, 2), "b"), 0);
    assert_eq!(other, (Answer::Refused { promised: ballot(6, 2) }, None));
}

#[test]
fn a_duplicate_accept_stays_true_after_a_higher_promise() {
    let mut register = accepted(ballot(5, 2), "a");
    promise(&mut register, ballot(9, 1));
    assert_eq!(register.accept(ballot(5, 2), &revision(ballot(5, 2), "a"), 0), (Answer::Accepted, None));
    assert_eq!(register.promised, ballot(9, 1));
}

#[test]
fn accepting_promises_the_successor_to_the_same_proposer_and_to_nobody_below() {
    let mut register = accepted(ballot(5, 2), "a");
    assert_eq!(register.promised, ballot(6, 2));
    assert!(matches!(register.prepare(ballot(6, 1)).0, Answer::Refused { .. }));
    assert_eq!(accept(&mut register, ballot(6, 2), &revision(ballot(6, 2), "b")), Answer::Accepted);
    assert_eq!(register.promised, ballot(7, 2));
}

#[test]
fn another_node_between_a_write_and_its_one_round_successor_wins() {
    let mut register = accepted(ballot(5, 2), "a");
    promise(&mut register, ballot(6, 3));
    let late = register.accept(ballot(6, 2), &revision(ballot(6, 2), "b"), 0);
    assert_eq!(late, (Answer::Refused { promised: ballot(6, 3) }, None));
}

#[test]
fn a_creation_is_taken_only_where_nothing_is_known_of_the_key() {
    let at = creation(1_000, 9);
    let value = revision(at, "new");
    assert_eq!(accept(&mut Register::default(), at, &value), Answer::Accepted);
    let mut promised = Register::default();
    promise(&mut promised, ballot(1, 1));
    let mut other_creation = Register::default();
    accept(&mut other_creation, creation(1, 1), &revision(creation(1, 1), "other"));
    for (case, register) in
        [("promised", promised), ("accepted", accepted(ballot(1, 1), "a")), ("other creation", other_creation)]
    {
        let (answer, change) = register.accept(at, &value, 0);
        assert!(matches!(answer, Answer::Refused { .. }) && change.is_none(), "{case}");
    }
}

#[test]
fn a_late_copy_of_a_creation_below_the_low_bound_revives_nothing() {
    let at = creation(1_000, 9);
    let value = revision(at, "late");
    for (low_bound, taken) in [(999, true), (1_000, false), (5_000, false)] {
        let (answer, change) = Register::default().accept(at, &value, low_bound);
        assert_eq!((answer == Answer::Accepted, change.is_some()), (taken, taken), "low bound {low_bound}");
    }
}

#[test]
fn a_repeated_creation_is_a_duplicate_even_below_a_low_bound_that_came_later() {
    let at = creation(1_000, 9);
    let register = accepted(at, "new");
    assert_eq!(register.accept(at, &revision(at, "new"), 2_000), (Answer::Accepted, None));
}

#[test]
fn a_prepare_is_never_of_the_creation_class() {
    let (answer, change) = Register::default().prepare(creation(u64::MAX - 1, 9));
    assert!(matches!(answer, Answer::Refused { .. }) && change.is_none());
}

#[test]
fn every_ordinary_ballot_goes_above_a_creation_whatever_its_time() {
    let mut register = accepted(creation(1_000_000, 9), "made up");
    assert!(matches!(promise(&mut register, ballot(1, 1)), Answer::Promised { held: Some(_), chosen: false }));
    assert_eq!(accept(&mut register, ballot(1, 1), &revision(ballot(1, 1), "b")), Answer::Accepted);
}

#[test]
fn a_mark_of_chosen_for_the_accepted_ballot_needs_no_body() {
    let mut register = accepted(ballot(5, 2), "a");
    assert!(!register.needs_body(ballot(5, 2)) && register.needs_body(ballot(6, 2)));
    assert!(learn(&mut register, ballot(5, 2), None, 3));
    assert_eq!((register.chosen.clone(), register.feed_sequence), (Some(held(ballot(5, 2), "a")), 3));
    assert!(!register.is_pending());
}

#[test]
fn a_mark_without_a_body_for_a_value_that_is_not_here_changes_nothing() {
    let register = accepted(ballot(5, 2), "a");
    assert_eq!(register.learn(ballot(6, 1), None, 3), None);
    let mut overtaken = accepted(ballot(7, 1), "b");
    let before = overtaken.clone();
    overtaken.apply(&Change::Chosen { ballot: ballot(5, 2), feed_sequence: 3, revision: None });
    assert_eq!(overtaken, before);
}

#[test]
fn an_older_chosen_revision_never_replaces_a_newer_one() {
    let mut register = Register::default();
    assert!(learn(&mut register, ballot(8, 1), Some(&revision(ballot(8, 1), "new")), 4));
    assert!(!learn(&mut register, ballot(5, 2), Some(&revision(ballot(5, 2), "old")), 5));
    let before = register.clone();
    let old = Some(revision(ballot(5, 2), "old"));
    register.apply(&Change::Chosen { ballot: ballot(5, 2), feed_sequence: 5, revision: old });
    assert_eq!(register, before);
}

#[test]
fn a_copied_chosen_revision_counts_as_accepted_at_its_ballot() {
    let mut register = Register::default();
    learn(&mut register, ballot(8, 1), Some(&revision(ballot(8, 1), "copied")), 4);
    assert_eq!(register.accepted, register.chosen);
    assert!(matches!(register.accept(ballot(8, 0), &revision(ballot(8, 0), "x"), 0).0, Answer::Refused { .. }));
    assert_eq!(
        promise(&mut register, ballot(9, 2)),
        Answer::Promised { held: Some(held(ballot(8, 1), "copied")), chosen: true }
    );
}

#[test]
fn a_copied_chosen_revision_leaves_a_higher_promise_and_a_higher_accepted_revision() {
    let mut register = accepted(ballot(9, 3), "pending");
    promise(&mut register, ballot(20, 1));
    learn(&mut register, ballot(8, 1), Some(&revision(ballot(8, 1), "copied")), 4);
    assert_eq!(register.promised, ballot(20, 1));
    assert_eq!((register.accepted_ballot(), register.chosen_ballot()), (ballot(9, 3), ballot(8, 1)));
    assert!(register.is_pending());
}

#[test]
fn two_values_under_one_ballot_are_found_across_nodes() {
    let (one, other) = (accepted(ballot(5, 2), "a"), accepted(ballot(5, 2), "b"));
    assert!(invariant_one_value_per_ballot([&one, &one.clone()]));
    assert!(!invariant_one_value_per_ballot([&one, &other]));
}

/// A request to an acceptor.
#[derive(Debug, Clone)]
enum Request {
    Prepare(Ballot),
    Accept(Ballot),
    Learn(Ballot, bool),
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    (1u64..8, 1u64..4, 1u32..3, any::<bool>()).prop_map(|(time, node, incarnation, creation)| {
        let make = if creation { Ballot::creation } else { Ballot::ordinary };
        make(time, NodeId(node), incarnation)
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any_ballot().prop_map(Request::Prepare),
        any_ballot().prop_map(Request::Accept),
        (any_ballot(), any::<bool>()).prop_map(|(ballot, body)| Request::Learn(ballot, body)),
    ]
}

proptest! {
    #[test]
    fn replaying_the_recorded_changes_gives_the_live_register(requests in prop::collection::vec(any_request(), 0..40)) {
        let (mut live, mut log) = (Register::default(), Vec::new());
        for (sequence, request) in (1u64..).zip(&requests) {
            let before = live.clone();
            // One value per ballot (I2) is the proposers' duty: here the ballot is the value.
            let change = match request {
                Request::Prepare(at) => live.prepare(*at).1,
                Request::Accept(at) => live.accept(*at, &revision(*at, "v"), 0).1,
                Request::Learn(at, body) => live.learn(*at, body.then(|| revision(*at, "v")).as_ref(), sequence),
            };
            record(&mut live, change.clone());
            log.extend(change);
            prop_assert!(invariant_promise_never_falls(&before, &live), "{:?} became {:?}", before, live);
        }
        let mut replayed = Register::default();
        log.iter().for_each(|change| replayed.apply(change));
        prop_assert_eq!(&replayed, &live);
        // A log that is replayed twice (a checkpoint may hold its beginning already) changes nothing more.
        log.iter().for_each(|change| replayed.apply(change));
        prop_assert_eq!(&replayed, &live);
    }

    #[test]
    fn what_was_answered_stays_true_whatever_comes_after(requests in prop::collection::vec(any_request(), 1..40)) {
        let mut register = Register::default();
        let (mut promised, mut taken) = (Ballot::NONE, Vec::new());
        for request in &requests {
            match request {
                Request::Prepare(at) => if matches!(promise(&mut register, *at), Answer::Promised { .. }) {
                    promised = promised.max(*at);
                },
                Request::Accept(at) => {
                    let before = register.accepted_ballot();
                    if accept(&mut register, *at, &revision(*at, "v")) == Answer::Accepted && *at != before {
                        prop_assert!(*at >= promised, "{at} was taken below the promise {promised}");
                        taken.push(*at);
                    }
                }
                Request::Learn(at, body) => { learn(&mut register, *at, body.then(|| revision(*at, "v")).as_ref(), 1); }
            }
        }
        prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "{taken:?}");
        prop_assert!(register.promised >= promised);
    }
}
