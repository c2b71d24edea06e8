//! The one table from errors to HTTP: every way a request can end other than well (RFC 9457).
//!
//! Each row is `urn:coequal:error:<name>`, status and title. A 503 says in `outcome` whether the
//! write may have been applied (G7); the engine answers `OutcomeUnknown` as soon as an accept has left,
//! so every other refusal is `not-applied`.

use crate::replication::ServiceError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use coequal_protocol::message::Rejection;
use coequal_types::rest::Problem;
use coequal_types::{DatabaseId, DatabaseName, DocumentError, NameError};
use http::{HeaderValue, StatusCode, header};

/// Prefix of every `type`.
pub const URN: &str = "urn:coequal:error:";
/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong with a request before the engine sees it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No such path.
    #[error("there is nothing at {0:?}; every path is listed in /openapi.json")]
    PathNotFound(String),
    /// The path does not know the method.
    #[error("{method} is not possible here; use one of {allow}")]
    MethodNotAllowed {
        /// The method.
        method: String,
        /// What is possible.
        allow: String,
    },
    /// No token, or one that is not known.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token is known and may not do this.
    #[error("this token may only read; write with the admin token")]
    Forbidden,
    /// Path that cannot be decoded.
    #[error("{0}")]
    MalformedPath(String),
    /// A name in the path or body that breaks its rule.
    #[error("{0}")]
    MalformedName(#[from] NameError),
    /// A query parameter that is unknown, doubled or not readable.
    #[error("{0}")]
    MalformedQuery(String),
    /// A header that is not readable or that contradicts another.
    #[error("{0}")]
    MalformedHeader(String),
    /// A body that is not JSON.
    #[error("{0}")]
    MalformedBody(String),
    /// JSON that is not acceptable as a document.
    #[error("{0}")]
    UnacceptableDocument(DocumentError),
    /// JSON that is not acceptable as settings or the like.
    #[error("{0}")]
    UnacceptableBody(String),
    /// Body, document or line above its limit.
    #[error("{what} is larger than the limit of {limit} bytes; make it smaller, or raise {setting}")]
    TooLarge {
        /// Which thing.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// The setting that the limit comes from.
        setting: &'static str,
    },
    /// `Content-Type` or `Content-Encoding` that is not understood.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The body came too slowly.
    #[error("the request body did not arrive in time; nothing was applied")]
    BodyTimeout,
    /// The body broke off.
    #[error("the request body broke off: {0}; nothing was applied")]
    BodyBroken(String),
    /// The collection of a read does not exist.
    #[error("collection {0:?} does not exist in database {1}; a first write or a PUT creates it")]
    CollectionNotFound(String, DatabaseName),
    /// The document of a read does not exist.
    #[error("document {0:?} does not exist or is deleted")]
    DocumentNotFound(String),
    /// `If-Match` of a read does not hold.
    #[error("the document is at another revision than If-Match says")]
    PreconditionFailed {
        /// Its version now.
        version: u64,
    },
    /// A database would be dropped without its UUID.
    #[error(
        "dropping a database needs its UUID, so that nothing is dropped by a slip; to drop {0} for good, send DELETE /v1/databases/{0}?uuid={1}"
    )]
    UuidRequired(DatabaseName, DatabaseId),
    /// Too many requests at once.
    #[error("{what} are at their limit of {limit}; try again shortly")]
    TooManyRequests {
        /// Which bound was reached.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The request's deadline passed inside this node. `written`: it may have been applied.
    #[error("the request was not done by its deadline; read what is there, or ask again with the same Idempotency-Key")]
    DeadlineExceeded {
        /// Whether it was a write.
        written: bool,
    },
}

impl From<DocumentError> for RequestError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Syntax(_) => Self::MalformedBody(error.to_string()),
            other => Self::UnacceptableDocument(other),
        }
    }
}

/// A row of the table.
struct Row {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    retry_after_seconds: Option<u32>,
    outcome: Option<&'static str>,
}

const fn row(status: StatusCode, name: &'static str, title: &'static str) -> Row {
    Row { status, name, title, retry_after_seconds: None, outcome: None }
}

/// For refusals that pass: the client should try again.
const fn later(status: StatusCode, name: &'static str, title: &'static str, seconds: u32) -> Row {
    Row { status, name, title, retry_after_seconds: Some(seconds), outcome: Some("not-applied") }
}

/// The table for what the engine answers. No `_`: a new error must choose its row.
fn service_row(error: &ServiceError) -> Row {
    use ServiceError as E;
    use StatusCode as S;
    match error {
        E::Rejected(rejection) => rejection_row(rejection),
        E::DatabaseNotFound(_) => row(S::NOT_FOUND, "database-not-found", "No such database"),
        E::DatabaseNotAvailable(..) => {
            later(S::SERVICE_UNAVAILABLE, "database-not-available", "Database not deployed here", 5)
        }
        E::Synchronizing { progress, .. } => {
            let eta = progress.and_then(|progress| progress.eta_seconds).unwrap_or(1.0).ceil().clamp(1.0, 30.0);
            later(S::SERVICE_UNAVAILABLE, "synchronizing", "Database is synchronizing", eta as u32)
        }
        E::NameConflict(_) => row(S::CONFLICT, "name-conflict", "Another database has this name"),
        E::Faulty { .. } => later(S::SERVICE_UNAVAILABLE, "database-faulty", "Local store failed", 30),
        E::NoQuorum { .. } => later(S::SERVICE_UNAVAILABLE, "no-quorum", "No quorum", 1),
        E::OutcomeUnknown => Row {
            outcome: Some("unknown"),
            ..later(S::SERVICE_UNAVAILABLE, "outcome-unknown", "Outcome of the write is unknown", 1)
        },
        E::Overloaded { .. } => later(S::TOO_MANY_REQUESTS, "overloaded", "Too much at once", 1),
        E::ShuttingDown => later(S::SERVICE_UNAVAILABLE, "shutting-down", "Node is shutting down", 1),
        E::NoCluster => later(S::SERVICE_UNAVAILABLE, "no-cluster", "Node belongs to no cluster", 5),
        E::DiskFull => later(S::INSUFFICIENT_STORAGE, "disk-full", "Disk is full", 30),
        E::CursorVoid(_) => row(S::GONE, "cursor-void", "Cursor is void"),
        E::NotAcceptable(_) => row(S::UNPROCESSABLE_ENTITY, "not-acceptable", "Not acceptable"),
        E::NotFound(_) => row(S::NOT_FOUND, "not-found", "Not found"),
        E::Conflict(_) => row(S::CONFLICT, "conflict", "Not possible in the present state"),
        E::WrongUuid { .. } => row(S::CONFLICT, "wrong-uuid", "UUID of another database"),
    }
}

fn rejection_row(rejection: &Rejection) -> Row {
    use StatusCode as S;
    match rejection {
        Rejection::NotFound => row(S::NOT_FOUND, "document-not-found", "No such document"),
        Rejection::Exists { .. } => row(S::CONFLICT, "document-exists", "Document exists"),
        Rejection::PreconditionFailed { .. } => {
            row(S::PRECONDITION_FAILED, "precondition-failed", "Precondition failed")
        }
        Rejection::TooLarge { .. } => row(S::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
        Rejection::NotAcceptable(_) => row(S::UNPROCESSABLE_ENTITY, "write-not-acceptable", "Write not acceptable"),
    }
}

/// The table for what is wrong with a request itself.
fn request_row(error: &RequestError) -> Row {
    use RequestError as E;
    use StatusCode as S;
    match error {
        E::PathNotFound(_) => row(S::NOT_FOUND, "path-not-found", "No such path"),
        E::MethodNotAllowed { .. } => row(S::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
        E::Unauthorized(_) => row(S::UNAUTHORIZED, "unauthorized", "Token needed"),
        E::Forbidden => row(S::FORBIDDEN, "forbidden", "Not permitted"),
        E::MalformedPath(_) => row(S::BAD_REQUEST, "malformed-path", "Malformed path"),
        E::MalformedName(_) => row(S::BAD_REQUEST, "malformed-name", "Malformed name"),
        E::MalformedQuery(_) => row(S::BAD_REQUEST, "malformed-query", "Malformed query"),
        E::MalformedHeader(_) => row(S::BAD_REQUEST, "malformed-header", "Malformed header"),
        E::MalformedBody(_) => row(S::BAD_REQUEST, "malformed-body", "Malformed body"),
        E::UnacceptableDocument(_) => {
            row(S::UNPROCESSABLE_ENTITY, "document-not-acceptable", "Document not acceptable")
        }
        E::UnacceptableBody(_) => row(S::UNPROCESSABLE_ENTITY, "body-not-acceptable", "Body not acceptable"),
        E::TooLarge { .. } => row(S::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
        E::UnsupportedMediaType(_) => {
            row(S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Media type not understood")
        }
        E::BodyTimeout => {
            Row { outcome: Some("not-applied"), ..row(S::REQUEST_TIMEOUT, "body-timeout", "Body came too slowly") }
        }
        E::BodyBroken(_) => {
            Row { outcome: Some("not-applied"), ..row(S::BAD_REQUEST, "body-broken", "Body broke off") }
        }
        E::CollectionNotFound(..) => row(S::NOT_FOUND, "collection-not-found", "No such collection"),
        E::DocumentNotFound(_) => row(S::NOT_FOUND, "document-not-found", "No such document"),
        E::PreconditionFailed { .. } => row(S::PRECONDITION_FAILED, "precondition-failed", "Precondition failed"),
        E::UuidRequired(..) => row(S::BAD_REQUEST, "uuid-required", "UUID required"),
        E::TooManyRequests { .. } => later(S::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", 1),
        E::DeadlineExceeded { written } => Row {
            outcome: Some(if *written { "unknown" } else { "not-applied" }),
            ..later(S::SERVICE_UNAVAILABLE, "deadline-exceeded", "Deadline exceeded", 1)
        },
    }
}

/// Where a refusal comes from.
#[derive(Debug, Clone, PartialEq)]
enum Cause {
    Service(ServiceError),
    Request(RequestError),
}

/// A refusal on its way to the client, with what the handler knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    cause: Cause,
    key: Option<String>,
    request_id: Option<String>,
    hint: Option<String>,
    etag: Option<String>,
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let etag = error.current().map(|(version, stamp)| super::preconditions::etag(version, stamp));
        Self::new(Cause::Service(error), etag)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(Cause::Request(error), None)
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        RequestError::from(error).into()
    }
}

impl From<DocumentError> for Refusal {
    fn from(error: DocumentError) -> Self {
        RequestError::from(error).into()
    }
}

impl Refusal {
    fn new(cause: Cause, etag: Option<String>) -> Self {
        Self(Box::new(Inner { cause, key: None, request_id: None, hint: None, etag }))
    }

    /// Names the document.
    #[must_use]
    pub fn about(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    /// Names the `Idempotency-Key` to ask again with; only shown where the outcome is unknown.
    #[must_use]
    pub fn asked_as(mut self, request_id: &str) -> Self {
        self.0.request_id = Some(request_id.to_owned());
        self
    }

    /// Adds what to do, where the outcome is unknown.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Shows the current entity tag.
    #[must_use]
    pub fn with_etag(mut self, etag: String) -> Self {
        self.0.etag = Some(etag);
        self
    }

    /// The body of the answer.
    pub fn problem(&self) -> Problem {
        let inner = &self.0;
        let (row, detail, version) = match &inner.cause {
            Cause::Service(error) => {
                (service_row(error), service_detail(error, inner.key.as_deref()), error.current().map(|c| c.0))
            }
            Cause::Request(error) => (request_row(error), error.to_string(), request_version(error)),
        };
        let unknown = row.outcome == Some("unknown");
        let hint = inner.hint.as_ref().filter(|_| unknown).map(|hint| format!("; {hint}")).unwrap_or_default();
        Problem {
            kind: format!("{URN}{}", row.name),
            title: row.title.to_owned(),
            status: row.status.as_u16(),
            detail: format!("{detail}{hint}"),
            key: inner.key.clone(),
            version,
            retry_after_seconds: row.retry_after_seconds,
            outcome: row.outcome.map(str::to_owned),
            request_id: inner.request_id.clone().filter(|_| unknown),
        }
    }
}

fn request_version(error: &RequestError) -> Option<u64> {
    match error {
        RequestError::PreconditionFailed { version } => Some(*version),
        _ => None,
    }
}

fn service_detail(error: &ServiceError, key: Option<&str>) -> String {
    let document = key.map_or_else(|| "the document".to_owned(), |key| format!("document {key:?}"));
    match error {
        ServiceError::Rejected(Rejection::NotFound) => format!("{document} does not exist or is deleted"),
        ServiceError::Rejected(Rejection::Exists { version, .. }) => {
            format!("{document} exists at version {version}; replace it with PUT, or use another key")
        }
        ServiceError::Rejected(Rejection::PreconditionFailed { current: Some((version, _)) }) => {
            format!("{document} is at version {version}, so the precondition does not hold; read it and decide again")
        }
        ServiceError::Rejected(Rejection::PreconditionFailed { current: None }) => {
            format!("{document} does not exist, so the precondition does not hold")
        }
        ServiceError::Rejected(Rejection::TooLarge { bytes, bytes_max }) => {
            format!(
                "{document} would have {bytes} bytes after this patch, and the limit is {bytes_max} bytes; \
                 make the patch smaller, or raise --document-bytes-max (at most 16 MiB)"
            )
        }
        ServiceError::Rejected(Rejection::NotAcceptable(reason)) => reason.clone(),
        other => other.to_string(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = problem.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(tag) = self.0.etag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"coequal\""));
        }
        if let Cause::Request(RequestError::MethodNotAllowed { allow, .. }) = &self.0.cause
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

#[cfg(test)]
#[path = "problem_test.rs"]
mod tests;
