//! A linearizable read: one round when a majority agrees, a settling proposal when not.

#![allow(clippy::unwrap_used)]

mod common;

use coequal_protocol::query::{Query, QueryStep, invariant_answer_is_chosen};
use coequal_protocol::{Ballot, Held, Revision};
use coequal_types::{Configuration, NodeId, WriteQuorum};
use common::{ballot, configuration, held, revision, with_write_quorum};
use std::sync::Arc;

/// A voter's answer: who, ballot, whether it knows it to be chosen, the value if it travels.
type Answer = (u64, Ballot, bool, Option<Arc<Revision>>);

fn with_value(from: u64, at: Ballot, chosen: bool) -> Answer {
    (from, at, chosen, Some(revision(at, "v")))
}

fn without_value(from: u64, at: Ballot, chosen: bool) -> Answer {
    (from, at, chosen, None)
}

fn nothing(from: u64) -> Answer {
    (from, Ballot::NONE, true, None)
}

/// Steps of a read by a coordinator that holds `own`.
fn ask(configuration: &Configuration, own: Option<Held>, answers: &[Answer]) -> Vec<QueryStep> {
    let mut query = Query::new(own);
    let take = |(from, at, chosen, revision): &Answer| {
        let step = query.on_answer(configuration, NodeId(*from), *at, *chosen, revision.clone());
        assert!(invariant_answer_is_chosen(&query, configuration, &step), "{step:?} of {query:?}");
        step
    };
    answers.iter().map(take).collect()
}

fn three(own: Option<Held>, answers: &[Answer]) -> Vec<QueryStep> {
    ask(&configuration(&[1, 2, 3], None), own, answers)
}

#[test]
fn a_majority_that_knows_nothing_means_nothing_is_there() {
    assert_eq!(three(None, &[nothing(1), nothing(3)]), [QueryStep::Wait, QueryStep::Done(None)]);
}

#[test]
fn a_majority_at_the_same_ballot_answers_in_one_round() {
    let at = ballot(5, 2);
    let done = QueryStep::Done(Some(held(at, "v")));
    assert_eq!(three(None, &[with_value(1, at, false), with_value(2, at, false)]), [QueryStep::Wait, done]);
}

#[test]
fn one_voter_that_knows_the_highest_ballot_to_be_chosen_is_enough() {
    let (low, high) = (ballot(5, 2), ballot(6, 1));
    let done = QueryStep::Done(Some(held(high, "v")));
    for answers in [
        [with_value(1, high, true), with_value(2, low, true)],
        [with_value(1, low, true), with_value(2, high, true)],
        [with_value(1, high, true), nothing(2)],
        [with_value(1, high, false), with_value(2, high, true)],
    ] {
        assert_eq!(three(None, &answers), [QueryStep::Wait, done.clone()], "{answers:?}");
    }
}

#[test]
fn a_highest_ballot_that_a_minority_has_merely_accepted_must_be_settled() {
    let (low, high) = (ballot(5, 2), ballot(6, 1));
    for answers in [
        [with_value(1, high, false), with_value(2, low, true)],
        [with_value(1, low, true), with_value(2, high, false)],
        [with_value(1, high, false), nothing(2)],
        [nothing(1), with_value(2, high, false)],
    ] {
        assert_eq!(three(None, &answers), [QueryStep::Wait, QueryStep::Settle], "{answers:?}");
    }
}

#[test]
fn a_value_that_the_coordinator_holds_need_not_travel() {
    let at = ballot(5, 2);
    assert_eq!(Query::new(Some(held(at, "v"))).known(), at);
    assert_eq!(Query::new(None).known(), Ballot::NONE);
    let steps = three(Some(held(at, "v")), &[without_value(2, at, false), without_value(3, at, false)]);
    assert_eq!(steps[1], QueryStep::Done(Some(held(at, "v"))));
}

#[test]
fn a_value_that_never_came_is_settled_instead_of_guessed() {
    let (own, winner) = (ballot(9, 3), ballot(5, 2));
    // The coordinator's own accepted revision is higher than what the majority knows, so nobody sent theirs.
    let steps = three(Some(held(own, "mine")), &[without_value(1, winner, true), without_value(2, winner, true)]);
    assert_eq!(steps[1], QueryStep::Settle);
}

#[test]
fn a_value_that_one_of_the_holders_sent_is_used_whoever_came_first() {
    let at = ballot(5, 2);
    for answers in
        [[with_value(1, at, true), without_value(2, at, true)], [without_value(1, at, true), with_value(2, at, true)]]
    {
        assert_eq!(three(None, &answers)[1], QueryStep::Done(Some(held(at, "v"))));
    }
}

#[test]
fn the_same_voter_twice_and_strangers_do_not_count() {
    let at = ballot(5, 2);
    let answers = [with_value(1, at, true), with_value(1, at, true), with_value(9, at, true), nothing(8)];
    assert!(three(None, &answers).iter().all(|step| *step == QueryStep::Wait));
}

#[test]
fn under_write_quorum_all_a_majority_with_the_same_ballot_is_not_yet_chosen() {
    let all = with_write_quorum(&[1, 2, 3], WriteQuorum::All);
    let at = ballot(5, 2);
    let steps = ask(&all, None, &[with_value(1, at, false), with_value(2, at, false), with_value(3, at, false)]);
    assert_eq!(steps, [QueryStep::Wait, QueryStep::Settle, QueryStep::Done(Some(held(at, "v")))]);
}

#[test]
fn a_joint_epoch_asks_a_majority_of_both_sets() {
    let joint = configuration(&[3, 4, 5], Some(&[1, 2, 3]));
    let at = ballot(5, 2);
    let steps = ask(&joint, None, &[with_value(1, at, true), with_value(2, at, true), nothing(4), nothing(5)]);
    assert_eq!(steps, [QueryStep::Wait, QueryStep::Wait, QueryStep::Wait, QueryStep::Done(Some(held(at, "v")))]);
}
