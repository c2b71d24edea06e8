//! A store that is older than what others remember of it never votes (I7).

mod common;

use coequal_protocol::disk_check::{DiskCheck, Finding, Recollection, invariant_votes_only_as_remembered};
use coequal_types::NodeId;
use common::configuration;

const FEED: u64 = 7;

fn remembers(durable: u64, incarnation: u32) -> Recollection {
    Recollection { feed: FEED, durable, incarnation }
}

fn check(voters: &[u64], me: u64) -> (DiskCheck, coequal_types::Configuration) {
    let configuration = configuration(voters, None);
    (DiskCheck::new(NodeId(me), remembers(100, 5), &configuration), configuration)
}

#[test]
fn a_quorum_by_itself_votes_at_once_and_others_ask() {
    let (alone, configuration) = check(&[1], 1);
    assert!(alone.may_vote() && invariant_votes_only_as_remembered(&alone, &configuration));
    let (one_of_three, configuration) = check(&[1, 2, 3], 1);
    assert!(!one_of_three.may_vote());
    assert_eq!(one_of_three.to_ask(&configuration), [NodeId(2), NodeId(3)]);
    assert!(!check(&[2, 3, 4], 1).0.may_vote(), "who does not vote yet is a quorum of nothing");
}

#[test]
fn it_votes_once_a_quorum_remembers_no_more_than_is_here() {
    let (mut check, configuration) = check(&[1, 2, 3, 4, 5], 1);
    assert_eq!(check.on_recalled(NodeId(2), remembers(100, 4), &configuration), Finding::Nothing);
    assert_eq!(check.on_recalled(NodeId(2), remembers(100, 4), &configuration), Finding::Nothing, "the same again");
    assert!(!check.may_vote());
    assert_eq!(check.on_recalled(NodeId(4), Recollection::default(), &configuration), Finding::MayVote);
    assert!(check.may_vote() && invariant_votes_only_as_remembered(&check, &configuration));
    assert_eq!(check.to_ask(&configuration), [NodeId(3), NodeId(5)]);
}

#[test]
fn an_older_disk_is_found_whoever_remembers_it_even_late() {
    let (mut check, configuration) = check(&[1, 2, 3], 1);
    let found = Finding::RolledBack { by: NodeId(3), remembered: 101 };
    assert_eq!(check.clone().on_recalled(NodeId(3), remembers(101, 4), &configuration), found);
    assert_eq!(check.on_recalled(NodeId(2), remembers(99, 4), &configuration), Finding::MayVote);
    assert_eq!(check.on_recalled(NodeId(3), remembers(101, 4), &configuration), found, "after it began to vote");
}

#[test]
fn what_was_said_of_another_store_or_in_this_very_start_does_not_count() {
    let (mut check, configuration) = check(&[1, 2, 3], 1);
    let other = Recollection { feed: FEED + 1, durable: 1_000, incarnation: 4 };
    assert_eq!(check.clone().on_recalled(NodeId(2), other, &configuration), Finding::MayVote);
    check.note_durable(1_000);
    assert_eq!(check.on_recalled(NodeId(2), remembers(1_000, 5), &configuration), Finding::MayVote);
}

/// Two processes on copies of one directory are both its fifth start. When the peers were restarted too, nobody refuses
/// the second one's connection; it must not vote with a disk that lacks the first one's promises.
#[test]
fn words_of_this_start_that_it_has_not_said_or_of_a_later_one_are_another_process() {
    let (mut check, configuration) = check(&[1, 2, 3], 1);
    let found = Finding::UsedTwice { by: NodeId(2) };
    for remembered in [remembers(101, 5), remembers(1, 6), remembers(1_000, 9)] {
        assert_eq!(check.clone().on_recalled(NodeId(2), remembered, &configuration), found, "{remembered:?}");
    }
    assert_eq!(check.on_recalled(NodeId(3), remembers(100, 5), &configuration), Finding::MayVote);
    assert_eq!(check.on_recalled(NodeId(2), remembers(101, 5), &configuration), found, "after it began to vote");
}

#[test]
fn fewer_voters_may_be_enough_under_another_configuration() {
    let (mut check, three) = check(&[1, 2, 3], 1);
    assert_eq!(check.on_configuration(&three), Finding::Nothing);
    assert_eq!(check.on_configuration(&configuration(&[1], None)), Finding::MayVote);
    assert_eq!(check.on_configuration(&configuration(&[1], None)), Finding::Nothing, "once");
}

#[test]
fn the_newest_start_is_remembered_whatever_order_its_words_come_in() {
    let mut known = Recollection::default();
    for said in [remembers(50, 1), remembers(40, 1), remembers(45, 2), remembers(60, 1)] {
        known.note(said);
    }
    assert_eq!(known, remembers(45, 2));
    let anew = Recollection { feed: FEED + 1, durable: 3, incarnation: 2 };
    known.note(anew);
    assert_eq!(known, anew, "a store that was made anew in the same start");
    known.note(remembers(70, 1));
    assert_eq!(known, anew, "late words of the store before");
}
