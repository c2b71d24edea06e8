//! Whether every node counts: a node that serves all databases but does not vote in one yet is no help when the next one
//! goes. Nodes promote each other by themselves; here it is only waited for.

use crate::controller::observed::{Observed, ObservedNode};
use coequal_types::rest::{ReplicationDescription, Role};
use coequal_types::{DatabaseName, NodeName};

/// What a node's vote still waits for, in words; `None` when all of these nodes vote wherever they should.
pub(super) fn awaited(desired: &[NodeName], seen: &Observed) -> Option<String> {
    let nodes = desired.iter().filter_map(|name| seen.node(name));
    let without = nodes.filter_map(|node| Some((&node.name, lacking(node, seen)?))).next();
    if let Some((name, database)) = without {
        return Some(format!("{name} to vote in {database}"));
    }
    let changing = newest(seen).into_iter().find(|(_, database)| database.changing);
    changing.map(|(_, database)| format!("the nodes of {} to settle", database.name))
}

/// A database in which a node should vote and does not.
pub fn lacking<'a>(node: &ObservedNode, seen: &'a Observed) -> Option<&'a DatabaseName> {
    let id = node.id()?;
    newest(seen).into_iter().find_map(|(teller, database)| {
        let role = database.nodes.iter().find(|replica| replica.node == id).map(|replica| replica.role);
        let lacks = match role {
            Some(Role::Voter) => false,
            Some(Role::Learner) => true,
            Some(Role::None) | None => is_auto_deployed(teller, &database.name),
        };
        lacks.then_some(&database.name)
    })
}

/// Each database by the newest configuration that anybody who takes part knows, and who knows it.
fn newest(seen: &Observed) -> Vec<(&ObservedNode, &ReplicationDescription)> {
    let told = seen.nodes.iter().filter(|node| node.takes_part());
    let told = told.flat_map(|node| node.replication.iter().map(move |database| (node, database)));
    let mut newest: Vec<(&ObservedNode, &ReplicationDescription)> = Vec::new();
    for (node, database) in told {
        match newest.iter_mut().find(|(_, known)| known.uuid == database.uuid) {
            Some(known) if known.1.epoch < database.epoch => *known = (node, database),
            Some(_) => {}
            None => newest.push((node, database)),
        }
    }
    newest
}

fn is_auto_deployed(teller: &ObservedNode, name: &DatabaseName) -> bool {
    let databases = teller.databases.iter().flatten();
    databases.clone().any(|database| database.name == *name && database.configuration.auto_deploy)
}
