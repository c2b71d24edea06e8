//! Who votes: one step of change at a time, each a new epoch chosen by the protocol itself.
//!
//! ```text
//!  not a member ─► learner ─► (aligned) ─► joint epoch {old, new} ─► (majority of new aligned) ─► voter
//!  voter ─► joint epoch {old, new without it} ─► (majority of new aligned) ─► not a member
//! ```
//!
//! Any node may drive a change; the next one who looks goes on where a crashed driver stopped, because each
//! step follows from the chosen configuration and from what is observed, and from nothing else.

use crate::faults::{Fault, broken};
use crate::forced_recovery::is_first;
use coequal_types::settings::majority;
use coequal_types::{Configuration, DatabaseStatus, NodeId};
use std::collections::BTreeMap;

/// What is known of one node with respect to one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberView {
    /// In the cluster's list of nodes and not being removed.
    pub stays: bool,
    /// Whether the deciding node reaches it.
    pub reachable: bool,
    /// For how long a majority of the voters has not reached it (each by its own clock): the least of that majority, in ms.
    pub unreachable_by_majority_ms: u64,
    /// Its own word on its status.
    pub status: Option<DatabaseStatus>,
    /// The newest epoch against which it has aligned.
    pub aligned_epoch: u64,
    /// For how long the deciding node has seen it as a learner, in ms of its own clock.
    pub learner_ms: u64,
}

/// How long the first voter of the system database waits for a learner that is not ready, so that two learners
/// become voters together; copying that database takes moments.
pub const COMPANION_PATIENCE_MS: u64 = 5_000;

/// The next step for `configuration`, or `None` when it is as it should be (or nothing can be done now).
pub fn next_change(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    if configuration.dropped {
        return None;
    }
    if configuration.joint_with.is_some() {
        return finish_joint(configuration, nodes);
    }
    if is_first(configuration.epoch) {
        return finish_forced(configuration, nodes);
    }
    remove_one(configuration, nodes)
        .or_else(|| add_learners(configuration, nodes))
        .or_else(|| promote_learners(configuration, nodes))
}

/// The joint epoch ends when a majority of the new voters holds everything chosen so far.
fn finish_joint(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    let holds = |node: &&NodeId| nodes.get(node).is_some_and(|view| view.aligned_epoch >= configuration.epoch);
    let aligned = configuration.voters.iter().filter(holds).count();
    let needed = majority(u32::try_from(configuration.voters.len()).unwrap_or(u32::MAX)) as usize;
    (aligned >= needed || broken(Fault::JointEndsUnaligned)).then(|| {
        let mut next = successor(configuration);
        next.joint_with = None;
        let members = next.members();
        next.joined.retain(|node, _| members.contains(node));
        next
    })
}

/// After a forced recovery a majority is enough again when every survivor holds what each of them held.
fn finish_forced(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    let holds = |node: &NodeId| nodes.get(node).is_some_and(|view| view.aligned_epoch >= configuration.epoch);
    configuration.voters.iter().all(holds).then(|| successor(configuration))
}

/// Whether a change that somebody asked for has to wait for one that is not finished.
pub fn must_wait(known: &Configuration, next: &Configuration) -> bool {
    is_first(known.epoch) || known.joint_with.is_some() && next.voters != known.voters
}

fn remove_one(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    let members = configuration.members();
    members
        .iter()
        .filter(|node| must_go(configuration, **node, nodes))
        .filter_map(|node| without(configuration, *node))
        .find(|next| can_write(next, nodes))
}

/// Whether a majority of the new voters is there: else the joint epoch would stop every write, and could not end.
fn can_write(next: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> bool {
    if next.joint_with.is_none() {
        return true;
    }
    // A leaving node never counts as reachable, but it may well be there until it is let go.
    let is_there = |view: &MemberView| view.reachable || (!view.stays && view.unreachable_by_majority_ms == 0);
    let there = |node: &&NodeId| nodes.get(node).is_some_and(is_there);
    let needed = majority(u32::try_from(next.voters.len()).unwrap_or(u32::MAX)) as usize;
    next.voters.iter().filter(there).count() >= needed
}

fn must_go(configuration: &Configuration, node: NodeId, nodes: &BTreeMap<NodeId, MemberView>) -> bool {
    // Documents travel in any order: a member whose entry is not known here has not left.
    let Some(view) = nodes.get(&node) else {
        return configuration.excluded.contains(&node);
    };
    let grace_ms = u64::from(configuration.settings.unreachable_grace_period_seconds) * 1000;
    let lapsed = !configuration.name.is_system()
        && !configuration.settings.hot_alignment
        && view.unreachable_by_majority_ms > grace_ms;
    // A copy that failed a check is deployed anew: out of the configuration first, then taken in again.
    let quarantined = view.status == Some(DatabaseStatus::Faulty)
        && view.reachable
        && (configuration.settings.auto_deploy || configuration.name.is_system());
    !view.stays || configuration.excluded.contains(&node) || lapsed || quarantined
}

/// The configuration without `node`, by way of a joint epoch if it votes. `None` for the last voter.
pub fn without(configuration: &Configuration, node: NodeId) -> Option<Configuration> {
    let mut next = successor(configuration);
    next.learners.retain(|learner| *learner != node);
    next.joined.remove(&node);
    if configuration.voters.contains(&node) {
        next.voters.retain(|voter| *voter != node);
        if next.voters.is_empty() {
            return None;
        }
        next.joint_with = joint_with(configuration);
    }
    Some(next)
}

/// All learners that are aligned become voters, together. What a voter said is missed if it is lost: so the learner's
/// alignment is on its disk before, and with it the mark that nothing was promised on that disk yet is gone.
fn promote_learners(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    let joined = |node: &NodeId| configuration.joined.get(node).copied().unwrap_or(0).max(1);
    let ready = |node: &NodeId| {
        nodes.get(node).is_some_and(|view| {
            let is_online = view.status == Some(DatabaseStatus::Online) && view.aligned_epoch >= joined(node);
            view.reachable && view.stays && is_online
        })
    };
    let promoted: Vec<NodeId> = configuration.learners.iter().copied().filter(ready).collect();
    if promoted.is_empty() || waits_for_a_third(configuration, &promoted, nodes) {
        return None;
    }
    let mut next = successor(configuration);
    next.learners.retain(|node| !promoted.contains(node));
    next.joint_with = joint_with(configuration);
    next.voters.extend(promoted);
    next.voters.sort_unstable();
    Some(next)
}

/// The voters so far, with whose majority the new ones have to agree until the change is over.
fn joint_with(configuration: &Configuration) -> Option<Vec<NodeId>> {
    (!broken(Fault::JointEpochSkipped)).then(|| configuration.voters.clone())
}

/// Whether the first voter of the system database should wait for another node that is about to be ready: of two
/// voters each has to live for anything to go on, of three any one may die. Another database must not wait for its
/// second copy.
fn waits_for_a_third(configuration: &Configuration, promoted: &[NodeId], nodes: &BTreeMap<NodeId, MemberView>) -> bool {
    let soon_ready = |node: &NodeId| {
        let soon = |view: &MemberView| view.reachable && view.stays && view.learner_ms < COMPANION_PATIENCE_MS;
        !promoted.contains(node) && nodes.get(node).is_some_and(soon)
    };
    configuration.name.is_system()
        && configuration.voters.len() + promoted.len() == 2
        && configuration.learners.iter().any(soon_ready)
}

/// With `autoDeploy`, every reachable node of the cluster that lacks the database is taken in as a learner.
fn add_learners(configuration: &Configuration, nodes: &BTreeMap<NodeId, MemberView>) -> Option<Configuration> {
    if !configuration.settings.auto_deploy && !configuration.name.is_system() {
        return None;
    }
    let members = configuration.members();
    let lacks = |(node, view): &(&NodeId, &MemberView)| {
        view.stays && view.reachable && !members.contains(node) && !configuration.excluded.contains(node)
    };
    let added: Vec<NodeId> = nodes.iter().filter(lacks).map(|(node, _)| *node).collect();
    if added.is_empty() {
        return None;
    }
    let mut next = successor(configuration);
    for node in added {
        next.learners.push(node);
        next.joined.insert(node, next.epoch);
    }
    next.learners.sort_unstable();
    Some(next)
}

/// The configuration with `node` as a learner (deploy by hand); `None` if it is a member already.
pub fn with_learner(configuration: &Configuration, node: NodeId) -> Option<Configuration> {
    if configuration.is_member(node) {
        return None;
    }
    let mut next = successor(configuration);
    next.excluded.retain(|excluded| *excluded != node);
    next.learners.push(node);
    next.learners.sort_unstable();
    next.joined.insert(node, next.epoch);
    Some(next)
}

/// The same configuration one epoch on.
pub fn successor(configuration: &Configuration) -> Configuration {
    Configuration { epoch: configuration.epoch + 1, ..configuration.clone() }
}

/// I6: a step from one epoch to the next keeps a set of voters in common, or goes by way of a joint epoch.
pub fn invariant_step_is_safe(old: &Configuration, new: &Configuration) -> bool {
    new.epoch == old.epoch + 1
        && old.uuid == new.uuid
        && !new.voters.is_empty()
        && match (&old.joint_with, &new.joint_with) {
            (None, None) => old.voters == new.voters,
            (None, Some(joint)) => *joint == old.voters,
            (Some(_), None) => old.voters == new.voters,
            (Some(before), Some(joint)) => before == joint && old.voters == new.voters,
        }
}

/// I6: a joint epoch ends only when a majority of the new voters is aligned with it.
pub fn invariant_joint_ends_aligned(
    old: &Configuration,
    new: &Configuration,
    aligned: impl Fn(&NodeId) -> u64,
) -> bool {
    let ends = old.joint_with.is_some() && new.joint_with.is_none();
    let held = new.voters.iter().filter(|voter| aligned(voter) >= old.epoch).count();
    !ends || held >= majority(u32::try_from(new.voters.len()).unwrap_or(u32::MAX)) as usize
}
