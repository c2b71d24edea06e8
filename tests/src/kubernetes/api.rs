//! The Kubernetes API as JSON: what `kubectl` would do, without a process for each look.
//!
//! The cluster's `kubectl proxy` adds the administrator's credentials.

use super::wait::until;
use crate::client::builder;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// Where `tests/kubernetes/up` leaves a proxy, in the network namespace of the tests.
const PROXY: &str = "http://127.0.0.1:8001";

/// The API server.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    /// As the administrator of the cluster in whose network this thread is.
    pub fn connect() -> Self {
        Self::at(PROXY)
    }

    /// Through the proxy with this URL.
    pub fn at(base: &str) -> Self {
        let client = builder().connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(20));
        Self { http: client.build().expect("client"), base: base.to_owned() }
    }

    /// One request; `Err` holds the status code and the message of the refusal, or 0 and what went wrong on the way.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, (u16, String)> {
        let request = self.http.request(method, format!("{}{path}", self.base)).header("content-type", content_type);
        let request = request.body(body.map(Value::to_string).unwrap_or_default());
        let lost = |error: reqwest::Error| (0, format!("{error:?}"));
        let answer = request.send().await.map_err(lost)?;
        let (status, text) = (answer.status().as_u16(), answer.text().await.map_err(lost)?);
        let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text));
        if status < 300 { Ok(value) } else { Err((status, at(&value, "/message"))) }
    }

    /// An object or a list; `None` when it does not exist. A server that does not answer for a moment is asked again.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let (found, _) = until(&format!("GET {path}"), async || {
            match self.request(Method::GET, path, "application/json", None).await {
                Ok(value) => Ok(Some(value)),
                Err((404, _)) => Ok(None),
                Err((code, message)) => Err(format!("{code} {message}")),
            }
        })
        .await;
        found
    }

    /// Changes fields of an object, as `kubectl patch --type=merge` does.
    pub async fn try_patch(&self, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self.request(Method::PATCH, path, "application/merge-patch+json", Some(body)).await;
        answer.map_err(|(_, message)| message)
    }

    /// The same, where a refusal is a fault.
    pub async fn patch(&self, path: &str, body: &Value) {
        self.try_patch(path, body).await.unwrap_or_else(|e| panic!("PATCH {path} {body}: {e}"));
    }

    /// Makes an object.
    pub async fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.request(Method::POST, path, "application/json", Some(body)).await;
        answer.unwrap_or_else(|e| panic!("POST {path} {body}: {e:?}"))
    }

    /// Deletes an object; `grace_seconds` 0 is by force. One that is not there is fine.
    pub async fn delete(&self, path: &str, grace_seconds: Option<u32>) {
        let path =
            grace_seconds.map_or_else(|| path.to_owned(), |seconds| format!("{path}?gracePeriodSeconds={seconds}"));
        match self.request(Method::DELETE, &path, "application/json", None).await {
            Ok(_) | Err((404, _)) => {}
            Err(error) => panic!("DELETE {path}: {error:?}"),
        }
    }
}

/// The text at a JSON pointer; numbers and truth values as they are written, nothing as an empty text.
pub fn at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
