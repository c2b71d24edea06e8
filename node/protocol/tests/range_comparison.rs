//! Comparison of ranges: what is silently different is found and repaired, what moves is not taken for a difference.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod comparing;

use coequal_protocol::copy_verdict::{Question, QuestionKind, Verdict};
use coequal_protocol::message::{ChosenBody, Compare};
use coequal_protocol::range_comparison::*;
use coequal_protocol::{Ballot, Effect, Held, HistoryEntry, Key, RequestId};
use coequal_types::NodeId;
use common::{ballot, configuration, held, key, schedules};
use comparing::{NODES, World};
use std::collections::BTreeSet;
use std::sync::Arc;

fn digests(from: std::ops::Range<u64>) -> Vec<KeyDigest> {
    from.map(|n| KeyDigest::of(&key(&format!("k{n:04}")), &held(ballot(n + 1, 1), "{}"))).collect()
}

fn asked(own: &[KeyDigest], through: Option<Key>) -> Range {
    Range { after: None, through, count: own.len() as u64, digest: range_digest(own), low_bound: 0 }
}

#[test]
fn every_part_of_a_revision_counts_in_its_hash() {
    let base = held(ballot(5, 1), "{}");
    let changed = |change: &dyn Fn(&mut Held)| {
        let mut held = base.clone();
        change(&mut held);
        KeyDigest::of(&key("a"), &held).digest
    };
    let revision = |change: &dyn Fn(&mut coequal_protocol::Revision)| {
        changed(&|held| {
            let mut revision = (*held.revision).clone();
            change(&mut revision);
            held.revision = Arc::new(revision);
        })
    };
    let entry = |request| HistoryEntry { stamp: ballot(5, 1), version: 1, effect: Effect::Created, request };
    let all = [
        KeyDigest::of(&key("a"), &base).digest,
        KeyDigest::of(&key("b"), &base).digest,
        changed(&|held| held.ballot = ballot(6, 1)),
        changed(&|held| held.ballot = ballot(5, 2)),
        changed(&|held| held.ballot = Ballot::creation(5, NodeId(1), 1)),
        revision(&|r| r.version = 2),
        revision(&|r| r.stamp = ballot(4, 1)),
        revision(&|r| r.body = Some("{ }".into())),
        revision(&|r| r.body = Some("".into())),
        revision(&|r| r.body = None),
        revision(&|r| r.history.clear()),
        revision(&|r| r.history = vec![entry(Some((RequestId(1), 1)))]),
        revision(&|r| r.history = vec![entry(Some((RequestId(1), 2)))]),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "two of them are the same");
}

#[test]
fn an_equal_range_is_answered_with_one_word() {
    let own = digests(0..100);
    let more = digests(0..108);
    let answer = answer_range(&asked(&own, own.last().map(|e| e.key.clone())), more.clone(), true, 0);
    assert!(answer.same && answer.entries.is_empty());
    assert!(answer_range(&asked(&own, None), own.clone(), false, 0).same);
    assert!(!answer_range(&asked(&own, None), more, false, 0).same, "there is more behind the asker's end");
}

#[test]
fn where_there_is_more_than_an_answer_holds_it_goes_as_far_as_it_got() {
    let own: Vec<KeyDigest> = digests(0..200).into_iter().step_by(100).collect();
    let theirs = digests(0..10);
    let answer = answer_range(&asked(&own, None), theirs.clone(), true, 0);
    assert!(!answer.same);
    assert_eq!(answer.through, theirs.last().map(|e| e.key.clone()));
    assert_eq!(answer.entries, theirs);
}

#[test]
fn tombstones_below_the_low_bound_of_either_side_take_no_part() {
    let mut own = digests(0..10);
    own[3].tombstone = true;
    let mut collected = own.clone();
    collected.remove(3);
    let range = asked(&own, None);
    let answer = answer_range(&range, collected.clone(), false, 4);
    assert_eq!((answer.same, answer.low_bound), (false, 4), "the other one's bound is told");
    let mut comparison = Comparison::new(1, NodeId(1), 1, vec![NodeId(2)], 0);
    comparison.on_own_range(own.clone(), None, true, 10);
    comparison.on_range_answer(NodeId(2), (1, comparison.step()), (2, 10), answer);
    assert!(comparison.is_done(), "nothing was suspect");
    let mut newer = Comparison::new(1, NodeId(1), 1, vec![NodeId(2)], 4);
    newer.on_own_range(own, None, true, 10);
    let Wanted::Send(_, Compare::Range { range, .. }) = newer.wanted() else { panic!("{:?}", newer.wanted()) };
    assert!(answer_range(&range, collected, false, 0).same, "this side's bound is asked with");
}

/// Node 1 compares with node 2 alone; the answer says that node 2 holds `there`.
fn at_second_look(here: Vec<KeyDigest>, there: Vec<KeyDigest>) -> Comparison {
    let mut comparison = Comparison::new(1, NodeId(1), 1, vec![NodeId(2)], 0);
    comparison.on_own_range(here, None, true, 10);
    let answer = RangeAnswer { same: false, through: None, low_bound: 0, entries: there };
    comparison.on_range_answer(NodeId(2), (1, comparison.step()), (2, 20), answer);
    comparison
}

#[test]
fn a_suspect_waits_until_the_one_behind_has_drained_past_the_first_look() {
    let mut behind_here = at_second_look(digests(0..1), digests(0..2));
    for here in [None, Some((2, 19)), Some((3, 50))] {
        behind_here.on_cursors(here, Some((1, 99)));
        assert!(matches!(behind_here.wanted(), Wanted::Cursors(_)), "{here:?}");
    }
    behind_here.on_cursors(Some((2, 20)), None);
    assert!(matches!(behind_here.wanted(), Wanted::Send(_, Compare::Keys { .. })));
    let mut behind_there = at_second_look(digests(0..2), digests(0..1));
    for there in [None, Some((1, 9)), Some((7, 50))] {
        behind_there.on_cursors(Some((2, 99)), there);
        assert!(matches!(behind_there.wanted(), Wanted::Cursors(_)), "{there:?}");
    }
    behind_there.on_cursors(None, Some((1, 10)));
    assert!(matches!(behind_there.wanted(), Wanted::Send(_, Compare::Keys { .. })));
}

#[test]
fn what_changed_between_the_two_looks_is_no_finding() {
    let (old, new) = (digests(0..1), KeyDigest { ballot: ballot(99, 1), digest: 7, ..digests(0..1)[0].clone() });
    for (here, there) in [(old.clone(), vec![]), (vec![], old.clone())] {
        let mut comparison = at_second_look(here, there);
        comparison.on_cursors(Some((2, 20)), Some((1, 10)));
        comparison
            .on_keys_answer(NodeId(2), (1, comparison.step()), std::slice::from_ref(&new), |_| Some(old[0].clone()));
        assert!(comparison.is_done(), "{comparison:?}");
        assert_eq!((comparison.counts().differences, comparison.take_findings()), (0, vec![]));
    }
}

#[test]
fn answers_of_another_step_node_or_comparison_change_nothing() {
    let mut comparison = at_second_look(digests(0..1), digests(0..2));
    comparison.on_cursors(Some((2, 20)), None);
    let (before, step) = (comparison.wanted(), comparison.step());
    for (from, at) in [(2, (1, step - 1)), (3, (1, step)), (2, (2, step))] {
        comparison.on_keys_answer(NodeId(from), at, &digests(0..2), |_| None);
        comparison.on_range_answer(
            NodeId(from),
            at,
            (2, 1),
            RangeAnswer { same: true, through: None, low_bound: 0, entries: vec![] },
        );
    }
    assert_eq!((comparison.wanted(), comparison.step()), (before, step));
}

#[test]
fn only_what_was_asked_for_and_no_less_than_was_seen_is_learned() {
    let mut comparison = at_second_look(digests(0..1), digests(0..2));
    comparison.on_cursors(Some((2, 20)), None);
    comparison.on_keys_answer(NodeId(2), (1, comparison.step()), &digests(0..2)[1..], |_| None);
    assert!(matches!(comparison.wanted(), Wanted::Send(_, Compare::Fetch { .. })));
    let body = |name: &str, time| {
        let held = held(ballot(time, 1), "{}");
        ChosenBody { key: key(name), ballot: held.ballot, revision: held.revision }
    };
    let mut again = comparison.clone();
    let at = (1, comparison.step());
    let taken = comparison.on_fetched(NodeId(2), at, vec![body("k0000", 50), body("k0001", 1)]);
    assert_eq!((taken, comparison.counts().repaired), (vec![], 0), "one was not asked for, one is older");
    let taken = again.on_fetched(NodeId(2), at, vec![body("k0001", 2)]);
    assert_eq!((taken.len(), again.counts().repaired), (1, 1));
    assert!(again.is_done() && comparison.is_done());
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_and_the_next_one_compared() {
    let mut comparison = Comparison::new(1, NodeId(1), 1, vec![NodeId(2), NodeId(3)], 0);
    comparison.on_own_range(digests(0..5), None, true, 10);
    comparison.on_timeout();
    comparison.on_own_range(digests(0..5), None, true, 10);
    let answer = RangeAnswer { same: true, through: None, low_bound: 0, entries: vec![] };
    comparison.on_range_answer(NodeId(3), (1, comparison.step()), (3, 20), answer);
    let ended = [(NodeId(2), PeerOutcome::GivenUp), (NodeId(3), PeerOutcome::Compared)];
    assert!(comparison.is_done());
    assert_eq!(comparison.ended(), ended);
}

fn two_contents(world: &mut World, nodes: &[u64]) -> Key {
    let key = key("k0001");
    for node in nodes {
        let mut held = world.nodes[node].chosen[&key].clone();
        let mut revision = (*held.revision).clone();
        revision.body = Some(format!("{{\"rotten\":{node}}}").into());
        held.revision = Arc::new(revision);
        world.node(*node).silently(&key, Some(held));
    }
    key
}

fn written(seed: u64, keys: usize) -> World {
    let mut world = World::new(seed, keys);
    (0..keys).for_each(|at| world.write(at));
    world.drain();
    assert!(world.all_equal());
    world
}

#[test]
fn two_contents_at_one_ballot_are_decided_by_a_quorum_and_never_repaired() {
    for (rotten, minority) in [(vec![2], vec![NodeId(2)]), (vec![1], vec![NodeId(1)]), (vec![2, 3], vec![])] {
        let mut world = written(7, 10);
        let key = two_contents(&mut world, &rotten);
        let before: Vec<_> = NODES.iter().map(|node| world.nodes[node].digest(&key)).collect();
        let question =
            Question { key: key.clone(), ballot: before[0].as_ref().unwrap().ballot, kind: QuestionKind::Content };
        let judged = world.judge(vec![question], &NODES);
        assert_eq!(judged[0].minority, minority, "{rotten:?}");
        let comparison = world.compare(1, 1, |_| {});
        assert_eq!((comparison.counts().repaired, comparison.counts().differences > 0), (0, true));
        let after: Vec<_> = NODES.iter().map(|node| world.nodes[node].digest(&key)).collect();
        assert_eq!(before, after, "nothing is repaired by a guess");
    }
}

#[test]
fn without_a_quorum_or_after_a_newer_revision_nobody_goes_into_quarantine() {
    let mut world = written(7, 10);
    let key = two_contents(&mut world, &[2]);
    let question =
        Question { key: key.clone(), ballot: world.nodes[&1].chosen[&key].ballot, kind: QuestionKind::Content };
    assert!(world.judge(vec![question.clone()], &[1, 2])[0].minority.is_empty(), "one against one");
    let newer = held(ballot(1_000, 1), "{}");
    world.node(3).learn(&key, &newer);
    assert!(world.judge(vec![question], &NODES)[0].minority.is_empty(), "both are history");
}

#[test]
fn below_the_low_bound_a_document_that_one_node_lacks_is_repaired_only_if_a_quorum_holds_it() {
    let world = written(7, 10);
    let key = world.written.iter().find(|(_, all)| !all[0].revision.is_tombstone()).unwrap().0.clone();
    let entry = world.nodes[&1].digest(&key).unwrap();
    for (holders, repaired) in [(vec![1, 3], true), (vec![1], false)] {
        let mut comparison = Comparison::new(1, NodeId(1), 1, vec![NodeId(2)], entry.ballot.time);
        comparison.on_own_range(vec![entry.clone()], None, true, 10);
        let bound = entry.ballot.time;
        let answer = RangeAnswer { same: false, through: None, low_bound: bound, entries: vec![] };
        comparison.on_range_answer(NodeId(2), (1, comparison.step()), (2, 20), answer);
        comparison.on_cursors(None, Some((1, 10)));
        comparison.on_keys_answer(NodeId(2), (1, comparison.step()), &[], |_| Some(entry.clone()));
        let Wanted::Judge(questions) = comparison.wanted() else { panic!("{:?}", comparison.wanted()) };
        let mut verdict = Verdict::new(questions);
        for voter in NODES {
            let held = if holders.contains(&voter) { vec![entry.clone()] } else { vec![] };
            verdict.on_answer(NodeId(voter), held);
        }
        comparison.on_judged(verdict.judge(&configuration(&NODES, None)), |_| Some(entry.clone()));
        assert_eq!(matches!(comparison.wanted(), Wanted::Push(..)), repaired, "{holders:?}");
        assert_eq!(comparison.is_done(), !repaired, "a deleted, collected document does not come back");
    }
}

#[test]
fn a_comparison_is_due_once_a_period_at_its_own_moment() {
    let (day, phase) = (86_400_000, 1_000);
    let due = |now, last| is_due(now, day, phase, last, 2 * day);
    assert!(!due(2 * day + phase - 1, None), "the moment has not come since the start");
    assert!(due(2 * day + phase + 1, None));
    assert!(!due(2 * day + phase + 500, Some(2 * day + phase + 1)));
    assert!(due(5 * day, Some(2 * day + phase + 1)), "what was missed is made up for");
    assert!(!is_due(5 * day, 0, phase, None, 0), "0 is never");
    assert!(!is_due(10, day, phase, None, 0), "a clock before all time");
}

#[test]
fn with_writers_and_a_bad_network_nothing_is_reported_where_nothing_is_wrong() {
    for seed in 0..schedules(60) {
        let mut world = written(seed, 300);
        let comparison = world.compare(1, seed, |world| {
            if world.rng.chance(300) {
                world.write_any();
            }
        });
        assert_eq!(comparison.counts().differences, 0, "seed {seed}: {:?}", world.findings);
        assert!(comparison.ended().iter().all(|(_, outcome)| *outcome == PeerOutcome::Compared));
        world.drain();
        assert!(world.newest_everywhere(), "seed {seed}");
    }
}

#[test]
fn silent_differences_are_found_and_repaired_while_writers_go_on() {
    let (mut damaged, mut repaired) = (0, 0);
    for seed in 0..schedules(60) {
        let mut world = written(seed, 300);
        (0..200).for_each(|_| world.write_any());
        world.drain();
        let injected: BTreeSet<(u64, Key)> = (0..1 + seed % 40).filter_map(|_| world.damage()).collect();
        let comparison = world.compare(1 + seed % 3, seed, |world| {
            if world.rng.chance(100) {
                world.write_any();
            }
        });
        let found = world.found();
        assert!(found.is_subset(&injected), "seed {seed}: {:?}", found.difference(&injected));
        assert_eq!(comparison.counts().repaired, comparison.counts().differences, "seed {seed}");
        damaged += injected.len();
        repaired += comparison.counts().repaired;
        world.drain();
        assert!(world.all_equal(), "seed {seed}");
        assert!(world.newest_everywhere(), "seed {seed}");
    }
    assert!(repaired * 2 > damaged as u64, "{repaired} of {damaged}; the rest was overwritten by writers");
}

#[test]
fn a_whole_store_that_was_lost_comes_back() {
    let mut world = written(3, 600);
    for key in world.written.keys().cloned().collect::<Vec<_>>() {
        world.node(1).silently(&key, None);
    }
    let comparison = world.compare(1, 1, |_| {});
    assert_eq!(comparison.counts().repaired, 600);
    assert!(world.all_equal() && world.newest_everywhere());
}

#[test]
fn a_bound_that_the_other_one_knows_first_makes_what_lies_below_it_a_question() {
    let entry = digests(0..1).remove(0);
    let mut comparison = Comparison::new(1, NodeId(1), 1, vec![NodeId(2)], 0);
    comparison.on_own_range(vec![entry.clone()], None, true, 10);
    let answer = RangeAnswer { same: false, through: None, low_bound: entry.ballot.time, entries: vec![] };
    comparison.on_range_answer(NodeId(2), (1, comparison.step()), (2, 20), answer);
    comparison.on_cursors(None, Some((1, 10)));
    comparison.on_keys_answer(NodeId(2), (1, comparison.step()), &[], |_| Some(entry.clone()));
    let Wanted::Judge(questions) = comparison.wanted() else { panic!("{:?}", comparison.wanted()) };
    assert_eq!(questions[0].kind, QuestionKind::Presence, "it may have been deleted and collected there");
    assert!(!comparison.is_held_by_quorum(&entry.key));
}

#[test]
fn a_repair_that_is_not_taken_ends_the_range_and_not_the_comparison() {
    let mut comparison = at_second_look(digests(0..2), digests(0..1));
    comparison.on_cursors(None, Some((1, 10)));
    let here = digests(0..2);
    let own = |key: &Key| here.iter().find(|entry| entry.key == *key).cloned();
    comparison.on_keys_answer(NodeId(2), (1, comparison.step()), &[], own);
    assert!(matches!(comparison.wanted(), Wanted::Push(..)));
    comparison.on_keys_answer(NodeId(2), (1, comparison.step()), &[], own);
    assert!(matches!(comparison.wanted(), Wanted::Push(..)), "it is pushed again");
    comparison.on_timeout();
    assert_eq!(comparison.ended(), [(NodeId(2), PeerOutcome::Compared)]);
    assert_eq!((comparison.counts().differences, comparison.counts().repaired), (1, 0), "and said to be left");
}

#[test]
fn a_peer_that_votes_no_longer_is_not_waited_for() {
    let peers = [2, 3, 4, 5].map(NodeId);
    let mut comparison = Comparison::new(1, NodeId(1), 7, peers.to_vec(), 0);
    comparison.on_voters(&[1, 2, 3, 4, 5].map(NodeId));
    assert!(comparison.ended().is_empty());
    comparison.on_voters(&[1, 4, 5].map(NodeId));
    assert_eq!(comparison.ended().to_vec(), [2, 3].map(|peer| (NodeId(peer), PeerOutcome::GivenUp)));
    assert!(!comparison.is_done());
    comparison.on_voters(&[NodeId(1)]);
    assert!(comparison.is_done() && comparison.ended().len() == 4);
}
