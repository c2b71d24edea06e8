//! How a client reaches the nodes: the one place that knows scheme, trust and credentials.

use super::place::Place;
use crate::client::{Answer, Client};
use reqwest::Method;
use std::time::Duration;

/// Port of the nodes' HTTP API.
const PORT: u16 = 7600;
/// A connection within the cluster takes well below a millisecond; after this long, another node is tried.
const CONNECT: Duration = Duration::from_millis(60);
/// After this long without an answer, another node is tried with the same idempotency key.
const ATTEMPT: Duration = Duration::from_millis(450);
/// For requests that do much at once.
const PATIENT: Duration = Duration::from_secs(60);

/// What a client of one resource needs.
#[derive(Clone, Debug)]
pub struct Access {}

impl Access {
    /// Reads what is needed; here is where a certificate authority and a token would come from.
    pub async fn of(_place: &Place, _resource: &str) -> Self {
        Self {}
    }

    /// A client that opens a new connection for each request, so that through a Service a retry may come to another node.
    pub fn impatient(&self, host: &str) -> Client {
        self.client(host, ATTEMPT)
    }

    /// A client for imports and exports.
    pub fn patient(&self, host: &str) -> Client {
        self.client(host, PATIENT)
    }

    fn client(&self, host: &str, timeout: Duration) -> Client {
        let builder = reqwest::Client::builder().connect_timeout(CONNECT).timeout(timeout).pool_max_idle_per_host(0);
        Client::with(format!("http://{host}:{PORT}"), builder.build().expect("client"))
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
