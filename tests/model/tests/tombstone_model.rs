//! Every order of collecting a tombstone, within small bounds, with late messages: no promise is broken.
//!
//! COEQUAL_MODEL_STATES bounds the searches; `-- --nocapture` prints the counts.

#![allow(clippy::print_stdout)]

use coequal_model::explore::{Small, exhaust};
use coequal_model::tombstones;
use std::time::Instant;

/// States that a search comes to, counted as often as it comes to them; COEQUAL_MODEL_STATES sets another bound.
const STATES_MAX: usize = 700_000;

#[test]
fn every_order_of_collecting_within_the_bounds_keeps_every_promise() {
    let states_max =
        std::env::var("COEQUAL_MODEL_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES_MAX);
    let mut whole = 0;
    for bounds in tombstones::all().into_iter().chain(tombstones::two_die()) {
        let (name, began) = (bounds.name(), Instant::now());
        let found = exhaust(bounds, None, states_max);
        let extent = if found.complete { "whole" } else { "stopped" };
        let seconds = began.elapsed().as_secs_f64();
        println!("{name}: {} states, {extent}, in {seconds:.1} s; never: {:?}", found.states, found.missing);
        assert!(found.violation.is_none(), "{name}: {}", found.violation.unwrap_or_default());
        assert!(!found.complete || found.missing.is_empty(), "{name}: never happened: {:?}", found.missing);
        whole += usize::from(found.complete);
    }
    assert!(whole >= 3 || states_max < STATES_MAX, "only {whole} searches were looked at whole");
}
