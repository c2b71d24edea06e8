//! Thousands of random schedules of one document: loss, repetition, disorder, crashes, retries, one-round writes.
//!
//! A failing seed is printed; `run(seed, Fault::None)` repeats it exactly. COEQUAL_SCHEDULES multiplies the search.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
mod simulation;

use common::schedules;
use simulation::{Fault, Report, run};

#[test]
fn no_schedule_loses_doubles_or_invents_a_write() {
    let (mut acknowledged, mut versions) = (0, 0);
    let count = schedules(8_000);
    for seed in 0..count {
        let report = run(seed, Fault::None);
        assert!(report.failure.is_none(), "{}", report.failure.unwrap());
        acknowledged += report.acknowledged;
        versions += report.chain;
    }
    println!("{count} schedules, {acknowledged} acknowledged writes, {versions} versions");
    // A world in which nothing gets done proves nothing.
    assert!(acknowledged > count, "{acknowledged} acknowledged writes in {count} schedules");
}

#[test]
fn a_seed_repeats_its_run_exactly() {
    let traces: Vec<u64> = (0..200).map(|seed| run(seed, Fault::None).trace).collect();
    let again: Vec<u64> = (0..200).map(|seed| run(seed, Fault::None).trace).collect();
    assert_eq!(traces, again);
    let mut different = traces.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), traces.len(), "different seeds give different runs");
}

/// The first seed that finds a broken rule out.
fn found(fault: Fault) -> Option<String> {
    (0..20_000).find_map(|seed| {
        let Report { failure, .. } = run(seed, fault);
        failure
    })
}

#[test]
fn each_rule_that_is_broken_on_purpose_is_found_out() {
    for fault in [
        Fault::AnswersBeforeDisk,
        Fault::RecentUsedTwice,
        Fault::BallotsReused,
        Fault::CreationIsOrdinary,
        Fault::ReadsShowAccepted,
        Fault::SentIsForgotten,
    ] {
        let failure = found(fault);
        println!("{fault:?}: {}", failure.clone().unwrap_or_default());
        assert!(failure.is_some(), "{fault:?} was not found out");
    }
}
