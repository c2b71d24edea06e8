//! Copies that are interrupted, change their donor, or fill the disk.

mod common;

use coequal_protocol::Key;
use coequal_protocol::auto_deploy::{
    CopyProgress, SPACE_RESERVE_BYTES, choose_donor, invariant_cursor_needs_one_donor,
};
use coequal_types::NodeId;
use proptest::prelude::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

#[test]
fn a_copy_from_one_donor_begins_its_alignment_at_the_donor_s_first_head() {
    let mut copy = CopyProgress::default();
    for (head, key) in [(10, "a"), (15, "b"), (99, "c")] {
        copy.take_range(A, 7, head);
        copy.add(&Key::of("things", key), 100);
    }
    assert_eq!((copy.cursor(), copy.entries), (Some((A, 7, 10)), 3));
}

#[test]
fn a_copy_from_two_donors_knows_neither_s_feed() {
    let mut copy = CopyProgress::default();
    copy.take_range(A, 7, 10);
    copy.add(&Key::of("things", "a"), 1);
    copy.take_range(B, 8, 20);
    copy.add(&Key::of("things", "b"), 1);
    copy.take_range(A, 7, 30);
    assert_eq!(copy.cursor(), None);
}

#[test]
fn the_donor_stays_while_it_can_give() {
    assert_eq!(choose_donor(Some(B), &[A, B]), Some(B));
    assert_eq!(choose_donor(Some(B), &[A]), Some(A));
    assert_eq!(choose_donor(None, &[]), None);
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
    fn a_cursor_is_never_claimed_for_a_copy_of_several_feeds(ranges in prop::collection::vec((1u64..3, 1u64..3, 0u64..100), 1..20)) {
        let mut copy = CopyProgress::default();
        let mut donors = Vec::new();
        for (at, (donor, feed, head)) in ranges.into_iter().enumerate() {
            copy.take_range(NodeId(donor), feed, head);
            copy.add(&Key::of("c", &at.to_string()), 1);
            donors.push((NodeId(donor), feed));
            prop_assert!(invariant_cursor_needs_one_donor(&copy, &donors));
        }
    }
}
