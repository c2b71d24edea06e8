//! Between an operator and the API server: counts what it changes, and can kill it in the middle of a change.

use crate::kubernetes::at;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex};

/// Largest body that an operator sends.
const BODY_BYTES_MAX: usize = 1 << 22;

/// One change that was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// POST, PUT, PATCH or DELETE.
    pub method: String,
    /// What was changed, without the query.
    pub path: String,
    /// Reason and note of an Event; empty for everything else.
    pub note: String,
    /// The answer's status code; 0 when nobody got one.
    pub code: u16,
}

/// When the operator is killed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Kill {
    #[default]
    Never,
    /// When it sends its change number n from here on (counted from 1), which then is not made.
    Before(usize),
    /// When its change number n was made, before it hears of it.
    After(usize),
    /// After each change that was not seen before.
    AfterEachNew,
}

#[derive(Default)]
struct Book {
    changes: Vec<Change>,
    requests: u64,
    begun: usize,
    kill: Kill,
    operator: Option<u32>,
}

/// A proxy with the rights of one operator.
#[derive(Clone)]
pub struct Gate {
    /// Where the operator finds it.
    pub url: String,
    server: String,
    user: String,
    http: reqwest::Client,
    book: Arc<Mutex<Book>>,
}

impl Gate {
    /// Listens for an operator that acts as `user`.
    pub async fn open(server: &str, user: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gate = Self {
            url: format!("http://{}", listener.local_addr().expect("address")),
            server: server.to_owned(),
            user: user.to_owned(),
            http: reqwest::Client::new(),
            book: Arc::default(),
        };
        let router = Router::new().fallback(pass).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        gate
    }

    fn book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        work(&mut self.book.lock().expect("no panic while it is held"))
    }

    /// The process that asks from now on; it is killed never.
    pub fn serve(&self, operator: u32) {
        self.book(|book| (book.operator, book.begun, book.kill) = (Some(operator), 0, Kill::Never));
    }

    /// Kills the operator when it sends change number `n` of those that come from now on; the change is not made.
    pub fn kill_before(&self, n: usize) {
        self.book(|book| (book.begun, book.kill) = (0, Kill::Before(n)));
    }

    /// Kills the operator when change number `n` of those that come from now on was made, before it hears of it.
    pub fn kill_after(&self, n: usize) {
        self.book(|book| (book.begun, book.kill) = (0, Kill::After(n)));
    }

    /// Kills the operator after each change of which there was none like it before. An Event that is told again, because
    /// whoever told it did not live to remember, is let through.
    pub fn kill_after_each(&self) {
        self.book(|book| book.kill = Kill::AfterEachNew);
    }

    /// All changes so far, without those of leases.
    pub fn changes(&self) -> Vec<Change> {
        self.book(|book| book.changes.clone())
    }

    /// All requests so far, without those of leases.
    pub fn requests(&self) -> u64 {
        self.book(|book| book.requests)
    }

    /// Whether the operator is to die before this change is made.
    fn dies_before(&self) -> bool {
        self.book(|book| {
            book.begun += 1;
            book.kill == Kill::Before(book.begun)
        })
    }

    /// Notes a change that was made; true when the operator is to die now.
    fn dies_after(&self, change: Change) -> bool {
        self.book(|book| {
            let is_new = change.note.is_empty() || book.changes.iter().all(|known| known.note != change.note);
            book.changes.push(change);
            match book.kill {
                Kill::Never | Kill::Before(_) => false,
                Kill::After(n) => book.begun == n,
                Kill::AfterEachNew => is_new,
            }
        })
    }

    /// `kill -9`; whoever started it waits for its end.
    fn kill(&self) {
        let Some(operator) = self.book(|book| book.operator.take()) else { return };
        // SAFETY: kill only takes numbers; the process is a child of this program that nobody has waited for.
        unsafe { libc::kill(i32::try_from(operator).expect("pid"), libc::SIGKILL) };
    }

    async fn forward(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let is_lease = parts.uri.path().contains("/leases");
        let is_change = !matches!(parts.method.as_str(), "GET" | "HEAD") && !is_lease;
        self.book(|book| book.requests += u64::from(!is_lease));
        let body = to_bytes(body, BODY_BYTES_MAX).await.expect("a body");
        if is_change && self.dies_before() {
            self.kill();
            return std::future::pending().await;
        }
        let mut change = Change {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            note: note(parts.uri.path(), &body),
            code: 0,
        };
        let url = format!("{}{}", self.server, parts.uri);
        let mut onward = self.http.request(parts.method, url).header("impersonate-user", &self.user).body(body);
        for name in ["content-type", "accept"] {
            if let Some(value) = parts.headers.get(name) {
                onward = onward.header(name, value);
            }
        }
        let Ok(answer) = onward.send().await else {
            return (axum::http::StatusCode::BAD_GATEWAY, "the API server does not answer").into_response();
        };
        change.code = answer.status().as_u16();
        if is_change && self.dies_after(change) {
            self.kill();
            return std::future::pending().await;
        }
        let mut response = Response::builder().status(answer.status());
        if let Some(kind) = answer.headers().get("content-type") {
            response = response.header("content-type", kind);
        }
        response.body(Body::from_stream(answer.bytes_stream())).expect("a response")
    }
}

async fn pass(State(gate): State<Gate>, request: Request) -> Response {
    gate.forward(request).await
}

/// Reason and words of an Event: what makes it the same one when it is told again.
fn note(path: &str, body: &[u8]) -> String {
    if !path.ends_with("/events") {
        return String::new();
    }
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    format!("{} {}: {}", at(&event, "/regarding/name"), at(&event, "/reason"), at(&event, "/note"))
}
