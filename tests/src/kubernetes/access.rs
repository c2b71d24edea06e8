//! How a client reaches the nodes: the one place that knows scheme, trust and credentials.

use super::api::{Api, at};
use super::place::Place;
use super::until;
use crate::client::{Answer, Client, builder};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, Method};
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
    api: Api,
    config_map: String,
    authorities: Vec<reqwest::Certificate>,
    token: String,
    name: String,
}

fn certificates(bundle: &str) -> Vec<reqwest::Certificate> {
    reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).expect("PEM")
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
            api: place.api.clone(),
            config_map: place.core(&format!("configmaps/{config_map}")),
            authorities: certificates(&authority),
            token: token.trim().to_owned(),
            name: format!("{resource}.{}.svc", place.namespace),
        }
    }

    /// The same with the authorities that clients trust now; `None` while nobody says which.
    pub async fn again(&self) -> Option<Self> {
        let found = self.api.request(Method::GET, &self.config_map, "application/json", None).await.ok()?;
        Some(Self { authorities: certificates(&at(&found, "/data/ca.crt")), ..self.clone() })
    }

    /// The token that is shown.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// How many authorities are trusted.
    pub fn authorities(&self) -> usize {
        self.authorities.len()
    }

    /// The certificate that a node shows, in DER form; what was in the way if it is not one of this cluster.
    pub async fn certificate_of(&self, host: &str) -> Result<Vec<u8>, String> {
        let answer = self.builder(host, PATIENT, PATIENT).tls_info(true).build().expect("client");
        let answer = answer.get(format!("https://{}:{PORT}/livez", self.name)).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let shown = answer.extensions().get::<reqwest::tls::TlsInfo>().and_then(|info| info.peer_certificate());
        shown.map(<[u8]>::to_vec).ok_or_else(|| "no certificate was shown".to_owned())
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
        let client = self.builder(host, connect, timeout).build().expect("client");
        Client::with(format!("https://{}:{PORT}", self.name), client)
    }

    fn builder(&self, host: &str, connect: Duration, timeout: Duration) -> ClientBuilder {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).expect("a token");
        bearer.set_sensitive(true);
        let address = SocketAddr::new(host.parse().unwrap_or_else(|e| panic!("{host}: {e}")), PORT);
        builder()
            .tls_certs_only(self.authorities.clone())
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .resolve(&self.name, address)
            .connect_timeout(connect)
            .timeout(timeout)
            .pool_max_idle_per_host(0)
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
