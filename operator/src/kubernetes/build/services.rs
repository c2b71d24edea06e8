//! The two Services.

use super::{Child, ChildKind, Plan, child};
use crate::kubernetes::names::{self, API_PORT, PEER_PORT};
use serde_json::json;

/// A name for each pod, from its first moment: nodes find each other before they are ready.
pub(super) fn headless(plan: &Plan<'_>) -> Child {
    let spec = json!({
        "type": "ClusterIP",
        // Both address families where the cluster has both.
        "ipFamilyPolicy": "PreferDualStack",
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": names::selector(&plan.wish.name),
        "ports": [
            { "name": "api", "port": API_PORT, "protocol": "TCP", "targetPort": "api" },
            { "name": "peers", "port": PEER_PORT, "protocol": "TCP", "targetPort": "peers" },
        ],
    });
    child(plan, ChildKind::HeadlessService, names::nodes_name(&plan.wish.name), json!({ "spec": spec }))
}

/// One address for clients, behind it the ready nodes.
pub(super) fn client(plan: &Plan<'_>) -> Child {
    let spec = json!({
        "type": "ClusterIP",
        // Both address families where the cluster has both.
        "ipFamilyPolicy": "PreferDualStack",
        "selector": names::selector(&plan.wish.name),
        "ports": [{ "name": "api", "port": API_PORT, "protocol": "TCP", "targetPort": "api" }],
    });
    child(plan, ChildKind::ClientService, plan.wish.name.clone(), json!({ "spec": spec }))
}
