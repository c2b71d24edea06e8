//! {1,2,3} becomes {1,2,4} by way of a joint epoch, while writes of the old epoch are under way and node 3 dies:
//! every acknowledged value is found by every majority of the new voters.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use common::joint::search;
use common::schedules;

#[test]
fn no_acknowledged_value_is_lost_when_a_dead_voter_is_replaced() {
    let count = schedules(2_000);
    let (ended, lost) = search(count);
    println!("{ended} changes ended in {count} schedules");
    assert!(lost.is_empty(), "{lost:?}");
    assert!(ended as u64 * 10 > count * 9, "only {ended} of {count} changes ended");
}
