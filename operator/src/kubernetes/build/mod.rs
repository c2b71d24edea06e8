//! From a wish to the objects that carry it. Pure: the same wish gives the same objects.

mod guards;
mod services;
mod stateful_set;
#[cfg(test)]
mod tests;

use super::names::{self, WANTED};
use crate::controller::validate::ValidatedDatabaseCluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

/// Kinds of children, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// Account of the pods; it may do nothing.
    ServiceAccount,
    /// Names of the pods, ready or not.
    HeadlessService,
    /// Where clients find ready nodes.
    ClientService,
    /// Keeps evictions to one node at a time.
    PodDisruptionBudget,
    /// Who may reach the nodes.
    NetworkPolicy,
    /// The pods and their volumes.
    StatefulSet,
}

/// A child as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// What it is.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// The object; only fields that the operator owns.
    pub object: Value,
}

/// What the objects depend on.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// What is wished.
    pub wish: &'a ValidatedDatabaseCluster,
    /// Namespace of the resource.
    pub namespace: &'a str,
    /// The resource as owner.
    pub owner: OwnerReference,
    /// Pods that the StatefulSet should have now; on the way out of a cluster more than wished.
    pub pods: u32,
    /// Image of the nodes.
    pub image: &'a str,
    /// What the manifest says of the pods, as a fingerprint.
    pub revision: &'a str,
}

/// All children, in the order in which they are applied.
pub fn build(plan: &Plan<'_>) -> Vec<Child> {
    let mut children = vec![
        guards::service_account(plan),
        services::headless(plan),
        services::client(plan),
        guards::network_policy(plan),
    ];
    // With a single node it would forbid every eviction for ever.
    if plan.wish.replicas > 1 {
        children.push(guards::disruption_budget(plan));
    }
    children.push(stateful_set::stateful_set(plan));
    children.into_iter().map(sealed).collect()
}

impl ChildKind {
    /// `apiVersion` and `kind`.
    pub fn type_meta(self) -> (&'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("v1", "ServiceAccount"),
            Self::HeadlessService | Self::ClientService => ("v1", "Service"),
            Self::PodDisruptionBudget => ("policy/v1", "PodDisruptionBudget"),
            Self::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy"),
            Self::StatefulSet => ("apps/v1", "StatefulSet"),
        }
    }
}

fn child(plan: &Plan<'_>, kind: ChildKind, name: String, rest: Value) -> Child {
    let (api_version, kind_name) = kind.type_meta();
    let mut object = json!({
        "apiVersion": api_version,
        "kind": kind_name,
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": names::labels(&plan.wish.name),
            "ownerReferences": [plan.owner],
        },
    });
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    Child { kind, name, object }
}

/// Notes in the object what it was made from: a comparison of fields alone would not see one that is gone.
fn sealed(mut child: Child) -> Child {
    let seal = format!("{:016x}", names::fnv64(child.object.to_string().as_bytes()));
    child.object["metadata"]["annotations"][WANTED] = json!(seal);
    child
}
