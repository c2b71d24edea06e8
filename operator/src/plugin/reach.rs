//! The one place that knows how a node is reached from outside of the cluster: through a port of this machine that the
//! API server forwards to the pod. It takes the right to `create` on `pods/portforward`, and to `get` the ConfigMap with
//! the authority that clients trust and the Secret with the token for reading.

use super::connect::Connection;
use super::error::{PluginError, Tried};
use super::fetch::within;
use crate::kubernetes::{API_PORT, ca_name, tokens_secret, visitor};
use crate::nodes::NodeClient;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Most connections to one node at a time.
const CONNECTIONS: usize = 8;

/// A node within reach; it is out of reach again when this goes.
pub struct Reached {
    /// Its API.
    pub client: NodeClient,
    forwards: JoinHandle<()>,
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.forwards.abort();
    }
}

/// What a cluster asks of its visitors: a client that trusts it and shows the token for reading.
#[derive(Clone)]
pub struct Pass(NodeClient);

/// Opens the way to a node.
pub async fn node(connection: &Connection, node: &str, pass: Pass) -> Result<Reached, PluginError> {
    let unusable = |error: std::io::Error| PluginError::NoAnswer(format!("no local port for {node}: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    // The first one shows whether it is allowed at all.
    let tried =
        Tried { verb: "create", group: "", resource: "pods/portforward", namespace: Some(&connection.namespace) };
    drop(within(tried, pods.portforward(node, &[API_PORT])).await?);
    let forwards = tokio::spawn(forward_all(listener, pods, node.to_owned()));
    Ok(Reached { client: pass.0.at(format!("https://{address}")), forwards })
}

async fn forward_all(listener: TcpListener, pods: Api<Pod>, node: String) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends with the listener's task, which its owner ends.
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (pods, node) = (pods.clone(), node.clone());
        tokio::spawn(async move {
            forward(stream, &pods, &node).await;
            drop(place);
        });
    }
}

/// One connection. A failure closes it, and the client says that nobody answers.
async fn forward(mut stream: TcpStream, pods: &Api<Pod>, node: &str) {
    let Ok(mut forwarder) = pods.portforward(node, &[API_PORT]).await else { return };
    let Some(mut remote) = forwarder.take_stream(API_PORT) else { return };
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut remote).await;
}

/// Whom to trust, and the token for reading.
pub async fn pass(connection: &Connection, cluster: &str) -> Result<Pass, PluginError> {
    let namespace = Some(connection.namespace.as_str());
    let maps: Api<ConfigMap> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let (name, tried) = (ca_name(cluster), Tried { verb: "get", group: "", resource: "configmaps", namespace });
    let map = within(tried, maps.get_opt(&name)).await?;
    let bundle = map.and_then(|map| map.data?.remove("ca.crt"));
    let bundle = bundle.ok_or_else(|| PluginError::NoAnswer(format!("no ca.crt in a ConfigMap {name} yet")))?;
    let http = visitor(&bundle, cluster, &connection.namespace);
    let http = http.map_err(|wrong| PluginError::NoAnswer(format!("ConfigMap {name}: {wrong}")))?;
    let secrets: Api<Secret> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let tried = Tried { verb: "get", group: "", resource: "secrets", namespace };
    let found = within(tried, secrets.get_opt(&tokens_secret(cluster))).await?;
    let token = found.and_then(|secret| secret.data?.remove("read-only"));
    let token = token.and_then(|token| String::from_utf8(token.0).ok()).map(|text| text.trim().to_owned());
    Ok(Pass(NodeClient::new(http, String::new()).with_token(token)))
}
