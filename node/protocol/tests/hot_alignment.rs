//! Hot alignment: every write acknowledged before the alignment point is on the aligned node, in any schedule.
//!
//! A random search over the real rules, as `alignment_model.py` of the design does it over a model of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use coequal_protocol::Key;
use coequal_protocol::hot_alignment::{Alignment, AlignmentPhase, SourceSample};
use coequal_types::NodeId;
use common::returning::{search, shape};
use common::rounds::Site;
use common::{ballot, configuration, held, key, schedules};

fn finds_no_hole(voters: u64, new_disk: bool) {
    let count = schedules(4_000);
    let (ended, holes) = search(count, shape(voters, new_disk));
    println!("{voters} voters, new disk {new_disk}: {ended} alignments of {count} schedules");
    assert!(holes.is_empty(), "{voters} voters, new disk {new_disk}: {holes:?}");
    assert!(ended * 10 > count * 9, "only {ended} of {count} alignments ended");
}

#[test]
fn one_of_three_that_comes_back_holds_everything_that_was_acknowledged() {
    finds_no_hole(3, false);
}

#[test]
fn one_of_five_that_comes_back_holds_everything_that_was_acknowledged() {
    finds_no_hole(5, false);
}

#[test]
fn a_new_node_of_three_holds_everything_that_was_acknowledged() {
    finds_no_hole(3, true);
}

#[test]
fn a_new_node_of_five_holds_everything_that_was_acknowledged() {
    finds_no_hole(5, true);
}

/// The fault: while a feed was drained, a document below the sampled head was written again and moved above it;
/// the cursor passed the head, and the node called itself aligned without the document's old or new value.
#[test]
fn a_batch_that_ends_behind_the_sampled_head_but_not_at_the_end_proves_nothing() {
    let mut source = Site::new(3);
    let chosen = |site: &mut Site, name: &str, at: u64| site.learn(&key(name), &held(ballot(at, 3), "{}"));
    chosen(&mut source, "a", 1);
    chosen(&mut source, "b", 2);
    let mut alignment = adopted();
    alignment.on_sample(NodeId(3), 1, sample(source.head, &[]));
    alignment.take_own_pending(vec![]);
    chosen(&mut source, "a", 3);
    let first: Vec<(u64, Key)> = source.feed.iter().take(1).map(|(at, key)| (*at, key.clone())).collect();
    assert_eq!(first, vec![(2, key("b"))], "the first batch reaches the sampled head without the document a");
    alignment.on_batch(NodeId(3), 7, 2, 1);
    assert_eq!(alignment.phase(), AlignmentPhase::Draining);
    alignment.on_batch(NodeId(3), 7, 3, 0);
    assert_eq!(alignment.phase(), AlignmentPhase::Aligned);
}

fn sample(head: u64, pending: &[&str]) -> SourceSample {
    SourceSample { feed: 7, head, behind: head, pending: pending.iter().map(|name| key(name)).collect() }
}

/// A member of three that comes back; node 2 has shown that the epoch is adopted.
fn adopted() -> Alignment {
    let mut alignment = Alignment::new(1, NodeId(1), &configuration(&[1, 2, 3], None), false);
    alignment.on_sample(NodeId(2), 1, sample(9, &["early"]));
    alignment
}

#[test]
fn the_sample_that_shows_the_adoption_does_not_count_itself() {
    let mut alignment = adopted();
    assert_eq!((alignment.heads(), alignment.to_sample()), (vec![], vec![NodeId(2), NodeId(3)]));
    alignment.on_sample(NodeId(3), 1, sample(4, &[]));
    assert_eq!((alignment.heads(), alignment.to_sample()), (vec![(NodeId(3), 4)], vec![]));
}

#[test]
fn samples_of_another_epoch_of_strangers_and_of_itself_never_count() {
    let mut alignment = adopted();
    for (from, epoch) in [(2, 0), (2, 2), (3, 2), (1, 1), (9, 1)] {
        alignment.on_sample(NodeId(from), epoch, sample(4, &[]));
    }
    assert!(alignment.heads().is_empty());
}

#[test]
fn it_drains_then_settles_then_is_aligned() {
    let mut alignment = adopted();
    alignment.on_sample(NodeId(3), 1, sample(4, &["a"]));
    assert_eq!(alignment.phase(), AlignmentPhase::Connecting, "its own pending keys are to come");
    assert!(alignment.wants_own_pending());
    alignment.take_own_pending(vec![key("b")]);
    assert_eq!(alignment.phase(), AlignmentPhase::Draining);
    for (source, feed, sequence) in [(3, 7, 3), (3, 8, 99), (2, 7, 99)] {
        alignment.on_cursor(NodeId(source), feed, sequence);
        assert_eq!(alignment.phase(), AlignmentPhase::Draining, "{source} {feed} {sequence}");
    }
    assert!(alignment.to_settle(9).is_empty());
    alignment.on_cursor(NodeId(3), 7, 4);
    assert_eq!(alignment.to_settle(9), vec![key("a"), key("b")]);
    alignment.on_settled(&key("a"));
    assert_eq!((alignment.phase(), alignment.settling()), (AlignmentPhase::Settling, (1, 2)));
    alignment.on_settled(&key("b"));
    assert_eq!(alignment.phase(), AlignmentPhase::Aligned);
}

#[test]
fn own_keys_that_were_decided_meanwhile_need_no_quorum_but_those_that_a_source_named_do() {
    let mut alignment = adopted();
    alignment.take_own_pending(vec![key("a"), key("b"), key("c")]);
    alignment.on_sample(NodeId(3), 1, sample(4, &["a"]));
    alignment.take_own_pending(vec![key("a"), key("b"), key("c")]);
    alignment.drop_own_decided(|_| true);
    assert!(!alignment.settles_own(), "it drains");
    alignment.on_cursor(NodeId(3), 7, 4);
    assert!(alignment.settles_own());
    assert_eq!(alignment.to_settle(9), vec![key("a"), key("b"), key("c")]);
    alignment.drop_own_decided(|named| *named == key("c"));
    assert_eq!((alignment.to_settle(9), alignment.settling()), (vec![key("a"), key("c")], (1, 3)));
    alignment.drop_own_decided(|_| false);
    assert_eq!((alignment.phase(), alignment.to_settle(9)), (AlignmentPhase::Settling, vec![key("a")]));
    alignment.on_settled(&key("a"));
    assert_eq!((alignment.phase(), alignment.settling()), (AlignmentPhase::Aligned, (3, 3)));
}

#[test]
fn only_sources_that_it_drains_are_waited_for() {
    let mut alignment = adopted();
    assert!(!alignment.drains_others_than(NodeId(2)), "nobody is sampled yet");
    alignment.on_sample(NodeId(3), 1, sample(4, &[]));
    alignment.take_own_pending(vec![]);
    assert!(alignment.drains_others_than(NodeId(2)) && !alignment.drains_others_than(NodeId(3)));
    alignment.lose_source(NodeId(3));
    assert!(!alignment.drains_others_than(NodeId(2)));
}

#[test]
fn a_lost_source_is_replaced_and_its_pending_keys_stay() {
    let mut alignment = adopted();
    alignment.on_sample(NodeId(3), 1, sample(4, &["a"]));
    alignment.take_own_pending(vec![]);
    alignment.lose_source(NodeId(3));
    assert_eq!((alignment.phase(), alignment.to_sample().len()), (AlignmentPhase::Connecting, 2));
    alignment.on_sample(NodeId(2), 1, sample(6, &[]));
    assert!(alignment.wants_own_pending(), "the own pending keys are taken after the last sample");
    alignment.take_own_pending(vec![]);
    alignment.on_cursor(NodeId(2), 7, 6);
    assert_eq!(alignment.to_settle(9), vec![key("a")]);
}

#[test]
fn a_lone_voter_needs_nobody_and_one_of_two_needs_the_other_to_have_adopted() {
    let mut alone = Alignment::new(1, NodeId(1), &configuration(&[1], None), false);
    alone.take_own_pending(vec![]);
    assert_eq!(alone.phase(), AlignmentPhase::Aligned);
    let mut pair = Alignment::new(1, NodeId(1), &configuration(&[1, 2], None), false);
    assert!(!pair.wants_own_pending() && pair.to_sample() == vec![NodeId(2)]);
    pair.on_sample(NodeId(2), 1, sample(3, &[]));
    pair.take_own_pending(vec![]);
    assert_eq!(pair.phase(), AlignmentPhase::Aligned);
}

/// A node that comes back with the joint epoch in which it was one of few: the new voters may have gone on without it.
#[test]
fn in_a_joint_epoch_a_majority_of_the_new_voters_shows_that_it_is_not_over() {
    let joint = configuration(&[1, 2, 3], Some(&[1, 3]));
    for epoch in [1, 2] {
        let mut alignment = Alignment::new(1, NodeId(1), &joint, false);
        assert_eq!((alignment.needed(), alignment.to_sample()), (0, vec![NodeId(3), NodeId(2)]));
        alignment.on_sample(NodeId(3), epoch, sample(3, &[]));
        alignment.take_own_pending(vec![]);
        let over = if epoch == 1 { AlignmentPhase::Aligned } else { AlignmentPhase::Connecting };
        assert_eq!(alignment.phase(), over);
    }
    let mut lone = Alignment::new(1, NodeId(1), &configuration(&[1, 2, 3], Some(&[1])), false);
    lone.take_own_pending(vec![]);
    assert_eq!((lone.phase(), lone.to_sample()), (AlignmentPhase::Connecting, vec![NodeId(2), NodeId(3)]));
    lone.on_sample(NodeId(3), 1, sample(3, &["a"]));
    assert_eq!((lone.phase(), lone.heads()), (AlignmentPhase::Aligned, vec![]), "a new voter is no source");
}

#[test]
fn in_a_joint_epoch_the_sources_are_the_old_voters() {
    let joint = configuration(&[1, 2, 4], Some(&[1, 2, 3]));
    let newcomer = Alignment::new(1, NodeId(4), &joint, false);
    assert_eq!((newcomer.needed(), newcomer.to_sample()), (2, vec![NodeId(1), NodeId(2), NodeId(3)]));
    assert_eq!(Alignment::new(1, NodeId(1), &joint, false).needed(), 1);
    assert_eq!(Alignment::new(1, NodeId(1), &joint, true).needed(), 2);
}
