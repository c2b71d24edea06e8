//! How a client reaches the nodes: the one place that knows scheme, trust and credentials.

use super::api::at;
use super::place::Place;
use super::until;
use crate::client::{Answer, Client, builder};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use std::net::SocketAddr;
use std::time::Duration;

/// Port of the nodes' HTTP API.
const PORT: u16 = 7600;
/// A connection within the cluster takes a few milliseconds; after this long, another node is tried.
const CONNECT: Duration = Duration::from_millis(100);
/// After this long without an answer, another node is tried with the same idempotency key.
const ATTEMPT: Duration = Duration::from_millis(450);
/// For requests that do much at once.
const PATIENT: Duration = Duration::from_secs(60);

/// What a client of one resource needs: whom to trust, a token, and the name that certificates are for.
#[derive(Clone, Debug)]
pub struct Access {
    authority: reqwest::Certificate,
    token: String,
    name: String,
}

impl Access {
    /// Reads what the operator made for clients, as soon as it is there.
    pub async fn of(place: &Place, resource: &str) -> Self {
        let (config_map, secret) = (format!("{resource}-ca"), format!("{resource}-tokens"));
        let (authority, _) = until("an authority and tokens for clients", async || {
            let authority = place.api.get(&place.core(&format!("configmaps/{config_map}"))).await;
            let authority = authority.map(|found| at(&found, "/data/ca.crt")).unwrap_or_default();
            let tokens = place.api.get(&place.core(&format!("secrets/{secret}"))).await;
            if authority.is_empty() || tokens.is_none() {
                return Err(format!("no ca.crt in {config_map}, or no {secret}"));
            }
            Ok(authority)
        })
        .await;
        let token = place.kubectl(&["get", "secret", &secret, "-o", "go-template={{.data.admin | base64decode}}"]);
        Self {
            authority: reqwest::Certificate::from_pem(authority.as_bytes()).expect("PEM"),
            token: token.trim().to_owned(),
            name: format!("{resource}.{}.svc", place.namespace),
        }
    }

    /// A client that opens a new connection for each request, so that through a Service a retry may come to another node.
    pub fn impatient(&self, host: &str) -> Client {
        self.client(host, CONNECT, ATTEMPT)
    }

    /// The same for a machine so busy that a connection takes longer.
    pub fn forbearing(&self, host: &str) -> Client {
        self.client(host, ATTEMPT, ATTEMPT)
    }

    /// A client for imports and exports.
    pub fn patient(&self, host: &str) -> Client {
        self.client(host, PATIENT, PATIENT)
    }

    fn client(&self, host: &str, connect: Duration, timeout: Duration) -> Client {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).expect("a token");
        bearer.set_sensitive(true);
        let address = SocketAddr::new(host.parse().unwrap_or_else(|e| panic!("{host}: {e}")), PORT);
        let client = builder()
            .tls_certs_only([self.authority.clone()])
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .resolve(&self.name, address)
            .connect_timeout(connect)
            .timeout(timeout)
            .pool_max_idle_per_host(0);
        Client::with(format!("https://{}:{PORT}", self.name), client.build().expect("client"))
    }
}

/// Sends until there is an answer that is a success, always with the same idempotency key; `Err` after [`super::PATIENCE`].
pub async fn send_until_done(
    client: &Client,
    method: Method,
    path: &str,
    kind: &str,
    key: &str,
    body: String,
) -> Answer {
    let (answer, _) = super::until(&format!("{method} {path}"), async || {
        let headers = [("content-type", kind), ("idempotency-key", key)];
        match client.try_send(method.clone(), path, &headers, body.clone()).await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(error) => Err(format!("{error:?}")),
        }
    })
    .await;
    answer
}
