//! REST for clients and operators. Modules stand in reading order: the paths, what surrounds every
//! request, how requests are read, and then one file for each resource.
//!
//! Nothing here knows storage or network: [`crate::replication::service`] is the only door.

pub mod authorization;
pub mod paths;
pub mod problem;
pub mod router;
pub mod serve;
pub mod shell;

mod admission;
mod body;
mod drain;
mod headers;
mod http_metrics;
mod idempotency;
mod preconditions;
mod query;
mod session;

mod batch;
mod batch_line;
mod changes;
mod cluster;
mod collections;
mod dashboard;
mod databases;
mod documents;
mod export;
mod health;
mod listing;
mod metrics;
mod openapi;
mod openapi_table;
mod replication;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod fuzz_test;

pub use openapi::document as openapi_document;
pub use router::router;
pub use serve::{ConnectionSettings, serve};

use crate::replication::NodeService;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

/// What the API of a node is bounded by.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Largest document, in bytes.
    pub document_bytes_max: usize,
    /// Requests that may be under way at once, streams apart.
    pub requests_max: usize,
    /// Batches, exports and change feeds that may be under way at once.
    pub streams_max: usize,
    /// Bytes of request bodies that may be in memory at once.
    pub body_bytes_max: usize,
    /// Tokens that requests have to show; without, everybody may do everything.
    pub tokens: Option<Arc<authorization::Tokens>>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            document_bytes_max: coequal_types::document::DOCUMENT_BYTES_MAX_DEFAULT,
            requests_max: 1024,
            streams_max: 128,
            body_bytes_max: 512 << 20,
            tokens: None,
        }
    }
}

/// What every handler can reach.
#[derive(Clone)]
pub struct ApiState {
    /// The node.
    pub service: NodeService,
    /// The bounds.
    pub settings: Arc<ApiSettings>,
    /// What surrounds every request.
    pub shell: Arc<shell::Shell>,
}

/// An answer in JSON.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    json_bytes(status, serde_json::to_vec(value).unwrap_or_default())
}

/// An answer whose JSON text exists already.
fn json_bytes(status: StatusCode, text: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
