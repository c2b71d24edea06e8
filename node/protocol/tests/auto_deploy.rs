//! Copies that are interrupted, change their donor, or fill the disk.

mod common;

use coequal_protocol::Key;
use coequal_protocol::auto_deploy::{
    CopyProgress, DonorFailures, DonorPosition, SPACE_RESERVE_BYTES, choose_donor, invariant_cursor_needs_one_donor,
};
use coequal_types::NodeId;
use proptest::prelude::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// The donor's first opening, with what it has of C's feed; that grows with its own.
fn at(feed: u64, head: u64) -> DonorPosition {
    opened(1, feed, head)
}

fn opened(opening: u64, feed: u64, head: u64) -> DonorPosition {
    DonorPosition { feed, head, opening, cursors: vec![(C, 9, head * 2)] }
}

#[test]
fn a_copy_from_one_donor_begins_its_alignment_at_the_donor_s_first_head() {
    let mut copy = CopyProgress::default();
    for (head, key) in [(10, "a"), (15, "b"), (99, "c")] {
        copy.take_range(A, at(7, head));
        copy.add(&Key::of("things", key), 100);
    }
    assert_eq!((copy.cursors(B), copy.entries), (vec![(A, 7, 10), (C, 9, 20)], 3));
    assert_eq!(copy.cursors(C), [(A, 7, 10)], "nobody pulls from itself");
}

#[test]
fn a_copy_from_two_donors_knows_neither_s_feed() {
    let mut copy = CopyProgress::default();
    copy.take_range(A, at(7, 10));
    copy.add(&Key::of("things", "a"), 1);
    copy.take_range(B, at(8, 20));
    copy.add(&Key::of("things", "b"), 1);
    copy.take_range(A, at(7, 30));
    assert_eq!(copy.cursors(C), []);
}

/// What a donor had applied of another feed may not have been on its disk: after a power cut it is not in the rest of the
/// copy, while the donor's own feed names again what it learns again.
#[test]
fn a_copy_over_a_restart_of_its_donor_knows_the_donor_s_feed_alone() {
    let mut copy = CopyProgress::default();
    copy.take_range(A, opened(1, 7, 10));
    copy.add(&Key::of("things", "a"), 1);
    copy.take_range(A, opened(2, 7, 15));
    assert_eq!(copy.cursors(B), [(A, 7, 10)]);
    copy.take_range(A, opened(1, 7, 20));
    assert_eq!(copy.cursors(B), [(A, 7, 10)]);
}

#[test]
fn a_donor_of_a_former_program_says_nothing_of_others() {
    let mut copy = CopyProgress::default();
    copy.take_range(A, opened(0, 7, 10));
    copy.add(&Key::of("things", "a"), 1);
    assert_eq!(copy.cursors(B), [(A, 7, 10)]);
}

#[test]
fn the_donor_stays_while_it_can_give() {
    let failures = DonorFailures::default();
    assert_eq!(choose_donor(Some(B), &[A, B], &failures), Some(B));
    assert_eq!(choose_donor(Some(B), &[A], &failures), Some(A));
    assert_eq!(choose_donor(None, &[], &failures), None);
}

#[test]
fn a_donor_that_stays_silent_makes_room_for_another_and_is_asked_again_once_that_one_fails_too() {
    let mut failures = DonorFailures::default();
    failures.was_silent(A);
    assert_eq!(choose_donor(Some(A), &[A, B], &failures), Some(B));
    assert_eq!(choose_donor(Some(A), &[A], &failures), Some(A), "there is no other");
    failures.was_silent(B);
    assert_eq!(choose_donor(Some(B), &[A, B], &failures), Some(B), "both have failed as often");
    failures.was_silent(B);
    assert_eq!(choose_donor(Some(B), &[A, B], &failures), Some(A));
    failures.gave(B);
    assert_eq!(choose_donor(Some(A), &[A, B], &failures), Some(B));
}

#[test]
fn a_damaged_range_is_asked_for_again_and_a_third_one_ends_the_patience() {
    let mut failures = DonorFailures::default();
    for _ in 0..2 {
        failures.sent_damage(A);
        assert_eq!(choose_donor(Some(A), &[A, B], &failures), Some(A), "of the way, mostly");
    }
    failures.sent_damage(A);
    assert_eq!(choose_donor(Some(A), &[A, B], &failures), Some(B));
    failures.gave(A);
    failures.sent_damage(A);
    assert_eq!(choose_donor(Some(A), &[A, B], &failures), Some(A), "what it gave meanwhile makes up for it");
}

#[test]
fn space_is_asked_for_by_what_documents_have_taken_so_far() {
    let mut copy = CopyProgress::default();
    assert_eq!(copy.space_needed(1_000_000), SPACE_RESERVE_BYTES);
    copy.add(&Key::of("c", "k"), 997);
    assert_eq!(copy.space_needed(11), 10 * 1_000 * 2 + SPACE_RESERVE_BYTES);
}

proptest! {
    #[test]
    fn a_cursor_is_never_claimed_for_a_copy_of_several_feeds(ranges in prop::collection::vec((1u64..3, 1u64..3, 1u64..3, 0u64..100), 1..20)) {
        let mut copy = CopyProgress::default();
        let mut donors = Vec::new();
        for (at, (donor, feed, opening, head)) in ranges.into_iter().enumerate() {
            copy.take_range(NodeId(donor), opened(opening, feed, head));
            copy.add(&Key::of("c", &at.to_string()), 1);
            donors.push((NodeId(donor), feed, opening));
            prop_assert!(invariant_cursor_needs_one_donor(&copy, &donors));
        }
    }
}
