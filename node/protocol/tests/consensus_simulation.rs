//! Thousands of random schedules of one document: loss, repetition, disorder, crashes, retries, one-round writes.
//!
//! A failing seed is printed; `run(seed)` repeats it exactly. COEQUAL_SCHEDULES multiplies the search.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
mod simulation;

use common::schedules;
use simulation::run;

#[test]
fn no_schedule_loses_doubles_or_invents_a_write() {
    let (mut acknowledged, mut versions) = (0, 0);
    let count = schedules(8_000);
    for seed in 0..count {
        let report = run(seed);
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
    let traces: Vec<u64> = (0..200).map(|seed| run(seed).trace).collect();
    let again: Vec<u64> = (0..200).map(|seed| run(seed).trace).collect();
    assert_eq!(traces, again);
    let mut different = traces.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), traces.len(), "different seeds give different runs");
}
