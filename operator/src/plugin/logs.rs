//! Which commands show what happened. Pure.

use super::error::PluginError;
use crate::controller::validate::nearest;
use crate::crd::ReplicatedDatabase;
use crate::kubernetes::selector_text;
use kube::ResourceExt as _;

/// The commands, for one node or for all.
pub fn pointers(resource: &ReplicatedDatabase, node: Option<&str>) -> Result<String, PluginError> {
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    let mut lines = Vec::new();
    if let Some(node) = node {
        node_of(resource, node)?;
        lines.push("# Its log, and that of before its last restart".to_owned());
        lines.push(format!("kubectl logs -n {namespace} {node} --follow"));
        lines.push(format!("kubectl logs -n {namespace} {node} --previous"));
        lines.push("# What happened to its pod and its volume".to_owned());
        lines.push(format!("kubectl describe -n {namespace} pod/{node} pvc/data-{node}"));
    } else {
        let label = selector_text(&name);
        lines.push("# All nodes".to_owned());
        lines.push(format!("kubectl logs -n {namespace} -l {label} --prefix --tail=100 --follow"));
    }
    lines.push("# What the operator did, and what it asks a person to do".to_owned());
    lines.push(format!("kubectl events -n {namespace} --for replicateddatabase/{name}"));
    lines.push("# What the operator logged about it; its namespace is the one that it was installed into".to_owned());
    let operator = "app.kubernetes.io/name=coequal-operator,app.kubernetes.io/component=operator";
    lines.push(format!("kubectl logs -n coequal-system -l {operator} --prefix --tail=-1 | grep '\"name\":\"{name}\"'"));
    Ok(lines.join("\n") + "\n")
}

/// The ordinal of a node of this resource, or which names there are.
pub fn node_of(resource: &ReplicatedDatabase, node: &str) -> Result<u32, PluginError> {
    let name = resource.name_any();
    let mut names: Vec<String> =
        (0..resource.spec.replicas.max(0)).map(|ordinal| format!("{name}-{ordinal}")).collect();
    let known = resource.status.iter().flat_map(|status| &status.nodes).map(|node| node.name.clone());
    let more: Vec<String> = known.filter(|known| !names.contains(known)).collect();
    names.extend(more);
    if names.iter().any(|known| known == node)
        && let Some(ordinal) = crate::controller::validate::ordinal_of(&name, node)
    {
        return Ok(ordinal);
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = match nearest(node, &known) {
        Some(near) => format!("did you mean {near}? There are {}", known.join(", ")),
        None if known.is_empty() => "it has no nodes now".to_owned(),
        None => format!("there are {}", known.join(", ")),
    };
    Err(PluginError::Refused(format!("{name} has no node {node:?}; {hint}")))
}
