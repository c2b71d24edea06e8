//! Databases: made when they are declared, changed when their settings differ, never dropped.

use super::Step;
use crate::controller::observed::{Observed, ObservedNode};
use crate::controller::validate::{Copy, ValidatedDatabaseCluster};
use coequal_types::rest::{DatabaseOnNode, SettingsPatch};
use coequal_types::{DatabaseName, DatabaseSettings, DatabaseStatus, NodeName, NodeStatus, WriteQuorum};
use std::collections::BTreeSet;

/// The next change of a database, and what a later one waits for.
pub(super) fn step(wish: &ValidatedDatabaseCluster, via: &ObservedNode) -> (Option<Step>, Option<String>) {
    let Some(existing) = &via.databases else {
        return (None, Some(format!("{} to tell its databases", via.name)));
    };
    let members = via.view.iter().flat_map(|view| &view.nodes).filter(|node| !node.leaving).count();
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    let mut waits = None;
    for database in &wish.databases {
        let settings = &database.settings;
        let found = existing.iter().find(|known| known.name == database.name);
        let patch = found.map(|known| difference(&known.configuration, settings));
        if patch.as_ref().is_some_and(|patch| *patch == SettingsPatch::default()) {
            continue;
        }
        if !is_possible(settings.write_quorum, members) {
            let quorum = settings.write_quorum;
            waits.get_or_insert_with(|| {
                format!("{members} nodes to become {}, for writeQuorum {quorum} of {}", wish.replicas, database.name)
            });
            continue;
        }
        let (via, name) = (via.name.clone(), database.name.clone());
        let step = match patch {
            Some(patch) => Step::ChangeSettings { via, name, patch },
            None => Step::CreateDatabase { via, name, settings: settings.clone() },
        };
        return (Some(step), waits);
    }
    (None, waits)
}

/// A copy that was asked for and is not there: its node is in the cluster, and tells nothing of the database.
pub(super) fn copy(wish: &ValidatedDatabaseCluster, desired: &[NodeName], via: &ObservedNode) -> Option<Step> {
    let exists = |name: &DatabaseName| via.databases.iter().flatten().any(|known| known.name == *name);
    let lacks = |copy: &&Copy| {
        let nodes = via.view.iter().flat_map(|view| &view.nodes).filter(|node| node.name == copy.node);
        nodes.filter(|node| node.reachable && !node.leaving && node.status == NodeStatus::Online).any(|node| {
            let has =
                |known: &DatabaseOnNode| known.name == copy.database && known.status != DatabaseStatus::NotAvailable;
            !node.databases.iter().any(has)
        })
    };
    let wished = wish.copies.iter().filter(|copy| desired.contains(&copy.node) && exists(&copy.database));
    let copy = wished.clone().find(lacks)?;
    Some(Step::Deploy { via: via.name.clone(), name: copy.database.clone(), node: copy.node.clone() })
}

/// A number is checked by the nodes against the members of now, which may still be on their way to `replicas`.
fn is_possible(quorum: WriteQuorum, members: u32) -> bool {
    quorum.check(members.max(1)).is_ok()
}

fn difference(is: &DatabaseSettings, wish: &DatabaseSettings) -> SettingsPatch {
    // Without `..`, so that a new setting cannot be forgotten here.
    let DatabaseSettings { auto_deploy, hot_alignment, write_quorum, read_quorum, unreachable_grace_period_seconds } =
        wish;
    SettingsPatch {
        auto_deploy: (is.auto_deploy != *auto_deploy).then_some(*auto_deploy),
        hot_alignment: (is.hot_alignment != *hot_alignment).then_some(*hot_alignment),
        write_quorum: (is.write_quorum != *write_quorum).then_some(*write_quorum),
        read_quorum: (is.read_quorum != *read_quorum).then_some(*read_quorum),
        unreachable_grace_period_seconds: (is.unreachable_grace_period_seconds != *unreachable_grace_period_seconds)
            .then_some(*unreachable_grace_period_seconds),
    }
}

/// Databases that exist and are not declared. They stay: dropping is never done by leaving a line out.
pub fn undeclared(wish: &ValidatedDatabaseCluster, seen: &Observed) -> BTreeSet<DatabaseName> {
    let known = seen.nodes.iter().flat_map(|node| node.databases.iter().flatten()).map(|database| &database.name);
    let declared = |name: &DatabaseName| wish.databases.iter().any(|database| database.name == *name);
    known.filter(|name| !name.is_system() && !declared(name)).cloned().collect()
}
