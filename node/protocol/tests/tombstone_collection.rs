//! What a member refuses and forgets under a low bound, and how the bound moves.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::record::Change;
use coequal_protocol::register::{Answer, invariant_chosen_is_accepted_and_fed, invariant_promise_covers_accepted};
use coequal_protocol::revision::Revision;
use coequal_protocol::tombstone_collection::{
    Guard, MemberWord, NextBound, invariant_bound_step_is_safe, invariant_collected_is_complete_everywhere,
    invariant_complete_has_nothing_pending, is_collected, next_bound,
};
use coequal_protocol::{Ballot, Held, Register};
use coequal_types::{Configuration, LowBound, NodeId};
use common::{ballot, configuration, held, revision};
use std::collections::BTreeMap;
use std::sync::Arc;

fn tombstone(at: Ballot) -> Held {
    let revision = Revision { body: None, ..(*revision(at, "")).clone() };
    Held { ballot: at, revision: Arc::new(revision) }
}

/// A register in which `held` is chosen.
fn chosen(held: &Held) -> Register {
    let mut register = Register::default();
    let revision = Some(Arc::clone(&held.revision));
    register.apply(&Change::Chosen { ballot: held.ballot, feed_sequence: 7, revision });
    register
}

fn guard(agreed: u64, collected: u64) -> Guard {
    Guard { bound: LowBound { agreed, collected }, complete: collected }
}

/// The register as the guard lets it be seen.
fn cleared(guard: &Guard, mut register: Register) -> Register {
    if let Some(change) = guard.cleared(&register) {
        register.apply(&change);
        assert_eq!(guard.cleared(&register), None, "once is enough");
    }
    assert!(invariant_promise_covers_accepted(&register) && invariant_chosen_is_accepted_and_fed(&register));
    register
}

fn refused(answer: &Answer, above: u64) -> bool {
    matches!(answer, Answer::Refused { promised } if promised.time >= above)
}

#[test]
fn at_or_below_the_agreed_bound_everything_is_refused_whatever_is_there() {
    let guard = guard(10, 4);
    let value = revision(ballot(10, 1), "late");
    let creation = Ballot::creation(10, NodeId(1), 1);
    for register in [Register::default(), chosen(&held(ballot(6, 1), "here"))] {
        assert!(refused(&guard.prepare(&register, ballot(10, u64::MAX)).0, 10));
        assert!(refused(&guard.accept(&register, ballot(10, 1), &value).0, 10));
        assert!(refused(&guard.accept(&register, creation, &value).0, 10));
        assert!(matches!(guard.prepare(&register, ballot(11, 1)).0, Answer::Promised { .. }));
        assert_eq!(guard.accept(&register, ballot(11, 1), &value).0, Answer::Accepted);
    }
    let created = Ballot::creation(11, NodeId(1), 1);
    assert_eq!(guard.accept(&Register::default(), created, &value).0, Answer::Accepted);
    // Without a bound nothing is refused, not even at time 0.
    assert_eq!(Guard::default().refuses(ballot(0, 1)), None);
}

#[test]
fn a_refused_proposer_comes_above_the_bound_at_its_next_round() {
    let Answer::Refused { promised } = guard(10, 4).prepare(&Register::default(), ballot(3, 2)).0 else { panic!() };
    let mut clock = coequal_protocol::clock::HybridClock::default();
    assert!(clock.next_above(promised.time, 0) > 10);
    clock.raise(99);
    assert!(clock.next(0) > 99);
}

#[test]
fn a_chosen_tombstone_at_the_bound_is_forgotten_and_anything_else_stays() {
    let guard = guard(9, 5);
    assert!(cleared(&guard, chosen(&tombstone(ballot(4, 1)))).is_empty());
    // The promise that comes with accepting lies above the bound, and stays.
    let at_the_bound = cleared(&guard, chosen(&tombstone(ballot(5, 1))));
    assert_eq!((at_the_bound.chosen, at_the_bound.promised), (None, ballot(6, 1)));
    for stays in [chosen(&tombstone(ballot(6, 1))), chosen(&held(ballot(4, 1), "alive"))] {
        assert_eq!(cleared(&guard, stays.clone()), stays);
    }
    // Accepted only: it may not be chosen.
    let mut accepted = Register::default();
    accepted.apply(&Change::Accept { ballot: ballot(3, 1), revision: tombstone(ballot(3, 1)).revision });
    assert_eq!(cleared(&guard, accepted.clone()), accepted);
    assert!(!invariant_complete_has_nothing_pending(&accepted, 5));
    assert!(invariant_complete_has_nothing_pending(&accepted, 2));
}

#[test]
fn promises_and_newer_values_above_the_bound_survive_the_tombstone() {
    let guard = guard(9, 5);
    let mut promised = chosen(&tombstone(ballot(3, 1)));
    promised.apply(&Change::Promise { ballot: ballot(12, 2) });
    let promised = cleared(&guard, promised);
    assert_eq!(promised.promised, ballot(12, 2));
    assert!(matches!(guard.prepare(&promised, ballot(11, 1)).0, Answer::Refused { .. }));
    let mut pending = chosen(&tombstone(ballot(3, 1)));
    let again = revision(ballot(12, 2), "again");
    pending.apply(&Change::Accept { ballot: ballot(12, 2), revision: Arc::clone(&again) });
    let pending = cleared(&guard, pending);
    assert_eq!(pending.accepted, Some(Held { ballot: ballot(12, 2), revision: again }));
    assert_eq!((pending.chosen.clone(), pending.feed_sequence), (None, 0));
    assert!(pending.is_pending());
}

#[test]
fn a_promise_without_a_value_is_forgotten_below_the_bound() {
    let guard = guard(9, 5);
    let promise = |time| {
        let mut register = Register::default();
        register.apply(&Change::Promise { ballot: ballot(time, 1) });
        register
    };
    assert!(cleared(&guard, promise(5)).is_empty());
    assert_eq!(cleared(&guard, promise(6)), promise(6));
    assert_eq!(guard.cleared(&Register::default()), None);
}

#[test]
fn a_late_copy_of_something_collected_is_stale_only_for_a_complete_member() {
    let guard = guard(9, 5);
    let empty = Register::default();
    assert!(guard.is_stale(&empty, ballot(5, 1)));
    assert!(!guard.is_stale(&empty, ballot(6, 1)));
    assert!(!guard.is_stale(&chosen(&held(ballot(2, 1), "older")), ballot(5, 1)), "what is here is replaced");
    let copying = Guard { complete: 0, ..guard };
    assert!(!copying.is_stale(&empty, ballot(1, 1)), "a new member takes everything");
    assert!(is_collected(ballot(5, 1), &tombstone(ballot(5, 1)).revision, 5));
    assert!(!is_collected(ballot(6, 1), &tombstone(ballot(6, 1)).revision, 5));
    assert!(!is_collected(ballot(1, 1), &revision(ballot(1, 1), "alive"), 5));
}

fn at_epoch(epoch: u64, agreed: u64, collected: u64) -> Configuration {
    Configuration { epoch, low_bound: LowBound { agreed, collected }, ..configuration(&[1, 2, 3], None) }
}

fn words(all: [(u64, u64, u64, u64); 3]) -> BTreeMap<NodeId, MemberWord> {
    (1..)
        .zip(all)
        .map(|(node, (epoch, complete, horizon, tombstones))| {
            (NodeId(node), MemberWord { epoch, complete, horizon, tombstones })
        })
        .collect()
}

fn stepped(next: NextBound, old: &Configuration) -> LowBound {
    let NextBound::Step(next) = next else { panic!("no step but {next:?}") };
    assert!(invariant_bound_step_is_safe(old, &next));
    assert_eq!(next.epoch, old.epoch + 1);
    next.low_bound
}

#[test]
fn the_bound_is_the_lowest_that_any_member_names_and_moves_by_intervals() {
    let old = at_epoch(4, 100, 100);
    let next = next_bound(&old, &words([(4, 0, 900, 1), (4, 0, 150, 0), (1, 0, 700, 0)]), 50);
    assert_eq!(stepped(next, &old), LowBound { agreed: 150, collected: 100 });
    // A clock that is behind, or went back, delays.
    for horizon in [0, 100, 149] {
        let words = words([(4, 0, 900, 1), (4, 0, horizon, 0), (4, 0, 700, 0)]);
        assert_eq!(next_bound(&old, &words, 50), NextBound::Nothing);
    }
    // Without tombstones only now and then, for the promises.
    let idle = |horizon| words([(4, 0, horizon, 0); 3]);
    assert_eq!(next_bound(&old, &idle(1299), 50), NextBound::Nothing);
    assert_eq!(stepped(next_bound(&old, &idle(1300), 50), &old), LowBound { agreed: 1300, collected: 100 });
}

#[test]
fn nothing_is_collected_before_every_member_is_complete_in_the_present_epoch() {
    let old = at_epoch(5, 150, 100);
    let complete = words([(5, 150, 0, 9); 3]);
    let next = next_bound(&old, &complete, 50);
    assert_eq!(stepped(next.clone(), &old), LowBound { agreed: 150, collected: 150 });
    let NextBound::Step(next) = next else { panic!() };
    assert!(invariant_collected_is_complete_everywhere(&old, &next, &complete));
    for lacking in [(5, 149, 0, 9), (4, 150, 0, 9), (6, 150, 0, 9)] {
        let words = words([(5, 150, 0, 9), lacking, (5, 150, 0, 9)]);
        assert_eq!(next_bound(&old, &words, 50), NextBound::WaitsFor(vec![NodeId(2)]), "{lacking:?}");
        assert!(!invariant_collected_is_complete_everywhere(&old, &next, &words));
    }
    let mut away = complete.clone();
    away.remove(&NodeId(3));
    assert_eq!(next_bound(&old, &away, 50), NextBound::WaitsFor(vec![NodeId(3)]));
    // A learner counts like a voter.
    let learning = Configuration { learners: vec![NodeId(4)], ..old };
    assert_eq!(next_bound(&learning, &complete, 50), NextBound::WaitsFor(vec![NodeId(4)]));
}

#[test]
fn the_bound_stands_still_in_a_joint_epoch_and_in_the_system_database() {
    let complete = words([(5, 150, 999, 9); 3]);
    let mut joint = at_epoch(5, 150, 100);
    joint.joint_with = Some(vec![NodeId(1), NodeId(2)]);
    assert_eq!(next_bound(&joint, &complete, 1), NextBound::Nothing);
    let system = Configuration { name: coequal_types::DatabaseName::system(), ..at_epoch(5, 150, 100) };
    assert_eq!(next_bound(&system, &complete, 1), NextBound::Nothing);
    let dropped = Configuration { dropped: true, ..at_epoch(5, 150, 100) };
    assert_eq!(next_bound(&dropped, &complete, 1), NextBound::Nothing);
}

#[test]
fn steps_that_go_back_skip_or_change_members_are_unsafe() {
    let old = at_epoch(5, 150, 100);
    for (agreed, collected) in [(149, 100), (150, 99), (200, 151), (150, 200)] {
        assert!(!invariant_bound_step_is_safe(&old, &at_epoch(6, agreed, collected)), "{agreed} {collected}");
    }
    let with_a_learner = Configuration { learners: vec![NodeId(4)], ..at_epoch(6, 150, 150) };
    assert!(!invariant_bound_step_is_safe(&old, &with_a_learner));
    // A change of membership carries the bound on.
    let next = coequal_protocol::membership::with_learner(&old, NodeId(4)).unwrap();
    assert_eq!(next.low_bound, old.low_bound);
    assert!(invariant_bound_step_is_safe(&old, &next));
}
