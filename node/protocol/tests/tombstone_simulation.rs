//! Random schedules of one document that is written, deleted, collected and written again, by coordinators with clocks far
//! apart: prepares, accepts and copies are lost, repeated, out of order and late by any time; nodes die and start anew;
//! configurations reach the nodes at different times. Every value that a quorum accepts must follow from the one before.
//!
//! The rules are the real ones, one of them broken on purpose in each counter-check. COEQUAL_SCHEDULES multiplies the search.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod collecting;
mod common;

use collecting::{Fault, run};
use common::schedules;

#[test]
fn no_schedule_revives_a_deleted_document_or_loses_a_new_one() {
    let (mut collections, mut chosen, mut restarts) = (0, 0, 0);
    let count = schedules(6_000);
    for seed in 0..count {
        let world = run(seed, Fault::None);
        assert!(world.failure.is_none(), "seed {seed}: {}", world.failure.unwrap());
        collections += world.collections;
        restarts += world.restarts;
        chosen += world.chosen;
    }
    println!("{count} schedules, {chosen} choices, {collections} registers collected, {restarts} starts anew");
    assert!(
        collections > count / 2 && chosen > count && restarts > count,
        "a world in which nothing gets done proves nothing"
    );
}

#[test]
fn a_seed_repeats_its_run_exactly() {
    let traces = |_| -> Vec<u64> { (0..100).map(|seed| run(seed, Fault::None).trace).collect() };
    assert_eq!(traces(1), traces(2));
}

#[test]
fn each_rule_that_is_broken_on_purpose_is_found_out() {
    for fault in [
        Fault::BoundNotHeld,
        Fault::LateTaken,
        Fault::CollectedEarly,
        Fault::StaleCopiesTaken,
        Fault::PromisesForgotten,
        Fault::OldAcceptsForgotten,
    ] {
        let found = (0..40_000).find_map(|seed| run(seed, fault).failure.map(|failure| (seed, failure)));
        println!("{fault:?}: {found:?}");
        assert!(found.is_some(), "{fault:?} was not found out");
    }
}
