//! Forced recovery: what is refused, what becomes of each database, and that nothing a survivor holds is passed over.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::forced_recovery::{
    Ask, Contact, Outcome, Refusal, SILENT_MS_MIN, Situation, Verdict, decide, invariant_first_epoch_ends_aligned,
    invariant_forced_for_want_of_a_majority, invariant_lost_never_vote_again, is_first, lost_nodes, outcome,
    recoveries,
};
use coequal_protocol::hot_alignment::{
    Alignment, AlignmentPhase, SourceSample, invariant_aligned_means_drained_and_settled,
};
use coequal_protocol::membership::{MemberView, invariant_step_is_safe, must_wait, next_change, successor};
use coequal_protocol::quorum::{NodeSet, is_read_quorum, is_write_quorum};
use coequal_types::{ClusterId, Configuration, DatabaseName, DatabaseStatus, NodeId, WriteQuorum};
use common::{Rng, configuration, schedules, with_write_quorum};
use std::collections::{BTreeMap, BTreeSet};

const CLUSTER: ClusterId = ClusterId::from_u128(9);

fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn system(voters: &[u64], old: Option<&[u64]>) -> Configuration {
    Configuration { name: DatabaseName::system(), uuid: CLUSTER, ..configuration(voters, old) }
}

fn ask(lost: &[u64]) -> Ask {
    Ask { cluster: CLUSTER, lost: ids(lost), accept_data_loss: true }
}

const THERE: Contact = Contact { reachable: true, silent_ms: 0, system_epoch: 1, word_age_ms: Some(500) };
const GONE: Contact = Contact { reachable: false, silent_ms: 60_000, system_epoch: 0, word_age_ms: Some(60_500) };

fn situation<'a>(
    system: &'a Configuration,
    databases: &'a [Configuration],
    others: &[(u64, Contact)],
) -> Situation<'a> {
    let others = others.iter().map(|(node, contact)| (NodeId(*node), *contact)).collect();
    Situation { me: NodeId(1), cluster: CLUSTER, others, system, databases }
}

fn forced(configuration: &Configuration, lost: &[u64]) -> Configuration {
    match outcome(configuration, &ids(lost)) {
        Outcome::Forced(next) => *next,
        other => panic!("{configuration:?} without {lost:?}: {other:?}"),
    }
}

#[test]
fn every_refusal_says_what_is_wrong_and_changes_nothing() {
    let three = system(&[1, 2, 3], None);
    let joint = system(&[1, 2, 3], Some(&[1, 2]));
    let orders = [configuration(&[1, 2], None)];
    let gone = [(2, GONE), (3, GONE)];
    let just_now = Contact { silent_ms: SILENT_MS_MIN - 1, ..GONE };
    let ahead = Contact { system_epoch: 5, ..THERE };
    let other = ClusterId::from_u128(8);
    let learner = Configuration { learners: vec![NodeId(1)], ..system(&[2, 3, 4], None) };
    for (case, asked, situation, expected) in [
        (
            "another cluster",
            Ask { cluster: other, ..ask(&[2, 3]) },
            situation(&three, &[], &gone),
            Refusal::OtherCluster { asked: other, actual: CLUSTER },
        ),
        ("nobody", ask(&[]), situation(&three, &[], &gone), Refusal::NobodyNamed),
        (
            "not accepted",
            Ask { accept_data_loss: false, ..ask(&[2, 3]) },
            situation(&three, &[], &gone),
            Refusal::NotAccepted,
        ),
        ("itself", ask(&[1, 2]), situation(&three, &[], &gone), Refusal::NamesItself(NodeId(1))),
        ("a stranger", ask(&[2, 3, 9]), situation(&three, &[], &gone), Refusal::Unknown(NodeId(9))),
        ("reached", ask(&[2, 3]), situation(&three, &[], &[(2, THERE), (3, GONE)]), Refusal::StillThere(NodeId(2))),
        (
            "a moment's silence",
            ask(&[2, 3]),
            situation(&three, &[], &[(2, just_now), (3, GONE)]),
            Refusal::TooEarly { node: NodeId(2), silent_ms: SILENT_MS_MIN - 1 },
        ),
        ("not all", ask(&[2]), situation(&three, &[], &gone), Refusal::NotNamed(NodeId(3))),
        ("a majority", ask(&[3]), situation(&three, &[], &[(2, THERE), (3, GONE)]), Refusal::MajorityIsThere),
        (
            "a later epoch",
            ask(&[3, 4, 5]),
            situation(&three, &[], &[(2, ahead), (3, GONE), (4, GONE), (5, GONE)]),
            Refusal::Behind { node: NodeId(2), theirs: 5, ours: 1 },
        ),
        (
            "a survivor of whom nothing was heard",
            ask(&[3, 4, 5]),
            situation(&three, &[], &[(2, Contact { word_age_ms: None, ..THERE }), (3, GONE), (4, GONE), (5, GONE)]),
            Refusal::NotHeard(NodeId(2)),
        ),
        (
            "a survivor's word from before the loss",
            ask(&[3, 4]),
            situation(&three, &[], &[(2, Contact { word_age_ms: Some(60_000), ..THERE }), (3, GONE), (4, GONE)]),
            Refusal::NotHeard(NodeId(2)),
        ),
        ("no voter", ask(&[2, 3, 4]), situation(&learner, &[], &[(2, GONE), (3, GONE), (4, GONE)]), Refusal::NoVoter),
        (
            "a change under way",
            ask(&[4]),
            situation(&joint, &[configuration(&[1, 4], None)], &[(2, THERE), (3, THERE), (4, GONE)]),
            Refusal::ChangeUnderWay,
        ),
    ] {
        let text = expected.to_string();
        assert!(text.len() > 40 && !text.ends_with('.'), "{text}");
        assert_eq!(decide(&asked, &situation), Err(expected), "{case}");
    }
    assert_eq!(
        decide(&ask(&[3]), &situation(&three, &orders, &[(2, THERE), (3, GONE)])),
        Err(Refusal::MajorityIsThere)
    );
}

#[test]
fn a_lone_survivor_goes_on_and_asking_again_is_harmless() {
    let three = system(&[1, 2, 3], None);
    let Ok(Verdict::Force(next)) = decide(&ask(&[2, 3]), &situation(&three, &[], &[(2, GONE), (3, GONE)])) else {
        panic!("not forced")
    };
    assert_eq!((next.voters.clone(), next.excluded.clone()), (vec![NodeId(1)], vec![NodeId(2), NodeId(3)]));
    assert!(invariant_lost_never_vote_again(&three, &next, &ids(&[2, 3])));
    assert_eq!(lost_nodes(&next), ids(&[2, 3]));
    assert!(lost_nodes(&configuration(&[1], None)).is_empty());
    for others in [&[(2, GONE), (3, GONE)][..], &[]] {
        assert_eq!(decide(&ask(&[2, 3]), &situation(&next, &[], others)), Ok(Verdict::Done));
        let later = successor(&next);
        assert_eq!(decide(&ask(&[3]), &situation(&later, &[], others)), Ok(Verdict::Done));
    }
}

#[test]
fn a_database_without_a_majority_is_forced_by_agreement_where_the_system_has_one() {
    let three = system(&[1, 2, 3], None);
    let databases = [configuration(&[1, 3], None)];
    let seen = situation(&three, &databases, &[(2, THERE), (3, GONE)]);
    let Ok(Verdict::Agree(next)) = decide(&ask(&[3]), &seen) else { panic!("no agreement") };
    assert!(invariant_step_is_safe(&three, &next) && next.excluded == [NodeId(3)] && next.voters == three.voters);
    assert_eq!(forced(&databases[0], &[3]).voters, [NodeId(1)]);
}

#[test]
fn what_becomes_of_each_database() {
    let lost = ids(&[2, 3]);
    let kept = |configuration: &Configuration| outcome(configuration, &lost) == Outcome::Kept;
    assert!(kept(&configuration(&[1, 4, 5], None)) && kept(&configuration(&[1, 2, 4], None)));
    assert!(kept(&Configuration { dropped: true, ..configuration(&[2, 3], None) }));
    assert_eq!(outcome(&configuration(&[2, 3], None), &lost), Outcome::NoCopy);
    let learning = Configuration { learners: vec![NodeId(3), NodeId(4)], ..configuration(&[1, 2, 3], None) };
    let next = forced(&learning, &[2, 3]);
    assert_eq!((next.learners.as_slice(), next.joined.get(&NodeId(4))), (&[NodeId(4)][..], Some(&next.epoch)));
    // In a joint epoch only the former voters are sure to hold what was chosen before it.
    let joint = configuration(&[4, 5, 6], Some(&[1, 2, 3]));
    assert_eq!(forced(&joint, &[2, 3]).voters, [NodeId(1)]);
    assert_eq!(forced(&joint, &[2, 3]).learners, [NodeId(4), NodeId(5), NodeId(6)]);
    assert_eq!(forced(&configuration(&[4, 5, 6], Some(&[2, 3])), &[2, 3]).voters, [NodeId(4), NodeId(5), NodeId(6)]);
}

#[test]
fn in_the_first_epoch_every_survivor_is_needed_and_then_a_majority() {
    let next = forced(&with_write_quorum(&[1, 2, 3, 4, 5, 6, 7], WriteQuorum::Count(4)), &[4, 5, 6, 7]);
    let two: NodeSet = ids(&[1, 2]);
    assert!(is_first(next.epoch) && !is_read_quorum(&next, &two) && !is_write_quorum(&next, &two));
    assert!(is_read_quorum(&next, &ids(&[1, 2, 3])) && is_write_quorum(&next, &ids(&[1, 2, 3])));
    let view = |aligned_epoch| MemberView {
        stays: true,
        reachable: true,
        status: Some(DatabaseStatus::Online),
        aligned_epoch,
        ..MemberView::default()
    };
    let mut views: BTreeMap<NodeId, MemberView> = [1, 2, 3, 8].map(|node| (NodeId(node), view(next.epoch))).into();
    views.insert(NodeId(3), view(0));
    assert_eq!(next_change(&next, &views), None, "not before all are aligned, and nobody is taken in before");
    assert!(must_wait(&next, &successor(&next)), "nor does anybody else's change end it");
    views.insert(NodeId(3), view(next.epoch));
    let after = next_change(&next, &views).unwrap();
    assert!(invariant_step_is_safe(&next, &after));
    assert!(invariant_first_epoch_ends_aligned(&next, &after, |node| views[node].aligned_epoch));
    assert!(!is_first(after.epoch) && is_read_quorum(&after, &two) && after.voters == next.voters);
    assert_eq!(next_change(&after, &views).unwrap().learners, [NodeId(8)], "and a new node is taken in");
}

#[test]
fn a_survivor_aligns_with_every_other_one() {
    let next = forced(&configuration(&[1, 2, 3, 4, 5, 6, 7], None), &[4, 5, 6, 7]);
    let mut alignment = Alignment::new(1, NodeId(1), &next, false);
    assert_eq!(alignment.needed(), 2);
    let sample = || SourceSample { feed: 1, head: 0, behind: 0, pending: vec![] };
    for source in [2, 2, 2, 3, 2] {
        assert_ne!(alignment.phase(), AlignmentPhase::Aligned, "before {source}");
        alignment.on_sample(NodeId(source), next.epoch, sample());
    }
    alignment.on_sample(NodeId(3), next.epoch, sample());
    assert!(alignment.wants_own_pending());
    alignment.take_own_pending(Vec::new());
    assert_eq!(alignment.phase(), AlignmentPhase::Aligned);
    assert!(invariant_aligned_means_drained_and_settled(&alignment));
}

/// Random clusters lose random nodes, also twice; whatever a survivor holds, every quorum afterwards meets it.
#[test]
fn whatever_a_survivor_holds_is_met_by_every_quorum_afterwards() {
    let mut done = 0;
    for seed in 0..schedules(4_000) {
        let mut rng = Rng::new(seed);
        let mut nodes: Vec<u64> = (1..=3 + rng.below(6) as u64).collect();
        rng.shuffle(&mut nodes);
        let (voters, rest) = nodes.split_at(1 + rng.below(nodes.len()));
        let old: Vec<u64> = voters.iter().copied().filter(|_| rng.chance(700)).collect();
        let old = (rng.chance(300) && !old.is_empty()).then_some(old.as_slice());
        let mut known = configuration(voters, old);
        known.learners = rest.iter().copied().map(NodeId).collect();
        known.epoch = 1 + rng.below(50) as u64;
        for round in 1..=2 {
            let lost: BTreeSet<NodeId> = known.members().into_iter().filter(|_| rng.chance(500)).collect();
            let Outcome::Forced(next) = outcome(&known, &lost) else { continue };
            assert!(invariant_lost_never_vote_again(&known, &next, &lost), "seed {seed}: {known:?} {next:?}");
            assert!(invariant_forced_for_want_of_a_majority(&known, &next, &lost), "seed {seed}");
            assert!(recoveries(next.epoch) > recoveries(known.epoch) && recoveries(next.epoch) <= round);
            assert_eq!(outcome(&next, &lost), Outcome::Kept, "seed {seed}: the same again");
            // First epoch: a value on any one voter is met. Later: each holds what any held.
            for missing in &next.voters {
                let others: NodeSet = next.voters.iter().copied().filter(|voter| voter != missing).collect();
                assert!(!is_read_quorum(&next, &others) && !is_write_quorum(&next, &others), "seed {seed}");
            }
            let joined = |node: &NodeId| next.joined.get(node).copied().unwrap_or(0);
            assert!(next.learners.iter().all(|learner| joined(learner) == next.epoch), "seed {seed}");
            done += 1;
            known = successor(&next);
        }
    }
    assert!(done > 500, "{done}");
}
