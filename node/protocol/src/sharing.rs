//! What a node does about a database that it hears of, and how it starts with a copy that it finds on its disk.

use crate::faults::{Fault, broken};
use crate::forced_recovery::is_first;
use coequal_types::{Configuration, DatabaseId, NodeId};

/// The local copy of a database of some name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalCopy {
    /// Identity of the database.
    pub uuid: DatabaseId,
    /// The node whose store it is: another's when the folder was copied by hand.
    pub owner: NodeId,
    /// Newest epoch that this copy took part in.
    pub epoch: u64,
    /// Whether it was made from others' and never aligned since: what its node promised before is not in it.
    pub deployed: bool,
}

/// What to do (replication contract, sections 7 and 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Open the local copy, align, go on.
    Replicate,
    /// Make an empty store: this node votes in a new database from its first epoch on, and has never held it.
    Create,
    /// Copy the database from a donor, as a learner.
    Deploy,
    /// This node votes in the database, and what it has promised is not on its disk: the folder is gone, is another node's,
    /// or was made anew. It must not vote on (I7): it says FAULTY, is taken out of the configuration, and comes in anew.
    Forgot,
    /// The copy came from another node by hand: its chosen revisions are a head start, its promises are not ours.
    HeadStart,
    /// The copy counts no more (this node was removed, or the database was dropped on purpose): set it aside.
    /// `deploy` tells whether to deploy anew afterwards.
    SetAside {
        /// Whether this node is to hold the database now.
        deploy: bool,
    },
    /// Another database of the same name: touch nothing, say so (G8).
    Conflict,
    /// Nothing: not for this node.
    NotHere,
}

/// Decides for `node` what to do with a database of this configuration and the copy it has. `held`: this node has had a
/// store of its own of this database since it was last taken in, by a note that lies outside of that store.
pub fn decide(node: NodeId, configuration: &Configuration, copy: Option<LocalCopy>, held: bool) -> Sharing {
    let sharing = choose(node, configuration, copy, held);
    debug_assert!(invariant_who_forgot_does_not_vote(node, configuration, copy, held, sharing));
    sharing
}

fn choose(node: NodeId, configuration: &Configuration, copy: Option<LocalCopy>, held: bool) -> Sharing {
    let member = !configuration.dropped && configuration.is_member(node);
    let Some(copy) = copy else {
        return if member { without_copy(node, configuration, held) } else { Sharing::NotHere };
    };
    if copy.uuid != configuration.uuid && !broken(Fault::NamesakeMixes) {
        let dropped = configuration.dropped_uuids.contains(&copy.uuid);
        return if dropped { Sharing::SetAside { deploy: member } } else { Sharing::Conflict };
    }
    if !member {
        return Sharing::SetAside { deploy: false };
    }
    let votes = votes(node, configuration);
    if copy.owner != node && !broken(Fault::CopiedFolderVotes) {
        return if votes { Sharing::Forgot } else { Sharing::HeadStart };
    }
    let joined = configuration.joined.get(&node).copied().unwrap_or(0);
    // A copy that took part only in epochs before this node was (re-)taken in belongs to a member that was removed.
    let removed = copy.epoch < joined && !broken(Fault::RemovedCopyVotes);
    match removed {
        true => Sharing::SetAside { deploy: true },
        false if votes && copy.deployed => Sharing::Forgot,
        false => Sharing::Replicate,
    }
}

fn without_copy(node: NodeId, configuration: &Configuration, held: bool) -> Sharing {
    match votes(node, configuration) {
        false => Sharing::Deploy,
        true if !held && makes(node, configuration) => Sharing::Create,
        true => Sharing::Forgot,
    }
}

/// Whether this node votes on the strength of a copy that it had: learners become voters when they are aligned. In the
/// first epoch of a forced recovery every survivor is needed, and what one of them lost is among what a person gave up.
fn votes(node: NodeId, configuration: &Configuration) -> bool {
    configuration.is_voter(node) && !is_first(configuration.epoch) && !broken(Fault::ForgetfulVotes)
}

/// Whether this node votes from the first epoch on, and makes its own empty store. That of the system database is made
/// before there is a configuration.
fn makes(node: NodeId, configuration: &Configuration) -> bool {
    configuration.joined.get(&node) == Some(&1) && !configuration.name.is_system()
}

/// I7: a voter that once had a copy goes on with that very copy only.
pub fn invariant_who_forgot_does_not_vote(
    node: NodeId,
    configuration: &Configuration,
    copy: Option<LocalCopy>,
    held: bool,
    sharing: Sharing,
) -> bool {
    let own = copy.is_some_and(|copy| copy.owner == node && copy.uuid == configuration.uuid && !copy.deployed);
    let goes_on = matches!(sharing, Sharing::Create | Sharing::Deploy | Sharing::HeadStart | Sharing::Replicate);
    let first = copy.is_none() && !held && configuration.joined.get(&node) == Some(&1);
    own || first || !goes_on || !configuration.is_voter(node) || is_first(configuration.epoch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coequal_types::DatabaseSettings;

    const ME: NodeId = NodeId(1);

    fn configuration(members: &[u64], joined: u64) -> Configuration {
        Configuration {
            name: "orders".parse().unwrap(),
            uuid: DatabaseId::from_u128(7),
            epoch: 9,
            voters: members.iter().copied().map(NodeId).collect(),
            joint_with: None,
            learners: vec![],
            excluded: vec![],
            joined: [(ME, joined)].into(),
            dropped_uuids: vec![DatabaseId::from_u128(5)],
            settings: DatabaseSettings::default(),
            dropped: false,
            low_bound: Default::default(),
        }
    }
    fn copy(uuid: u128, owner: u64, epoch: u64) -> Option<LocalCopy> {
        Some(LocalCopy { uuid: DatabaseId::from_u128(uuid), owner: NodeId(owner), epoch, deployed: false })
    }

    #[test]
    fn every_case_of_sharing_in_one_table() {
        let here = configuration(&[1, 2, 3], 4);
        let elsewhere = configuration(&[2, 3], 4);
        let learns = Configuration { learners: vec![ME], ..configuration(&[2, 3], 4) };
        let forced = Configuration { epoch: 1 << 32, ..configuration(&[1, 2], 4) };
        let deployed = |node| copy(7, node, 6).map(|copy| LocalCopy { deployed: true, ..copy });
        for (case, configuration, copy, expected) in [
            ("no copy, learner", &learns, None, Sharing::Deploy),
            ("no copy, a voter that came later", &here, None, Sharing::Forgot),
            ("no copy, not a member", &elsewhere, None, Sharing::NotHere),
            ("same database", &here, copy(7, 1, 6), Sharing::Replicate),
            ("copied by hand, learner", &learns, copy(7, 2, 6), Sharing::HeadStart),
            ("made anew, learner", &learns, deployed(1), Sharing::Replicate),
            ("made anew, voter", &here, deployed(1), Sharing::Forgot),
            ("made anew, survivor of a forced recovery", &forced, deployed(1), Sharing::Replicate),
            ("no copy, survivor of a forced recovery", &forced, None, Sharing::Deploy),
            ("copied by hand over a voter's own", &here, copy(7, 2, 6), Sharing::Forgot),
            ("removed and taken in again", &here, copy(7, 1, 3), Sharing::SetAside { deploy: true }),
            ("removed", &elsewhere, copy(7, 1, 6), Sharing::SetAside { deploy: false }),
            ("another database of the name", &here, copy(8, 1, 6), Sharing::Conflict),
            ("another database, not a member", &elsewhere, copy(8, 1, 6), Sharing::Conflict),
            ("dropped on purpose", &here, copy(5, 1, 6), Sharing::SetAside { deploy: true }),
        ] {
            assert_eq!(decide(ME, configuration, copy, false), expected, "{case}");
        }
    }

    #[test]
    fn a_dropped_database_is_set_aside_and_not_deployed() {
        let mut dropped = configuration(&[1, 2, 3], 0);
        dropped.dropped = true;
        assert_eq!(decide(ME, &dropped, copy(7, 1, 9), true), Sharing::SetAside { deploy: false });
        assert_eq!(decide(ME, &dropped, None, true), Sharing::NotHere);
    }

    #[test]
    fn a_voter_from_the_first_epoch_makes_its_store_once() {
        let first = configuration(&[1, 2, 3], 1);
        assert_eq!(decide(ME, &first, None, false), Sharing::Create);
        assert_eq!(decide(ME, &first, None, true), Sharing::Forgot);
        assert_eq!(decide(ME, &first, copy(7, 2, 6), true), Sharing::Forgot);
        assert_eq!(decide(ME, &first, copy(7, 1, 6), true), Sharing::Replicate);
        let system = Configuration { name: coequal_types::DatabaseName::system(), ..first };
        assert_eq!(decide(ME, &system, None, false), Sharing::Forgot, "initializing makes it, and nothing else");
    }

    #[test]
    fn voters_on_the_way_out_or_in_have_promised_too() {
        let mut joint = configuration(&[2, 3, 4], 4);
        joint.joint_with = Some(vec![ME, NodeId(2), NodeId(3)]);
        assert_eq!(decide(ME, &joint, None, false), Sharing::Forgot);
        assert_eq!(decide(ME, &joint, copy(7, 2, 6), false), Sharing::Forgot);
    }
}
