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
    /// Whether it was made from others' and never aligned since: whatever its node promised before is not in it.
    pub deployed: bool,
}

/// What to do (replication contract, sections 7 and 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Open the local copy, align, go on.
    Replicate,
    /// Copy the database from a donor.
    Deploy,
    /// The copy came from another node by hand: its chosen revisions are a head start, its promises are not ours.
    HeadStart,
    /// The copy counts no more (this node was removed, or the database was dropped on purpose): set it aside.
    /// `deploy` tells whether to deploy anew afterwards.
    SetAside {
        /// Whether this node is to hold the database now.
        deploy: bool,
    },
    /// This node votes, and the copy with which it did is gone: what it promised and accepted is on no disk of its own. It
    /// must not vote with another copy (I7): FAULTY, until it was taken out of the configuration, and in again.
    Forgotten,
    /// Another database of the same name: touch nothing, say so (G8).
    Conflict,
    /// Nothing: not for this node.
    NotHere,
}

/// Decides for `node` what to do with a database of this configuration and the copy it has.
pub fn decide(node: NodeId, configuration: &Configuration, copy: Option<LocalCopy>) -> Sharing {
    let member = !configuration.dropped && configuration.is_member(node);
    let joined = configuration.joined.get(&node).copied().unwrap_or(0);
    // Learners become voters when they are aligned; the survivors of a forced recovery before they are.
    let votes = member && configuration.is_voter(node) && !is_first(configuration.epoch);
    let Some(copy) = copy else {
        // The voters of a new database make their own empty stores; the system database's first one makes it itself.
        let makes = joined == 1 && !configuration.name.is_system();
        return match (member, votes && !makes) {
            (false, _) => Sharing::NotHere,
            (true, false) => Sharing::Deploy,
            (true, true) => Sharing::Forgotten,
        };
    };
    if copy.uuid != configuration.uuid && !broken(Fault::NamesakeMixes) {
        let dropped = configuration.dropped_uuids.contains(&copy.uuid);
        return if dropped { Sharing::SetAside { deploy: member } } else { Sharing::Conflict };
    }
    if !member {
        return Sharing::SetAside { deploy: false };
    }
    if copy.owner != node && !broken(Fault::CopiedFolderVotes) {
        return if votes { Sharing::Forgotten } else { Sharing::HeadStart };
    }
    // A copy that took part only in epochs before this node was (re-)taken in belongs to a member that was removed.
    let removed = copy.epoch < joined && !broken(Fault::RemovedCopyVotes);
    match removed {
        true => Sharing::SetAside { deploy: true },
        false if votes && copy.deployed => Sharing::Forgotten,
        false => Sharing::Replicate,
    }
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
            learners: vec![NodeId(9)],
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
        let new = configuration(&[1, 2, 3], 1);
        let system = Configuration { name: coequal_types::DatabaseName::system(), ..new.clone() };
        let learns = Configuration { learners: vec![ME], ..elsewhere.clone() };
        let deployed = copy(7, 1, 6).map(|copy| LocalCopy { deployed: true, ..copy });
        for (case, configuration, copy, expected) in [
            ("no copy, learner", &learns, None, Sharing::Deploy),
            ("no copy, voter", &here, None, Sharing::Forgotten),
            ("no copy, voter of a new database", &new, None, Sharing::Deploy),
            ("no copy, voter of a new system database", &system, None, Sharing::Forgotten),
            ("no copy, not a member", &elsewhere, None, Sharing::NotHere),
            ("same database", &here, copy(7, 1, 6), Sharing::Replicate),
            ("copied by hand, learner", &learns, copy(7, 2, 6), Sharing::HeadStart),
            ("copied by hand, voter", &here, copy(7, 2, 6), Sharing::Forgotten),
            ("deployed, learner", &learns, deployed, Sharing::Replicate),
            ("deployed, voter", &here, deployed, Sharing::Forgotten),
            ("removed and taken in again", &here, copy(7, 1, 3), Sharing::SetAside { deploy: true }),
            ("removed", &elsewhere, copy(7, 1, 6), Sharing::SetAside { deploy: false }),
            ("another database of the name", &here, copy(8, 1, 6), Sharing::Conflict),
            ("another database, not a member", &elsewhere, copy(8, 1, 6), Sharing::Conflict),
            ("dropped on purpose", &here, copy(5, 1, 6), Sharing::SetAside { deploy: true }),
        ] {
            assert_eq!(decide(ME, configuration, copy), expected, "{case}");
        }
    }

    #[test]
    fn a_dropped_database_is_set_aside_and_not_deployed() {
        let mut dropped = configuration(&[1, 2, 3], 0);
        dropped.dropped = true;
        assert_eq!(decide(ME, &dropped, copy(7, 1, 9)), Sharing::SetAside { deploy: false });
        assert_eq!(decide(ME, &dropped, None), Sharing::NotHere);
    }
}
