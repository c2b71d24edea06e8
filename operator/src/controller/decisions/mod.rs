//! What to do next: one step of change at a time, from what is wished and what is seen. No I/O.
//!
//! Every step may be repeated: a crash between any two of them heals with the next look.
//! Nodes take each other in, copy databases and promote each other by themselves; here it is only waited for.

mod databases;
mod membership;
#[cfg(test)]
mod tests;
mod votes;

pub use databases::undeclared;
pub use votes::lacking as lacking_vote;

use super::observed::{Beginning, Carrier, Observed, ObservedNode};
use super::validate::ValidatedDatabaseCluster;
use coequal_types::rest::SettingsPatch;
use coequal_types::{DatabaseName, DatabaseSettings, NodeId, NodeName};

/// The next single step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Start a node that does not run.
    Start(NodeName),
    /// Let this node, and only this one, make the cluster.
    Initialize(NodeName),
    /// Make a database, asking `via`.
    CreateDatabase {
        /// The node to ask.
        via: NodeName,
        /// Name of the database.
        name: DatabaseName,
        /// Its settings.
        settings: DatabaseSettings,
    },
    /// Change settings of a database, asking `via`.
    ChangeSettings {
        /// The node to ask.
        via: NodeName,
        /// Name of the database.
        name: DatabaseName,
        /// What differs.
        patch: SettingsPatch,
    },
    /// Take a node in again whose removal was called off.
    Admit {
        /// The node to ask.
        via: NodeName,
        /// The node to take in.
        name: NodeName,
        /// Where the other nodes reach it.
        peer_address: String,
    },
    /// Take a node out of every database and then out of the cluster.
    Remove {
        /// The node to ask.
        via: NodeName,
        /// Its name.
        name: NodeName,
        /// Its identity.
        id: NodeId,
    },
    /// Stop a node.
    Stop {
        /// Its name.
        name: NodeName,
        /// True when it is out of every configuration: its data is set aside, and if it is wished after all it begins
        /// anew. False to hibernate.
        set_aside: bool,
    },
    /// A node that is no longer wished stays for now: with one that stays being ill, taking it out is not safe.
    HoldRemoval {
        /// The node that is no longer wished.
        name: NodeName,
        /// The one that has to be ONLINE first.
        ill: NodeName,
    },
    /// Nothing can be done before this has happened.
    WaitFor(String),
    /// All is as wished.
    Nothing,
}

/// The next step from here to what is wished.
pub fn next_step(wish: &ValidatedDatabaseCluster, seen: &Observed) -> Step {
    if wish.replicas == 0 {
        return hibernate(seen);
    }
    let desired: Vec<NodeName> = (0..wish.replicas).filter_map(|ordinal| wish.node_name(ordinal)).collect();
    if let Some(step) = start(&desired, seen).or_else(|| begin(&desired, seen)) {
        return step;
    }
    let Some(via) = spokesman(&desired, seen) else {
        if let Some(step) = membership::hold_all(wish, &desired, seen) {
            return step;
        }
        return Step::WaitFor("a node that takes part in the cluster".to_owned());
    };
    let (step, waits) = databases::step(wish, via);
    step.or_else(|| membership::admit(&desired, seen, via))
        .or_else(|| membership::remove_lost_identity(&desired, seen, via))
        .or_else(|| membership::remove_surplus(wish, &desired, seen, via))
        .or_else(|| waits.map(Step::WaitFor))
        .or_else(|| wait_for_unhealthy(&desired, seen))
        .or_else(|| votes::awaited(&desired, seen).map(Step::WaitFor))
        .unwrap_or(Step::Nothing)
}

/// Whether a node runs, takes part and serves every database that it should.
fn is_healthy(node: &ObservedNode) -> bool {
    node.carrier == Carrier::Running && node.takes_part() && node.ready == Some(true)
}

fn hibernate(seen: &Observed) -> Step {
    let running = seen.nodes.iter().find(|node| matches!(node.carrier, Carrier::Running | Carrier::BackingOff));
    if let Some(node) = running {
        return Step::Stop { name: node.name.clone(), set_aside: false };
    }
    match seen.nodes.iter().find(|node| node.carrier == Carrier::Stopping) {
        Some(node) => Step::WaitFor(format!("{} to stop", node.name)),
        None => Step::Nothing,
    }
}

/// Nodes that were asked for, and those that have to hand over what they hold before they go.
fn start(desired: &[NodeName], seen: &Observed) -> Option<Step> {
    let is_absent = |name: &NodeName| seen.node(name).is_none_or(|node| node.carrier == Carrier::Absent);
    if let Some(name) = desired.iter().find(|name| is_absent(name)) {
        return Some(Step::Start(name.clone()));
    }
    let surplus = seen.nodes.iter().filter(|node| !desired.contains(&node.name));
    surplus
        .filter(|node| node.carrier == Carrier::Absent && node.has_data)
        // A node that is out must not come back; without a word of the others it may still be in.
        .find(|node| membership::is_listed(&node.name, desired, seen) != Some(false))
        .map(|node| Step::Start(node.name.clone()))
}

/// The very start: one node makes the cluster, and never a second one.
fn begin(desired: &[NodeName], seen: &Observed) -> Option<Step> {
    let known = seen.nodes.iter().any(|node| node.report.as_ref().is_some_and(|report| report.cluster_id.is_some()));
    let chosen = match &seen.beginning {
        Beginning::Initialized(_) => return None,
        _ if known => return None,
        Beginning::Chosen(name) => name,
        Beginning::NotBegun => desired.first()?,
    };
    // A cluster of before is found again by any of its nodes; a second one beside it would be for ever.
    let may_know = |node: &&ObservedNode| node.may_hold_cluster && node.report.is_none();
    if let Some(node) = seen.nodes.iter().find(may_know) {
        return Some(Step::WaitFor(format!("{} to answer; its volume may hold a cluster already", node.name)));
    }
    let answers = seen.node(chosen).is_some_and(|node| node.report.is_some());
    Some(match answers {
        true => Step::Initialize(chosen.clone()),
        false => Step::WaitFor(format!("{chosen} to answer; it initialises the cluster")),
    })
}

/// The node that is asked: the first healthy one, or else the first that takes part.
fn spokesman<'a>(desired: &[NodeName], seen: &'a Observed) -> Option<&'a ObservedNode> {
    let nodes = || desired.iter().filter_map(|name| seen.node(name));
    nodes()
        .find(|node| is_healthy(node))
        .or_else(|| nodes().find(|node| node.carrier == Carrier::Running && node.takes_part()))
}

fn wait_for_unhealthy(desired: &[NodeName], seen: &Observed) -> Option<Step> {
    let name = desired.iter().find(|name| !seen.node(name).is_some_and(is_healthy))?;
    Some(Step::WaitFor(format!("{name} to be ONLINE")))
}
