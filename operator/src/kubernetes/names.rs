//! Names, labels and ports that all children of a resource share.

use crate::controller::validate::ValidatedDatabaseCluster;
use serde_json::{Value, json};

/// The one name under which this operator writes fields.
pub const FIELD_MANAGER: &str = "coequal-operator";
/// Label of everything that this operator makes; watches are limited to it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the name of the resource.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label of what it is.
pub const NAME: &str = "app.kubernetes.io/name";
/// Value of [`NAME`].
pub const APP: &str = "coequal";
/// Label of the part.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT`].
pub const NODE: &str = "node";
/// Annotation of a pod: what of the manifest it was made from. Nodes are restarted when it differs.
pub const REVISION: &str = "coequal.dev/revision";
/// Annotation of a child: what it was made from, so that a field that is no longer wanted is noticed.
pub const WANTED: &str = "coequal.dev/wanted";
/// Annotation of the StatefulSet: the image that the operator gave the nodes.
pub const IMAGE: &str = "coequal.dev/image";
/// Annotation of the resource: any new text restarts the nodes one at a time.
pub const RESTART: &str = "coequal.dev/restart";
/// Annotation of a claim: its node was taken out of the cluster, and its data is that of a stranger.
pub const REMOVED: &str = "coequal.dev/removed-node";

/// Port of the HTTP API.
pub const API_PORT: u16 = 7600;
/// Port for the other nodes.
pub const PEER_PORT: u16 = 7700;

/// Name of the headless Service, and of what has no name of its own.
pub fn nodes_name(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

/// Name of a node's claim.
pub fn claim_name(cluster: &str, ordinal: u32) -> String {
    format!("data-{cluster}-{ordinal}")
}

/// Labels that select the pods; they never change.
pub fn selector(cluster: &str) -> Value {
    json!({ NAME: APP, INSTANCE: cluster, COMPONENT: NODE })
}

/// Labels of every child.
pub fn labels(cluster: &str) -> Value {
    json!({ NAME: APP, INSTANCE: cluster, COMPONENT: NODE, MANAGED_BY: FIELD_MANAGER, "app.kubernetes.io/part-of": APP })
}

/// The selector as text, for the scale subresource.
pub fn selector_text(cluster: &str) -> String {
    format!("{NAME}={APP},{INSTANCE}={cluster},{COMPONENT}={NODE}")
}

/// What restarts the nodes when it changes: only what a person wrote, so that a new operator restarts nothing.
pub fn revision(wish: &ValidatedDatabaseCluster, restart: Option<&str>) -> String {
    let written = json!({ "image": wish.image, "resources": wish.resources, "restart": restart });
    format!("{:016x}", fnv64(written.to_string().as_bytes()))
}

/// A short stable fingerprint (FNV-1a); it guards against nothing but forgetting.
pub fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
