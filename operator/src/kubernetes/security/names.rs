//! Names of the Secrets, and the names that the nodes' certificate is for. Pure.

use crate::kubernetes::names::nodes_name;

/// Secret with the authority; mounted nowhere. The ConfigMap for clients has the same name.
pub fn ca_name(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// Secret with the nodes' certificate; `provided` is one that a person looks after.
pub fn tls_secret(cluster: &str, provided: Option<&str>) -> String {
    provided.map_or_else(|| format!("{cluster}-tls"), str::to_owned)
}

/// Secret with the tokens.
pub fn tokens_secret(cluster: &str) -> String {
    format!("{cluster}-tokens")
}

/// The name that the certificates of all nodes of this cluster, and of no other, are for.
pub fn tls_name(cluster: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", nodes_name(cluster))
}

/// Everything that the nodes' certificate is for: the cluster's name first, each pod, the Service for clients, and this
/// machine itself (a forwarded port).
pub fn subject_names(cluster: &str, namespace: &str) -> Vec<String> {
    let nodes = tls_name(cluster, namespace);
    vec![
        nodes.clone(),
        format!("*.{nodes}"),
        format!("*.{nodes}.cluster.local"),
        cluster.to_owned(),
        format!("{cluster}.{namespace}"),
        format!("{cluster}.{namespace}.svc"),
        format!("{cluster}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ]
}
