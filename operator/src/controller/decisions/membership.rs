//! Who belongs to the cluster: removals one at a time, highest ordinal first, and their calling off.

use super::{Step, is_healthy, votes};
use crate::controller::observed::{Carrier, Observed, ObservedNode};
use crate::controller::validate::ValidatedDatabaseCluster;
use coequal_types::NodeName;
use coequal_types::rest::NodeView;

/// Entries for `name` in the views of the nodes that stay.
fn entries<'a>(
    name: &'a NodeName,
    desired: &'a [NodeName],
    seen: &'a Observed,
) -> impl Iterator<Item = &'a NodeView> + 'a {
    tellers(desired, seen)
        .filter(move |teller| teller.name != *name)
        .filter_map(|teller| teller.view.as_ref())
        .flat_map(|view| &view.nodes)
        .filter(move |entry| entry.name == *name)
}

fn tellers<'a>(desired: &'a [NodeName], seen: &'a Observed) -> impl Iterator<Item = &'a ObservedNode> + 'a {
    seen.nodes.iter().filter(|node| desired.contains(&node.name) && node.takes_part() && node.view.is_some())
}

/// Whether any node that stays still lists `name`; `None` while too few of them answer to be sure.
pub(super) fn is_listed(name: &NodeName, desired: &[NodeName], seen: &Observed) -> Option<bool> {
    if entries(name, desired, seen).next().is_some() {
        return Some(true);
    }
    (tellers(desired, seen).count() * 2 > desired.len()).then_some(false)
}

/// A node that is wished, but was told to leave or is already out: the wish came back.
pub(super) fn admit(desired: &[NodeName], seen: &Observed, via: &ObservedNode) -> Option<Step> {
    desired.iter().filter(|name| **name != via.name).find_map(|name| {
        let node = seen.node(name)?;
        let report = node.report.as_ref()?;
        let leaving = entries(name, desired, seen).any(|entry| entry.leaving && entry.id == report.id);
        // A node that has just joined lists itself before all others have heard of it; one that is out knows no more
        // than that it was leaving.
        let is_itself = |entry: &NodeView| entry.id == report.id && !entry.leaving;
        let lists_itself = node.view.as_ref().is_none_or(|view| view.nodes.iter().any(is_itself));
        let is_out = report.cluster_id.is_some() && !lists_itself && is_listed(name, desired, seen) == Some(false);
        if is_out {
            // Its identity is never taken in again: it comes back as a new node.
            return Some(Step::Stop { name: name.clone(), set_aside: true });
        }
        leaving.then(|| Step::Admit {
            via: via.name.clone(),
            name: name.clone(),
            peer_address: report.peer_address.clone(),
        })
    })
}

/// None of the nodes that would stay takes part: those that would go are all there is.
pub(super) fn hold_all(wish: &ValidatedDatabaseCluster, desired: &[NodeName], seen: &Observed) -> Option<Step> {
    let (_, name) = highest_surplus(wish, seen)?;
    let is_there = seen.nodes.iter().any(|node| !desired.contains(&node.name) && node.takes_part());
    Some(Step::HoldRemoval { name, ill: desired.first()?.clone() }).filter(|_| is_there)
}

/// A node that came back with an empty disk is a new one (I7): its former identity goes.
pub(super) fn remove_lost_identity(desired: &[NodeName], seen: &Observed, via: &ObservedNode) -> Option<Step> {
    desired.iter().find_map(|name| {
        let current = seen.node(name)?.id()?;
        let lost =
            entries(name, desired, seen).find(|entry| entry.id != current && !entry.reachable && !entry.leaving)?;
        Some(Step::Remove { via: via.name.clone(), name: name.clone(), id: lost.id })
    })
}

/// Takes the highest node that is not wished one step further on its way out.
pub(super) fn remove_surplus(
    wish: &ValidatedDatabaseCluster,
    desired: &[NodeName],
    seen: &Observed,
    via: &ObservedNode,
) -> Option<Step> {
    let (ordinal, name) = highest_surplus(wish, seen)?;
    let entry = entries(&name, desired, seen).next();
    let carrier = seen.node(&name).map_or(Carrier::Absent, |node| node.carrier);
    let wait = |what: String| Some(Step::WaitFor(what));
    match entry {
        Some(entry) if entry.leaving => wait(format!("{name} to hand over and leave")),
        Some(entry) => match desired.iter().find(|name| !seen.node(name).is_some_and(is_healthy)) {
            Some(ill) => Some(Step::HoldRemoval { name, ill: ill.clone() }),
            None => match votes::awaited(desired, seen) {
                Some(what) => wait(format!("{what} before {name} is removed")),
                None => Some(Step::Remove { via: via.name.clone(), name: name.clone(), id: entry.id }),
            },
        },
        None if carrier == Carrier::Stopping => wait(format!("{name} to stop")),
        None if is_listed(&name, desired, seen).is_none() => {
            wait(format!("a majority of the first {ordinal} nodes to tell whether {name} is out"))
        }
        None => Some(Step::Stop { name, set_aside: true }),
    }
}

/// The highest node beyond the wished number that has a carrier or data, or that others still list.
fn highest_surplus(wish: &ValidatedDatabaseCluster, seen: &Observed) -> Option<(u32, NodeName)> {
    let carried =
        seen.nodes.iter().filter(|node| node.carrier != Carrier::Absent || node.has_data).map(|node| &node.name);
    let listed = seen.nodes.iter().filter_map(|node| node.view.as_ref()).flat_map(|view| &view.nodes);
    carried
        .chain(listed.map(|entry| &entry.name))
        .filter_map(|name| wish.ordinal(name).map(|ordinal| (ordinal, name.clone())))
        .filter(|(ordinal, _)| *ordinal >= wish.replicas)
        .max()
}
