//! What surrounds every request: its id, its deadline, its place among the others, and the headers of
//! every answer.

use super::ApiSettings;
use super::admission::Admission;
use super::authorization::Tokens;
use super::drain;
use super::headers::single;
use super::http_metrics::HttpMetrics;
use super::paths::{self, Load};
use super::problem::{Refusal, RequestError};
use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coequal_types::{NodeId, NodeName};
use futures::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Header that names a request in logs; echoed, or made up.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header that changes the deadline of a request, in milliseconds.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("coequal-deadline-ms");
/// Header that tells which node answered: `name/id`.
pub const NODE: HeaderName = HeaderName::from_static("coequal-node");
/// Deadline of a request that does not say one.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// Longest deadline that a request can ask for, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 600_000;
/// How much later than the deadline a handler is given up on: the engine ends by the deadline itself.
const GRACE: Duration = Duration::from_secs(1);

/// Until when a request has to be answered. Streams have this long for each of their steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// How long it was from the start.
    pub length: Duration,
}

impl Deadline {
    fn of(headers: &HeaderMap) -> Result<Self, RequestError> {
        let length = match single(headers, &DEADLINE_MS)? {
            None => DEADLINE_DEFAULT,
            Some(text) => match text.parse::<u64>() {
                Ok(ms) if (1..=DEADLINE_MS_MAX).contains(&ms) && !text.starts_with('+') => Duration::from_millis(ms),
                _ => {
                    return Err(RequestError::MalformedHeader(format!(
                        "{DEADLINE_MS} {text:?} is not a number of milliseconds from 1 to {DEADLINE_MS_MAX}"
                    )));
                }
            },
        };
        Ok(Self::after(length))
    }

    fn after(length: Duration) -> Self {
        Self { at: Instant::now() + length, length }
    }

    /// The same time again, from now: for the next step of a stream.
    #[must_use]
    pub fn again(self) -> Self {
        Self::after(self.length)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Deadline {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_else(|| Self::after(DEADLINE_DEFAULT)))
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct Shell {
    node: HeaderValue,
    /// Bounds on what is under way.
    pub admission: Admission,
    /// Who may do what.
    pub tokens: Option<Arc<Tokens>>,
    /// Counts and durations.
    pub metrics: HttpMetrics,
}

impl Shell {
    /// For the node of this name and id.
    pub fn new(name: &NodeName, id: NodeId, settings: &ApiSettings) -> Self {
        let node = HeaderValue::from_str(&format!("{name}/{id}")).unwrap_or(HeaderValue::from_static("unnamed"));
        Self { node, admission: Admission::new(settings), tokens: settings.tokens.clone(), metrics: HttpMetrics::new() }
    }
}

/// Runs a request in its shell.
pub async fn surround(State(shell): State<Arc<Shell>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let in_flight = shell.metrics.enter();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    let template = request.extensions().get::<MatchedPath>().and_then(|matched| paths::find(matched.as_str()));
    let load = template.map_or(Load::Request, |(_, route)| route.load);
    let (request, rest) = drain::keep(request);
    let path = template.map_or("", |(_, route)| route.path);
    let mut response = run(&shell, request, next, (path, load)).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(rest) = rest
        && response.status().as_u16() >= 400
    {
        rest.drain().await;
    }
    drop(in_flight);
    shell.metrics.observe(template.map(|(at, _)| at), &method, response.status(), started.elapsed());
    if response.status().is_server_error() {
        tracing::debug!(
            request_id = request_id.to_str().unwrap_or(""),
            method = method.as_str(),
            path = template.map_or("", |(_, route)| route.path),
            status = response.status().as_u16(),
            "request refused"
        );
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(NODE, shell.node.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Probes and pages that are the same for everybody.
fn is_public(path: &str) -> bool {
    [paths::LIVEZ, paths::READYZ, paths::OPENAPI, paths::DASHBOARD].contains(&path)
}

async fn run(shell: &Shell, mut request: Request, next: Next, (path, load): (&str, Load)) -> Result<Response, Refusal> {
    if let Some(tokens) = shell.tokens.as_ref().filter(|_| !is_public(path)) {
        tokens.check(request.method(), request.headers(), request.extensions())?;
    }
    let place = shell.admission.request(load)?;
    let deadline = Deadline::of(request.headers())?;
    let written = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    request.extensions_mut().insert(deadline);
    let answered = tokio::time::timeout_at((deadline.at + GRACE).into(), next.run(request)).await;
    let response = answered.map_err(|_| RequestError::DeadlineExceeded { written })?;
    Ok(match place {
        Some(place) if load == Load::Stream => hold(response, place),
        _ => response,
    })
}

/// Keeps a stream's place until the stream ends.
fn hold(response: Response, place: OwnedSemaphorePermit) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _held = &place;
            chunk
        }))
    })
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fresh =
        || HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).unwrap_or(HeaderValue::from_static("unnamed"));
    match headers.get(REQUEST_ID) {
        Some(value) if (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic) => {
            value.clone()
        }
        _ => fresh(),
    }
}

/// Answers what no path matches.
pub async fn path_not_found(uri: Uri) -> Refusal {
    RequestError::PathNotFound(uri.path().chars().take(200).collect()).into()
}

/// Answers a path with a method that it does not know; `OPTIONS` asks just that.
pub async fn method_not_allowed(matched: Option<MatchedPath>, method: Method, uri: Uri) -> Response {
    let Some((_, route)) = matched.and_then(|matched| paths::find(matched.as_str())) else {
        return path_not_found(uri).await.into_response();
    };
    let allow = paths::allow(route);
    if method == Method::OPTIONS {
        let mut response = super::empty(http::StatusCode::NO_CONTENT);
        if let Ok(allow) = HeaderValue::from_str(&allow) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        return response;
    }
    let method: String = method.as_str().chars().take(40).collect();
    Refusal::from(RequestError::MethodNotAllowed { method, allow }).into_response()
}

#[cfg(test)]
#[path = "shell_test.rs"]
mod tests;
