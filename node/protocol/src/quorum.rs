//! Which answers are enough (I6).

use crate::faults::{Fault, broken};
use crate::forced_recovery::is_first;
use coequal_types::settings::majority;
use coequal_types::{Configuration, NodeId, WriteQuorum};
use std::collections::BTreeSet;

/// Nodes that answered.
pub type NodeSet = BTreeSet<NodeId>;

fn size(voters: &[NodeId]) -> u32 {
    u32::try_from(voters.len()).unwrap_or(u32::MAX)
}

fn counted(voters: &[NodeId], answered: &NodeSet) -> u32 {
    if broken(Fault::NonVotersCount) {
        return u32::try_from(answered.len()).unwrap_or(u32::MAX);
    }
    u32::try_from(voters.iter().filter(|voter| answered.contains(voter)).count()).unwrap_or(u32::MAX)
}

fn sets(configuration: &Configuration) -> impl Iterator<Item = &Vec<NodeId>> {
    let new =
        (!broken(Fault::JointCountsOldOnly) || configuration.joint_with.is_none()).then_some(&configuration.voters);
    let old = configuration.joint_with.iter().filter(|_| !broken(Fault::JointCountsNewOnly));
    new.into_iter().chain(old)
}

/// A majority of the voters (in a joint epoch: of the new and of the old ones; in the first epoch of a forced recovery:
/// every voter).
pub fn is_read_quorum(configuration: &Configuration, answered: &NodeSet) -> bool {
    let less = u32::from(broken(Fault::ReadQuorumMinority));
    sets(configuration).all(|voters| counted(voters, answered) >= least(configuration, voters) - less)
}

/// The first of `order` that are a majority together, whom to ask when nobody else has to know: all of them when they are not.
pub fn smallest_read_quorum(configuration: &Configuration, order: impl IntoIterator<Item = NodeId>) -> NodeSet {
    let mut asked = NodeSet::new();
    for node in order {
        if is_read_quorum(configuration, &asked) {
            break;
        }
        asked.insert(node);
    }
    asked
}

/// Voters that every quorum has at least.
fn least(configuration: &Configuration, voters: &[NodeId]) -> u32 {
    if is_first(configuration.epoch) { size(voters) } else { majority(size(voters)) }
}

/// Enough voters for `writeQuorum`, never fewer than a majority. In a joint epoch the new voters are those that are
/// declared; of the old ones a majority is enough to meet every quorum before (I6). With more, an epoch that lets go of a
/// voter that is gone could never end under `writeQuorum: all`: its undecided keys would wait for that very voter.
pub fn is_write_quorum(configuration: &Configuration, answered: &NodeSet) -> bool {
    let less = u32::from(broken(Fault::WriteQuorumMinority));
    let new_counts = !broken(Fault::JointCountsOldOnly) || configuration.joint_with.is_none();
    let old = configuration.joint_with.as_deref().filter(|_| !broken(Fault::JointCountsNewOnly));
    (!new_counts || counted(&configuration.voters, answered) >= accepts_needed(configuration) - less)
        && old.is_none_or(|old| counted(old, answered) >= least(configuration, old) - less)
}

/// Enough accepts where nobody waits to be told of a write: a majority of each set, which meets every read quorum, so
/// what they accepted stays chosen. A client's write is answered by [`is_write_quorum`] alone. Were `writeQuorum: all`
/// needed here too, a voter that is lost while a joint epoch is under way would keep the others from settling, hence from
/// aligning, hence that epoch from ending, hence itself from being let go.
pub fn is_settling_quorum(configuration: &Configuration, answered: &NodeSet) -> bool {
    let less = u32::from(broken(Fault::WriteQuorumMinority));
    sets(configuration).all(|voters| counted(voters, answered) >= least(configuration, voters) - less)
}

/// Whether everything chosen is on enough voters for `writeQuorum`, whoever got it chosen.
pub fn chosen_is_acknowledged(configuration: &Configuration) -> bool {
    accepts_needed(configuration) == least(configuration, &configuration.voters)
}

/// Accepts of the declared voters that a write needs.
fn accepts_needed(configuration: &Configuration) -> u32 {
    let voters = &configuration.voters;
    let ignored = broken(Fault::WriteQuorumIgnored);
    let quorum = if ignored { WriteQuorum::Majority } else { configuration.settings.write_quorum };
    quorum.accepts_needed(size(voters)).max(least(configuration, voters))
}

/// Voters needed for a write, for messages to people.
pub fn write_quorum_size(configuration: &Configuration) -> u32 {
    let old = configuration.joint_with.as_deref().map_or(0, |old| least(configuration, old));
    accepts_needed(configuration).max(old)
}

/// How many sources a node must drain to hold every chosen value (replication contract, section 6): a chosen
/// value is on a majority Q of N voters. A node with an unbroken disk that lacks it can miss it only if all
/// holders are among the others, so N − Q of them suffice; one that forgot needs one more.
pub fn sources_needed(voters: usize, new_disk: bool) -> usize {
    let more = usize::from(new_disk && !broken(Fault::SourcesForgetNewDisk));
    let needed = voters - voters.min(voters / 2 + 1) + more;
    needed.saturating_sub(usize::from(broken(Fault::OneSourceTooFew)))
}

/// I6: any write quorum of `one` shares a voter with any read quorum of `other`, judged by counting in each
/// set that they have in common.
pub fn invariant_quorums_intersect(one: &Configuration, other: &Configuration) -> bool {
    sets(one).any(|a| {
        sets(other).any(|b| {
            let (a, b): (NodeSet, NodeSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            a == b
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coequal_types::DatabaseSettings;

    pub(crate) fn configuration(voters: &[u64], old: Option<&[u64]>) -> Configuration {
        Configuration {
            name: "orders".parse().unwrap(),
            uuid: coequal_types::DatabaseId::nil(),
            epoch: 1,
            voters: voters.iter().copied().map(NodeId).collect(),
            joint_with: old.map(|old| old.iter().copied().map(NodeId).collect()),
            learners: vec![],
            excluded: vec![],
            joined: Default::default(),
            dropped_uuids: vec![],
            settings: DatabaseSettings::default(),
            dropped: false,
            low_bound: Default::default(),
        }
    }
    fn nodes(ids: &[u64]) -> NodeSet {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_joint_epoch_needs_a_majority_of_both_sets() {
        let joint = configuration(&[1, 2, 3, 4, 5], Some(&[1, 2, 3]));
        assert!(!is_read_quorum(&joint, &nodes(&[3, 4, 5])));
        assert!(!is_write_quorum(&joint, &nodes(&[1, 2])));
        assert!(is_write_quorum(&joint, &nodes(&[1, 2, 4])));
    }

    #[test]
    fn a_joint_epoch_that_lets_go_of_a_lost_voter_does_not_need_it_whatever_the_write_quorum() {
        let mut joint = configuration(&[1, 2], Some(&[1, 2, 3]));
        joint.settings.write_quorum = WriteQuorum::All;
        assert!(is_write_quorum(&joint, &nodes(&[1, 2])));
        assert!(!is_write_quorum(&joint, &nodes(&[1, 3])), "every declared voter");
        assert_eq!(write_quorum_size(&joint), 2);
        let mut grows = configuration(&[1, 2, 3, 4, 5], Some(&[1, 2, 3]));
        grows.settings.write_quorum = WriteQuorum::All;
        assert!(!is_write_quorum(&grows, &nodes(&[1, 2, 3, 4])) && is_write_quorum(&grows, &nodes(&[1, 2, 3, 4, 5])));
    }

    #[test]
    fn settling_needs_a_majority_of_each_set_whatever_the_write_quorum() {
        let mut joint = configuration(&[1, 2, 3, 4, 5, 6], Some(&[1, 2, 3, 4, 5]));
        joint.settings.write_quorum = WriteQuorum::All;
        assert!(
            is_settling_quorum(&joint, &nodes(&[1, 2, 3, 6])) && !is_write_quorum(&joint, &nodes(&[1, 2, 3, 5, 6]))
        );
        assert!(!is_settling_quorum(&joint, &nodes(&[1, 2, 6])) && !is_settling_quorum(&joint, &nodes(&[1, 2, 3])));
        assert!(!chosen_is_acknowledged(&joint));
        joint.settings.write_quorum = WriteQuorum::Majority;
        assert!(chosen_is_acknowledged(&joint));
    }

    #[test]
    fn sources_follow_the_rule_n_minus_q_and_one_more_after_forgetting() {
        let expected = [(1, 0, 1), (2, 0, 1), (3, 1, 2), (4, 1, 2), (5, 2, 3), (7, 3, 4)];
        for (voters, unbroken, new) in expected {
            assert_eq!((sources_needed(voters, false), sources_needed(voters, true)), (unbroken, new), "{voters}");
        }
    }

    #[test]
    fn quorums_of_neighbouring_epochs_intersect() {
        let (old, joint, new) = (
            configuration(&[1, 2, 3], None),
            configuration(&[1, 2, 4], Some(&[1, 2, 3])),
            configuration(&[1, 2, 4], None),
        );
        assert!(invariant_quorums_intersect(&old, &joint) && invariant_quorums_intersect(&joint, &new));
        assert!(!invariant_quorums_intersect(&old, &new));
    }

    #[test]
    fn voters_outside_the_configuration_never_count() {
        assert!(!is_write_quorum(&configuration(&[1, 2, 3], None), &nodes(&[1, 8, 9])));
    }
}
