//! The node's HTTP API as the operator uses it. Every call has a deadline; a stopped replica holds nothing up.

use coequal_types::rest::{
    AddNode, ClusterDescription, DatabaseList, NodeDescription, Problem, ReplicationDescription, SettingsPatch,
};
use coequal_types::{DatabaseName, DatabaseSettings, NodeId, NodeName};
use reqwest::{Client, Method, RequestBuilder, Response};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Deadline of a look.
const LOOK_DEADLINE: Duration = Duration::from_millis(1500);
/// Deadline of a change.
const CHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No answer in time.
    #[error("{url} does not answer: {reason}")]
    NoAnswer {
        /// What was called.
        url: String,
        /// Why, as far as is known.
        reason: String,
    },
    /// The node refused.
    #[error("{url} answered {status}: {detail}")]
    Refused {
        /// What was called.
        url: String,
        /// HTTP status.
        status: u16,
        /// The node's reason.
        detail: String,
    },
    /// The answer is not what this program knows.
    #[error("{url} gave an answer that this version does not understand: {reason}")]
    NotUnderstood {
        /// What was called.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One node's API.
#[derive(Clone)]
pub struct NodeClient {
    http: Client,
    base: String,
    token: Option<String>,
}

// Without the token: it stands in no log.
impl std::fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeClient").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The client for nodes: never through a proxy, they are on this machine or in this cluster. Without `tls` it trusts
/// nobody, which is enough where HTTP is in the clear.
pub fn http_client(tls: Option<ClientConfig>) -> Result<Client, reqwest::Error> {
    let nobody = || {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    };
    let builder = match tls.map_or_else(nobody, Ok) {
        Ok(tls) => Client::builder().tls_backend_preconfigured(tls),
        // A provider without any version of TLS: building fails, and says so.
        Err(error) => Client::builder().tls_backend_preconfigured(error),
    };
    builder
        .no_proxy()
        .connect_timeout(LOOK_DEADLINE)
        .timeout(CHANGE_DEADLINE)
        .pool_idle_timeout(Duration::from_secs(10))
        .build()
}

impl NodeClient {
    /// The API at `base`, as in `http://127.0.0.1:7600`.
    pub fn new(http: Client, base: String) -> Self {
        Self { http, base, token: None }
    }

    /// The same visitor at another node.
    pub fn at(&self, base: String) -> Self {
        Self { base, ..self.clone() }
    }

    /// The same with a bearer token, where the node asks for one.
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    fn request(&self, method: Method, path: &str, deadline: Duration) -> (String, RequestBuilder) {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url).timeout(deadline);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        (url, request)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (url, request) = self.request(Method::GET, path, LOOK_DEADLINE);
        let answer = send(&url, request).await?;
        answer.json().await.map_err(|error| ClientError::NotUnderstood { url, reason: words(&error) })
    }

    async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl serde::Serialize>,
    ) -> Result<(), ClientError> {
        let (url, mut request) = self.request(method, path, CHANGE_DEADLINE);
        if let Some(body) = body {
            request = request.json(body);
        }
        send(&url, request).await.map(drop)
    }

    /// Whether the readiness probe passes.
    pub async fn ready(&self) -> Result<bool, ClientError> {
        let (url, request) = self.request(Method::GET, "/readyz", LOOK_DEADLINE);
        match send(&url, request).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The node itself.
    pub async fn node(&self) -> Result<NodeDescription, ClientError> {
        self.get("/v1/node").await
    }

    /// All nodes as it sees them.
    pub async fn cluster(&self) -> Result<ClusterDescription, ClientError> {
        self.get("/v1/cluster").await
    }

    /// Databases that it knows.
    pub async fn databases(&self) -> Result<DatabaseList, ClientError> {
        self.get("/v1/databases").await
    }

    /// Replication of one database.
    pub async fn replication(&self, name: &DatabaseName) -> Result<ReplicationDescription, ClientError> {
        self.get(&format!("/v1/databases/{name}/replication")).await
    }

    /// Makes a new cluster of this node; harmless if it has one.
    pub async fn initialize(&self) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/cluster/initialize", None::<&()>).await
    }

    /// Makes a database.
    pub async fn create_database(&self, name: &DatabaseName, settings: &DatabaseSettings) -> Result<(), ClientError> {
        self.change(Method::PUT, &format!("/v1/databases/{name}"), Some(settings)).await
    }

    /// Changes settings of a database.
    pub async fn change_settings(&self, name: &DatabaseName, patch: &SettingsPatch) -> Result<(), ClientError> {
        self.change(Method::PATCH, &format!("/v1/databases/{name}/configuration"), Some(patch)).await
    }

    /// Begins to copy a database to a node.
    pub async fn deploy(&self, name: &DatabaseName, node: &NodeName) -> Result<(), ClientError> {
        self.change(Method::POST, &format!("/v1/databases/{name}/nodes/{node}/deploy"), None::<&()>).await
    }

    /// Takes a node in (again).
    pub async fn add_node(&self, peer_address: &str) -> Result<(), ClientError> {
        let body = AddNode { peer_address: peer_address.to_owned() };
        self.change(Method::POST, "/v1/cluster/nodes", Some(&body)).await
    }

    /// Begins to take a node out.
    pub async fn remove_node(&self, id: NodeId) -> Result<(), ClientError> {
        self.change(Method::DELETE, &format!("/v1/cluster/nodes/{id}"), None::<&()>).await
    }
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, ClientError> {
    let no_answer = |error| ClientError::NoAnswer { url: url.to_owned(), reason: words(&error) };
    let answer = request.send().await.map_err(no_answer)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let detail = match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => problem.detail,
        Err(_) => text.chars().filter(|c| !c.is_control()).take(200).collect(),
    };
    Err(ClientError::Refused { url: url.to_owned(), status: status.as_u16(), detail })
}

/// The innermost cause: the outer ones repeat the URL.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
