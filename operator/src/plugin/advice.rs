//! What a person should know and do, from the conditions. Pure.

use super::report::{condition, is_ready_reason};
use crate::crd::{ConditionReason as R, ReplicatedDatabase};
use kube::ResourceExt as _;
use serde::Serialize;

/// Something that is not as it should be, or is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Whether a person has to act.
    pub needs_a_person: bool,
    /// What it is, in one word.
    pub reason: String,
    /// What it is.
    pub what: String,
    /// What to do: sentences and commands.
    pub what_to_do: Vec<String>,
}

/// Everything that is worth knowing; empty when all is well.
pub fn advice(resource: &ReplicatedDatabase) -> Vec<Advice> {
    let mut found: Vec<Advice> =
        [unseen(resource), stalled(resource), unavailable(resource)].into_iter().flatten().collect();
    found.extend(copies(resource));
    if found.is_empty() {
        found.extend(under_way(resource));
    }
    found
}

fn of(reason: &str, what: impl Into<String>, what_to_do: Vec<String>) -> Advice {
    Advice { needs_a_person: true, reason: reason.to_owned(), what: what.into(), what_to_do }
}

/// Nobody looks after it, or not after what it says now.
fn unseen(resource: &ReplicatedDatabase) -> Option<Advice> {
    if resource.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seen = resource.status.as_ref().and_then(|status| status.observed_generation);
    let is_new = condition(resource, "Ready").is_none();
    if !is_new && seen == resource.metadata.generation {
        return None;
    }
    let what = match is_new {
        true => "No operator has looked at it yet; that takes a second where one runs.".to_owned(),
        false => format!(
            "The last change (generation {}) was not looked at yet; what is shown answers to generation {}.",
            resource.metadata.generation.unwrap_or_default(),
            seen.unwrap_or_default()
        ),
    };
    let what_to_do = vec![
        "If it stays so: does an operator run, and does it look after this namespace?".to_owned(),
        "kubectl get pods -A -l app.kubernetes.io/name=coequal-operator".to_owned(),
    ];
    Some(Advice { needs_a_person: false, ..of("NotSeen", what, what_to_do) })
}

/// What the operator itself says that a person must put right.
fn stalled(resource: &ReplicatedDatabase) -> Option<Advice> {
    let stalled = condition(resource, "Stalled").filter(|stalled| stalled.status == "True")?;
    let ready = condition(resource, "Ready");
    let words = if stalled.message.is_empty() { ready.map(|ready| ready.message.clone()) } else { None };
    let what = words.unwrap_or_else(|| stalled.message.clone());
    Some(of(&stalled.reason, what, for_reason(&stalled.reason, resource)))
}

/// No majority, and none on its way: what clients notice.
fn unavailable(resource: &ReplicatedDatabase) -> Option<Advice> {
    let available = condition(resource, "Available")?;
    if available.status != "False" || available.reason != R::NoQuorum.as_str() {
        return None;
    }
    // While nodes start, the operator calls it so.
    let is_stalled = condition(resource, "Stalled").is_some_and(|stalled| stalled.status == "True");
    if !is_stalled && !is_ready_reason(resource, R::NoQuorum) {
        return None;
    }
    let what = format!("No majority serves ({}): writes and linearizable reads are refused.", available.message);
    Some(of(R::NoQuorum.as_str(), what, for_reason(R::NoQuorum.as_str(), resource)))
}

/// Copies that no waiting repairs.
fn copies(resource: &ReplicatedDatabase) -> Vec<Advice> {
    let nodes = resource.status.iter().flat_map(|status| &status.nodes);
    let ill = nodes.flat_map(|node| node.databases.iter().map(move |copy| (node, copy)));
    let ill = ill.filter(|(_, copy)| matches!(copy.status.as_str(), "CONFLICT" | "FAULTY"));
    ill.map(|(node, copy)| {
        let what = node.message.clone().unwrap_or_else(|| format!("database {} is {}", copy.name, copy.status));
        let first = match copy.status.as_str() {
            "CONFLICT" => "Two databases of one name and different identity met; nothing was touched. One of them has to be dropped or exported first.",
            _ => "Its store failed a check and is not served. The other nodes are not affected; with an empty volume it gets a new copy.",
        };
        of(&copy.status, format!("{}: {what}", node.name), vec![first.to_owned(), logs(resource, &node.name)])
    })
    .collect()
}

/// A change that needs nobody.
fn under_way(resource: &ReplicatedDatabase) -> Option<Advice> {
    if resource.metadata.deletion_timestamp.is_some() {
        let what =
            "It is being deleted: its nodes stop, its volumes stay or go as persistentVolumeClaimRetentionPolicy says.";
        return Some(Advice { needs_a_person: false, ..of("Deleting", what, vec![]) });
    }
    let ready = condition(resource, "Ready").filter(|ready| ready.status != "True")?;
    let mut what_to_do = for_reason(&ready.reason, resource);
    if what_to_do.is_empty() {
        what_to_do.push("Nothing but wait; to follow it:".to_owned());
        what_to_do.push(format!("kubectl coequal status {} -n {} --watch", resource.name_any(), namespace(resource)));
    }
    Some(Advice { needs_a_person: false, ..of(&ready.reason, ready.message.clone(), what_to_do) })
}

fn namespace(resource: &ReplicatedDatabase) -> String {
    resource.namespace().unwrap_or_default()
}

fn logs(resource: &ReplicatedDatabase, node: &str) -> String {
    format!("kubectl logs {node} -n {}", namespace(resource))
}

/// Nodes that are not ONLINE, by name.
fn absent(resource: &ReplicatedDatabase) -> Vec<&str> {
    let nodes = resource.status.iter().flat_map(|status| &status.nodes);
    nodes.filter(|node| node.status == "OFFLINE").map(|node| node.name.as_str()).collect()
}

/// What to do about a reason; nothing where waiting is all.
fn for_reason(reason: &str, resource: &ReplicatedDatabase) -> Vec<String> {
    let (name, namespace) = (resource.name_any(), namespace(resource));
    let pods = format!(
        "kubectl get pods -n {namespace} -o wide -l app.kubernetes.io/instance={name},app.kubernetes.io/component=node"
    );
    let is = |known: R| reason == known.as_str();
    let mut say: Vec<String> = Vec::new();
    if is(R::InvalidSpec) {
        say.push("Correct the manifest; until then nothing is changed and the nodes serve on.".to_owned());
        say.push(format!("kubectl edit rdb {name} -n {namespace}"));
    } else if is(R::ForeignObject) {
        say.push(
            "An object of that name belongs to somebody else. Rename or delete it, or give this resource another name."
                .to_owned(),
        );
    } else if is(R::ImageNotAvailable) {
        say.push(
            "Correct spec.image, or the registry's credentials; nodes that run are not touched meanwhile.".to_owned(),
        );
        say.push(format!("kubectl edit rdb {name} -n {namespace}"));
    } else if is(R::Unschedulable) {
        say.push("No machine has room: free one, add one, or ask for less in spec.resources.".to_owned());
        say.extend(absent(resource).first().map(|node| format!("kubectl describe pod {node} -n {namespace}")));
    } else if is(R::VolumeCannotGrow) {
        say.push("The storage class does not allow it: allow it there (allowVolumeExpansion), or set spec.storage.size back.".to_owned());
    } else if is(R::MachineLost) {
        say.push("Is that machine off for good? Only then say so, and the node starts on another one:".to_owned());
        say.push("kubectl taint node MACHINE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute".to_owned());
        say.push("While it may still run, do not: its volume could be open twice.".to_owned());
    } else if is(R::RequestRefused) {
        say.push(
            "The API server refuses what the operator sends: its message names a missing right, a quota or a policy."
                .to_owned(),
        );
    } else if (is(R::NoQuorum) || is(R::NodesOffline)) && !absent(resource).is_empty() {
        say.push("Why are they not there?".to_owned());
        say.push(pods);
        say.extend(absent(resource).first().map(|node| format!("kubectl describe pod {node} -n {namespace}")));
        say.extend(absent(resource).first().map(|node| format!("kubectl logs {node} -n {namespace} --previous")));
        if is(R::NoQuorum) {
            say.push(
                "Nothing is lost: it serves again as soon as a majority is back. Do not delete volumes.".to_owned(),
            );
        }
    }
    say
}
