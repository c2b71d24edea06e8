//! Membership: which change comes next, and that every walk of changes is safe and comes to an end.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::membership::{
    COMPANION_PATIENCE_MS, MemberView, invariant_joint_ends_aligned, invariant_step_is_safe, next_change, with_learner,
    without,
};
use coequal_types::settings::majority;
use coequal_types::{Configuration, DatabaseName, DatabaseStatus, NodeId};
use common::{Rng, configuration, schedules};
use std::collections::BTreeMap;

type Views = BTreeMap<NodeId, MemberView>;

fn ids(nodes: &[u64]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// A node that is there, reachable, ONLINE and aligned with every epoch so far.
fn well() -> MemberView {
    MemberView {
        stays: true,
        reachable: true,
        unreachable_by_majority_ms: 0,
        status: Some(DatabaseStatus::Online),
        aligned_epoch: u64::MAX,
        learner_ms: 0,
    }
}

fn views(nodes: &[u64]) -> Views {
    nodes.iter().map(|node| (NodeId(*node), well())).collect()
}

fn changed(views: &Views, node: u64, change: impl Fn(&mut MemberView)) -> Views {
    let mut views = views.clone();
    change(views.get_mut(&NodeId(node)).unwrap());
    views
}

fn with_learners(voters: &[u64], learners: &[u64]) -> Configuration {
    Configuration { learners: ids(learners), ..configuration(voters, None) }
}

/// The next step, checked.
fn step(configuration: &Configuration, views: &Views) -> Option<Configuration> {
    let next = next_change(configuration, views)?;
    assert!(invariant_step_is_safe(configuration, &next), "{configuration:?}\nbecame {next:?}");
    let aligned = |node: &NodeId| views.get(node).map_or(0, |view| view.aligned_epoch);
    assert!(invariant_joint_ends_aligned(configuration, &next, aligned), "{configuration:?}\nbecame {next:?}");
    Some(next)
}

/// Voters, old voters, learners.
type Outline = (Vec<NodeId>, Option<Vec<NodeId>>, Vec<NodeId>);

/// The members of the next step.
fn outline(next: Option<Configuration>) -> Option<Outline> {
    next.map(|next| (next.voters, next.joint_with, next.learners))
}

#[test]
fn a_database_as_it_should_be_stays_as_it_is() {
    let three = configuration(&[1, 2, 3], None);
    let all = views(&[1, 2, 3]);
    assert_eq!(step(&three, &all), None);
    let away = changed(&all, 3, |view| {
        (view.reachable, view.status, view.unreachable_by_majority_ms) = (false, None, u64::MAX);
    });
    assert_eq!(step(&three, &away), None, "with hotAlignment an absent node stays a voter");
    assert_eq!(step(&Configuration { dropped: true, ..three }, &views(&[1, 2, 3, 4])), None);
}

#[test]
fn a_new_node_becomes_a_learner_then_a_joint_voter_then_a_voter() {
    let all = views(&[1, 2, 3, 4]);
    let first = step(&configuration(&[1, 2, 3], None), &all).unwrap();
    assert_eq!((first.learners.clone(), first.joined[&NodeId(4)]), (ids(&[4]), 2));
    let second = step(&first, &all).unwrap();
    assert_eq!(outline(Some(second.clone())), Some((ids(&[1, 2, 3, 4]), Some(ids(&[1, 2, 3])), vec![])));
    let third = step(&second, &all).unwrap();
    assert_eq!((outline(Some(third.clone())), third.epoch), (Some((ids(&[1, 2, 3, 4]), None, vec![])), 4));
    assert_eq!(step(&third, &all), None);
}

#[test]
fn a_faulty_copy_goes_out_of_the_configuration_so_that_it_is_deployed_anew() {
    let faulty =
        |all: &BTreeMap<NodeId, MemberView>, id| changed(all, id, |view| view.status = Some(DatabaseStatus::Faulty));
    let all = views(&[1, 2, 3, 4]);
    let learner = with_learners(&[1, 2, 3], &[4]);
    assert_eq!(outline(step(&learner, &faulty(&all, 4))), Some((ids(&[1, 2, 3]), None, vec![])));
    let voters = configuration(&[1, 2, 3], None);
    let three = views(&[1, 2, 3]);
    assert_eq!(outline(step(&voters, &faulty(&three, 3))), Some((ids(&[1, 2]), Some(ids(&[1, 2, 3])), vec![])));
    let mut by_hand = voters.clone();
    by_hand.settings.auto_deploy = false;
    assert_eq!(step(&by_hand, &faulty(&three, 3)), None, "nobody would deploy it anew");
}

#[test]
fn a_learner_votes_only_when_it_is_online_on_disk_reachable_and_stays() {
    let learner = with_learners(&[1, 2, 3], &[4]);
    let all = views(&[1, 2, 3, 4]);
    for (case, views) in [
        ("synchronizing", changed(&all, 4, |view| view.status = Some(DatabaseStatus::Synchronizing))),
        ("unknown status", changed(&all, 4, |view| view.status = None)),
        ("unreachable", changed(&all, 4, |view| view.reachable = false)),
        ("its alignment is not on its disk yet", changed(&all, 4, |view| view.aligned_epoch = 0)),
    ] {
        assert_eq!(step(&learner, &views), None, "{case}");
    }
    let again = Configuration { joined: [(NodeId(4), 3)].into(), ..learner.clone() };
    let of_before = changed(&all, 4, |view| view.aligned_epoch = 2);
    assert_eq!(step(&again, &of_before), None, "what it says is of the time before it was taken in again");
    let leaves = changed(&all, 4, |view| view.stays = false);
    assert_eq!(outline(step(&learner, &leaves)), Some((ids(&[1, 2, 3]), None, vec![])));
}

#[test]
fn the_first_voter_of_the_system_database_waits_for_a_second_companion_that_is_about_to_be_ready() {
    let mut first = with_learners(&[1], &[2, 3]);
    first.name = DatabaseName::system();
    let all = views(&[1, 2, 3]);
    let three = Some((ids(&[1, 2, 3]), Some(ids(&[1])), vec![]));
    assert_eq!(outline(step(&first, &all)), three, "both at once");
    let two = Some((ids(&[1, 2]), Some(ids(&[1])), ids(&[3])));
    for (case, third, expected) in [
        ("it is being copied", changed(&all, 3, |view| view.status = Some(DatabaseStatus::Synchronizing)), None),
        ("it has not begun", changed(&all, 3, |view| view.status = None), None),
        ("it went away", changed(&all, 3, |view| (view.reachable, view.status) = (false, None)), two.clone()),
        (
            "it does not get ready",
            changed(&all, 3, |view| (view.learner_ms, view.status) = (COMPANION_PATIENCE_MS, None)),
            two.clone(),
        ),
    ] {
        assert_eq!(outline(step(&first, &third)), expected, "{case}");
    }
    let copied = changed(&all, 3, |view| view.status = Some(DatabaseStatus::Synchronizing));
    assert_eq!(outline(step(&with_learners(&[1], &[2, 3]), &copied)), two, "documents get their second copy at once");
    let mut one = configuration(&[1], None);
    one.name = DatabaseName::system();
    one.learners = ids(&[2]);
    assert_eq!(step(&one, &all).unwrap().learners, ids(&[2, 3]), "a newcomer is taken in before anybody is promoted");
}

#[test]
fn auto_deploy_off_takes_nobody_in_except_into_the_system_database() {
    let mut three = configuration(&[1, 2, 3], None);
    three.settings.auto_deploy = false;
    let all = views(&[1, 2, 3, 4]);
    assert_eq!(step(&three, &all), None);
    three.name = DatabaseName::system();
    assert_eq!(step(&three, &all).unwrap().learners, ids(&[4]));
}

#[test]
fn a_node_that_is_excluded_is_let_go_and_not_taken_in_again() {
    let excluded = Configuration { excluded: ids(&[3]), ..configuration(&[1, 2, 3], None) };
    let all = views(&[1, 2, 3]);
    let joint = step(&excluded, &all).unwrap();
    assert_eq!(outline(Some(joint.clone())), Some((ids(&[1, 2]), Some(ids(&[1, 2, 3])), vec![])));
    let two = step(&joint, &all).unwrap();
    assert_eq!(step(&two, &all), None);
    let again = with_learner(&two, NodeId(3)).unwrap();
    assert!(invariant_step_is_safe(&two, &again) && again.excluded.is_empty() && again.learners == ids(&[3]));
    assert_eq!(with_learner(&again, NodeId(3)), None, "repeating a request is harmless");
}

#[test]
fn without_hot_alignment_a_node_goes_after_the_grace_period_and_by_a_majority_s_word_only() {
    let mut three = configuration(&[1, 2, 3], None);
    three.settings.hot_alignment = false;
    three.settings.unreachable_grace_period_seconds = 60;
    let all = views(&[1, 2, 3]);
    for (ms, goes) in [(0, false), (60_000, false), (60_001, true)] {
        // Not reaching it oneself says nothing; the majority's time does.
        let away = changed(&all, 3, |view| (view.reachable, view.unreachable_by_majority_ms) = (false, ms));
        assert_eq!(step(&three, &away).is_some(), goes, "{ms} ms");
    }
    let away = changed(&all, 3, |view| view.unreachable_by_majority_ms = 60_001);
    let system = Configuration { name: DatabaseName::system(), ..three };
    assert_eq!(step(&system, &away), None, "the system database keeps its voters");
}

/// The fault: documents travel in any order, so a node may know a configuration before it knows the entry of a
/// member that has just joined; it took the member for one that had left, and voted it out.
#[test]
fn a_member_of_which_nothing_is_known_yet_is_not_let_go() {
    assert_eq!(step(&with_learners(&[1, 2, 3], &[4]), &views(&[1, 2, 3])), None);
    assert_eq!(step(&configuration(&[1, 2, 3, 4], None), &views(&[1, 2, 3])), None);
}

/// The fault: with one of three down, another was let go; the joint epoch then needed the two that were left,
/// and nothing could be written until the lost node came back.
#[test]
fn nobody_is_let_go_while_those_who_stay_could_not_write_without_it() {
    let three = configuration(&[1, 2, 3], None);
    let leaves = changed(&views(&[1, 2, 3]), 3, |view| (view.stays, view.reachable) = (false, false));
    assert!(step(&three, &leaves).is_some());
    let one_down = changed(&leaves, 2, |view| view.reachable = false);
    assert_eq!(step(&three, &one_down), None);
    let both_go = changed(&one_down, 2, |view| view.stays = false);
    assert_eq!(outline(step(&three, &both_go)).map(|(voters, ..)| voters), Some(ids(&[1, 3])));
    let second_is_dead = changed(&both_go, 3, |view| view.unreachable_by_majority_ms = 5_000);
    assert_eq!(outline(step(&three, &second_is_dead)).map(|(voters, ..)| voters), Some(ids(&[1, 2])), "the dead first");
}

#[test]
fn the_last_voter_is_never_let_go() {
    let one = configuration(&[1], None);
    assert_eq!(without(&one, NodeId(1)), None);
    let leaves = changed(&views(&[1]), 1, |view| view.stays = false);
    assert_eq!(step(&one, &leaves), None);
    // A successor takes over first.
    let with_two = with_learners(&[1], &[2]);
    let leaves = changed(&views(&[1, 2]), 1, |view| view.stays = false);
    assert_eq!(outline(step(&with_two, &leaves)), Some((ids(&[1, 2]), Some(ids(&[1])), vec![])));
}

#[test]
fn a_joint_epoch_ends_only_when_a_majority_of_the_new_voters_is_aligned_with_it() {
    let mut joint = configuration(&[1, 2, 4], Some(&[1, 2, 3]));
    joint.epoch = 7;
    joint.joined = BTreeMap::from([(NodeId(3), 1), (NodeId(4), 5)]);
    let none = views(&[1, 2, 3, 4]).into_keys().map(|node| (node, MemberView { aligned_epoch: 6, ..well() })).collect();
    let aligned = |views: &Views, node: u64| changed(views, node, |view| view.aligned_epoch = 7);
    assert_eq!(step(&joint, &none), None);
    let one_and_old = aligned(&aligned(&none, 1), 3);
    assert_eq!(step(&joint, &one_and_old), None, "an old voter's alignment does not count");
    let next = step(&joint, &aligned(&one_and_old, 4)).unwrap();
    assert_eq!((next.epoch, next.joint_with.clone(), next.joined.clone()), (8, None, [(NodeId(4), 5)].into()));
}

#[test]
fn nothing_else_changes_during_a_joint_epoch() {
    let joint =
        Configuration { learners: ids(&[5]), excluded: ids(&[2]), ..configuration(&[1, 2, 4], Some(&[1, 2, 3])) };
    let mut all = views(&[1, 2, 3, 4, 5, 6]);
    all.values_mut().for_each(|view| view.aligned_epoch = 0);
    all.get_mut(&NodeId(1)).unwrap().stays = false;
    assert_eq!(step(&joint, &all), None);
}

/// What is observed, at random.
fn any_views(rng: &mut Rng, epoch: u64) -> Views {
    let statuses = DatabaseStatus::ALL;
    (1..=6)
        .filter_map(|node| {
            let view = MemberView {
                stays: rng.chance(800),
                reachable: rng.chance(700),
                unreachable_by_majority_ms: *rng.pick(&[0, 0, 0, 100_000]),
                status: rng.chance(800).then(|| *rng.pick(&statuses)),
                learner_ms: 0,
                aligned_epoch: epoch.saturating_sub(rng.below(3) as u64),
            };
            rng.chance(900).then_some((NodeId(node), view))
        })
        .collect()
}

#[test]
fn every_walk_of_changes_is_safe_and_ends_with_everybody_voting() {
    for seed in 0..schedules(3_000) {
        let mut rng = Rng::new(seed);
        let mut now = configuration(&[1, 2, 3][..=rng.below(3)], None);
        now.settings.hot_alignment = rng.chance(500);
        for _ in 0..rng.below(30) {
            let views = any_views(&mut rng, now.epoch);
            let next = step(&now, &views);
            assert!(next.as_ref().is_none_or(|next| !next.voters.is_empty()), "seed {seed}");
            now = next.unwrap_or(now);
        }
        // Everybody comes back and stays.
        let all = views(&[1, 2, 3, 4, 5, 6]);
        let mut steps = 0;
        while let Some(next) = step(&now, &all) {
            now = next;
            steps += 1;
            assert!(steps <= 8, "seed {seed}: no end at {now:?}");
        }
        let mut voters = now.voters.clone();
        voters.sort_unstable();
        assert_eq!(
            outline(Some(Configuration { voters, ..now })),
            Some((ids(&[1, 2, 3, 4, 5, 6]), None, vec![])),
            "seed {seed}"
        );
    }
}

#[test]
fn several_leaving_nodes_go_one_after_the_other_until_one_is_left() {
    let mut now = configuration(&[1, 2, 3, 4, 5], None);
    let mut all = views(&[1, 2, 3, 4, 5]);
    all.values_mut().for_each(|view| view.stays = false);
    let mut sizes = vec![];
    while let Some(next) = step(&now, &all) {
        assert!(next.joint_with.as_ref().is_none_or(|old| old.len() == next.voters.len() + 1));
        assert!(majority(u32::try_from(next.voters.len()).unwrap()) >= 1);
        now = next;
        sizes.push(now.voters.len());
    }
    assert_eq!(sizes, [4, 4, 3, 3, 2, 2, 1, 1]);
}
