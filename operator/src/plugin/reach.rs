//! The one place that knows how a node is reached from outside of the cluster: through a port of this machine that the
//! API server forwards to the pod. It takes the right to `create` on `pods/portforward`, and where nodes ask for a
//! token, to `get` the Secret with the token for reading.

use super::connect::Connection;
use super::error::{PluginError, Tried};
use super::fetch::within;
use crate::kubernetes::API_PORT;
use crate::nodes::{NodeClient, http_client};
use k8s_openapi::api::core::v1::{Pod, Secret};
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

/// Opens the way to a node.
pub async fn node(connection: &Connection, node: &str, token: Option<String>) -> Result<Reached, PluginError> {
    let unusable = |error: std::io::Error| PluginError::NoAnswer(format!("no local port for {node}: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    // The first one shows whether it is allowed at all.
    let tried =
        Tried { verb: "create", group: "", resource: "pods/portforward", namespace: Some(&connection.namespace) };
    drop(within(tried, pods.portforward(node, &[API_PORT])).await?);
    let forwards = tokio::spawn(forward_all(listener, pods, node.to_owned()));
    let http = http_client().map_err(|error| PluginError::NoAnswer(format!("no HTTP client: {error}")))?;
    Ok(Reached { client: NodeClient::new(http, format!("http://{address}")).with_token(token), forwards })
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

/// The token for reading, where there are tokens.
pub async fn token(connection: &Connection, cluster: &str) -> Result<Option<String>, PluginError> {
    let secrets: Api<Secret> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let tried = Tried { verb: "get", group: "", resource: "secrets", namespace: Some(&connection.namespace) };
    let found = within(tried, secrets.get_opt(&format!("{cluster}-tokens"))).await?;
    let data = found.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data
        .get("read-only")
        .and_then(|token| String::from_utf8(token.0.clone()).ok())
        .map(|text| text.trim().to_owned()))
}
