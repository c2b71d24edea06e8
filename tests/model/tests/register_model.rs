//! Every order of events of one document within small bounds, and random walks beyond them: no promise is broken.
//!
//! COEQUAL_SCHEDULES multiplies the walks, COEQUAL_MODEL_STATES bounds the searches. `cargo test -p coequal-model -- --nocapture` prints the counts.

#![allow(clippy::print_stdout)]

use coequal_model::scenarios;
use std::time::Instant;

/// States that a search comes to, counted as often as it comes to them; COEQUAL_MODEL_STATES sets another bound.
const STATES_MAX: usize = 150_000;

#[test]
fn every_order_of_events_within_the_bounds_keeps_every_promise() {
    let states_max =
        std::env::var("COEQUAL_MODEL_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES_MAX);
    let (mut total, mut whole) = (0, 0);
    for search in scenarios::all(None) {
        let (name, began) = (search.bounds.name, Instant::now());
        let found = search.exhaust(states_max);
        let seconds = began.elapsed().as_secs_f64();
        let extent = if found.complete { "whole" } else { "stopped" };
        println!("{name}: {} states, {extent}, in {seconds:.1} s; never: {:?}", found.states, found.missing);
        assert!(found.violation.is_none(), "{name}: {}", found.violation.unwrap());
        assert!(!found.complete || found.missing.is_empty(), "{name}: never happened: {:?}", found.missing);
        (total, whole) = (total + found.states, whole + usize::from(found.complete));
    }
    println!("{total} states in all, {whole} searches whole");
    assert!(whole >= 6, "only {whole} searches were looked at whole");
}

#[test]
fn random_walks_beyond_the_bounds_keep_every_promise() {
    let factor = std::env::var("COEQUAL_SCHEDULES").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    for search in scenarios::wide(None) {
        let (name, began) = (search.bounds.name, Instant::now());
        let mut steps = 0;
        let walks = 200 * factor.max(1);
        for seed in 0..walks {
            let (taken, violation) = search.walk(seed, 600);
            assert!(violation.is_none(), "{name}: {}", violation.unwrap());
            steps += taken;
        }
        println!("{name}: {walks} walks, {steps} steps in {:.1} s", began.elapsed().as_secs_f64());
    }
}
