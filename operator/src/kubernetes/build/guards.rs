//! What protects the nodes: an account without rights, a bound on evictions, and who may reach them.

use super::{Child, ChildKind, Plan, child};
use crate::kubernetes::names::{self, API_PORT, PEER_PORT};
use crate::kubernetes::security;
use serde_json::json;

/// Nodes never call Kubernetes: the account has no token in the pods.
pub(super) fn service_account(plan: &Plan<'_>) -> Child {
    let name = names::nodes_name(&plan.wish.name);
    child(plan, ChildKind::ServiceAccount, name, json!({ "automountServiceAccountToken": false }))
}

/// Whom clients of the HTTP API trust: the authorities without their keys.
pub(super) fn trusted_authorities(plan: &Plan<'_>, trusted: &str) -> Child {
    let name = security::ca_name(&plan.wish.name);
    child(plan, ChildKind::TrustedAuthorities, name, json!({ "data": { "ca.crt": trusted } }))
}

/// One node may be evicted at a time; one that does not run anyway may always be.
pub(super) fn disruption_budget(plan: &Plan<'_>) -> Child {
    let spec = json!({
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": { "matchLabels": names::selector(&plan.wish.name) },
    });
    child(plan, ChildKind::PodDisruptionBudget, names::nodes_name(&plan.wish.name), json!({ "spec": spec }))
}

/// The port between nodes is for the nodes of this resource alone; the API is open, to clients and the operator.
pub(super) fn network_policy(plan: &Plan<'_>) -> Child {
    let own_pods = json!({ "podSelector": { "matchLabels": names::selector(&plan.wish.name) } });
    let spec = json!({
        "podSelector": { "matchLabels": names::selector(&plan.wish.name) },
        "policyTypes": ["Ingress"],
        "ingress": [
            { "ports": [{ "port": API_PORT, "protocol": "TCP" }] },
            { "from": [own_pods], "ports": [{ "port": PEER_PORT, "protocol": "TCP" }] },
        ],
    });
    child(plan, ChildKind::NetworkPolicy, names::nodes_name(&plan.wish.name), json!({ "spec": spec }))
}
