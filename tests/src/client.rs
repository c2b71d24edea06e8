//! A thin client of the HTTP API.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// One node's API.
#[derive(Clone)]
pub struct Client {
    /// `scheme://host:port`.
    pub url: String,
    http: reqwest::Client,
}

/// An answer in full.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub etag: Option<String>,
    pub session: Option<String>,
    /// How old a local answer may be, in seconds.
    pub age: Option<f64>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.status, self.body))
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .timeout(Duration::from_secs(20))
            .build()
            .expect("client");
        Self::with(format!("http://{address}"), http)
    }

    /// The API at this URL, asked in a way of one's own.
    pub fn with(url: String, http: reqwest::Client) -> Self {
        Self { url, http }
    }

    /// A request whose connection or time may fail.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send().await?).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let shown = format!("{method} {path}");
        self.try_send(method, path, headers, body).await.unwrap_or_else(|e| panic!("{shown} at {}: {e}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_owned()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }
}

async fn answer(response: Response) -> reqwest::Result<Answer> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, etag, session) = (response.status(), header("etag"), header("coequal-session"));
    let age = header("coequal-age").and_then(|age| age.parse().ok());
    Ok(Answer { status, etag, session, age, body: response.text().await? })
}
