//! Requests through the whole API of a node that keeps what it is given: every answer is one that is documented, and what
//! was written is read.
//!
//! An input is text: method and path, then headers, an empty line and the body; several requests are parted by the byte
//! 0x1e. What would change the cluster goes to a second node that belongs to none.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use coequal_node::api::{ApiSettings, router};
use coequal_node::network::{Identity, Network, NetworkSettings};
use coequal_node::replication::service::RunningNode;
use coequal_node::replication::{self, NodeSettings};
use coequal_node::storage::{DataDirectory, StoreSettings};
use coequal_types::document::{Document, merge_patch};
use coequal_types::rest::Problem;
use coequal_types::{DatabaseName, DatabaseSettings, DatabaseStatus};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const SEPARATOR: u8 = 0x1e;
const REQUESTS_MAX: usize = 8;
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// The deadline of every request of an input, in milliseconds: a session of the future waits as long for its stamp.
const DEADLINE_MS: u64 = 1000;
/// The deadline of our own requests, in milliseconds.
const OWN_DEADLINE_MS: u64 = 15_000;
/// A process that stood still refuses local reads until it has aligned again, which is right. On a busy machine it may well
/// stand still for the node's usual second and a half; if it does for this long, the input hangs, and is reported as that.
const STOOD_STILL_MS: u64 = 60_000;
/// An answer that takes longer hangs.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Two nodes and the runtime that they live in.
struct Stage {
    runtime: Runtime,
    /// Alone in its cluster, with the database `d`.
    working: Router,
    /// In no cluster.
    idle: Router,
    _nodes: [RunningNode; 2],
}

/// Asks each request of an input.
pub fn check(data: &[u8]) {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let stage = STAGE.get_or_init(Stage::start);
    for text in data.split(|byte| *byte == SEPARATOR).take(REQUESTS_MAX) {
        if let Some(asked) = Asked::read(text) {
            stage.runtime.block_on(stage.ask(&asked));
        }
    }
}

impl Stage {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (working, idle) = runtime.block_on(async { (node(true).await, node(false).await) });
        let api = |node: &RunningNode| {
            router(
                node.service.clone(),
                ApiSettings { document_bytes_max: DOCUMENT_BYTES_MAX, ..ApiSettings::default() },
            )
        };
        Self { working: api(&working), idle: api(&idle), runtime, _nodes: [working, idle] }
    }

    async fn ask(&self, asked: &Asked) {
        let router = if asked.is_administrative() { &self.idle } else { &self.working };
        let path = asked.uri.path();
        let is_document = path.contains("/documents/");
        let before = if is_document && asked.method == Method::PATCH { read_if_any(router, path).await } else { None };
        let answer = answer(router, asked).await;
        let success = answer.status.is_success();
        let sent = Document::parse(&asked.body);
        match asked.method.as_str() {
            "PUT" if is_document && success => {
                let sent = sent.expect("only documents are taken").body;
                assert_eq!(read(router, path).await.expect("what was put").body, sent, "what was put is read");
            }
            "PATCH" if is_document && success => {
                let (before, sent) = (before.expect("only what is there is patched"), sent.expect("a patch"));
                let expected = merge_patch(&before.body, &sent.body).expect("two documents");
                assert_eq!(read(router, path).await.expect("what was patched").body, expected, "RFC 7396");
            }
            "DELETE" if is_document && success => {
                assert_eq!(read(router, path).await, None, "what was deleted is gone")
            }
            "PUT" | "PATCH" | "DELETE" if is_document && answer.status.is_server_error() => settle(router, path).await,
            _ => {}
        }
    }
}

/// A node on a directory that is gone as soon as its files are open.
async fn node(initialize: bool) -> RunningNode {
    // What is only in memory need not wait for a disk.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory");
    let directory = DataDirectory::open(place.path()).expect("a data directory");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let name = || "fuzzed".parse().expect("a name");
    let identity =
        Identity { node: directory.node(), incarnation: directory.incarnation(), name: name(), cluster: None };
    let listen = NetworkSettings::new("127.0.0.1:0".parse().expect("an address"), identity);
    let network = Network::start(listen, sender).await.expect("a network");
    let settings = NodeSettings {
        name: name(),
        peer_address: network.local_address().to_string(),
        api_address: "127.0.0.1:1".to_owned(),
        initialize,
        cluster: None,
        join: Vec::new(),
        store: StoreSettings { cache_bytes: 16 << 20, overlay_bytes: 4 << 20 },
        unreachable_after_ms: STOOD_STILL_MS,
        databases_share_threads: false,
        renew_when_removed: false,
        compare_every_seconds: 0,
        tombstone_life_ms: 86_400_000,
    };
    let running = replication::start(settings, directory, network, events).await.expect("a node");
    if initialize {
        let database: DatabaseName = "d".parse().expect("a name");
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut made = false;
        loop {
            if !made {
                made = running.service.create_database(&database, DatabaseSettings::default(), deadline).await.is_ok();
            }
            let status = running.service.database(&database).map(|database| database.status());
            if made && matches!(status, Ok(DatabaseStatus::Online)) {
                break;
            }
            assert!(Instant::now() < deadline, "the database is not ONLINE within 30 s: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    running
}

/// The document at a path that can have one; `None` if there is none.
async fn read(router: &Router, path: &str) -> Option<Document> {
    document(path, &get(router, path).await)
}

/// The same where the path may be none of a document, or one of a database or collection that there is not.
async fn read_if_any(router: &Router, path: &str) -> Option<Document> {
    let answer = get(router, path).await;
    if answer.status == StatusCode::BAD_REQUEST { None } else { document(path, &answer) }
}

async fn get(router: &Router, path: &str) -> Answer {
    answer(router, &Asked::own(format!("GET {path}\n\n"))).await
}

fn document(path: &str, answer: &Answer) -> Option<Document> {
    match answer.status {
        StatusCode::OK => Some(Document { key: None, ..Document::parse(&answer.body).expect("a document") }),
        StatusCode::NOT_FOUND => None,
        other => panic!("{path} is answered {other}: {}", String::from_utf8_lossy(&answer.body)),
    }
}

/// A write whose outcome is not known may still be under way; the next one to the document stands in line behind it.
async fn settle(router: &Router, path: &str) {
    let answer = answer(router, &Asked::own(format!("PUT {path}\n\n{{}}"))).await;
    assert!(answer.status.is_success(), "{path} is answered {}", answer.status);
}

/// One request.
struct Asked {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    deadline_ms: u64,
}

impl Asked {
    fn own(text: String) -> Self {
        let asked = Self::read(text.as_bytes()).expect("a path that was asked for");
        Self { deadline_ms: OWN_DEADLINE_MS, ..asked }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let end = text.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = end.map_or((text, &[][..]), |end| (&text[..end], &text[end + 2..]));
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let (method, path) = first.split_once(' ')?;
        let uri = path.parse::<Uri>().ok().filter(|uri| uri.path().starts_with('/'))?;
        let mut headers = Vec::new();
        for line in lines.take(32) {
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            let name = HeaderName::from_bytes(name).ok()?;
            headers.push((name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?));
        }
        let (method, body) = (method.parse().ok()?, body.to_vec());
        Some(Self { method, uri, headers, body, deadline_ms: DEADLINE_MS })
    }

    /// Whether it would change what later inputs stand on.
    fn is_administrative(&self) -> bool {
        let path = self.uri.path();
        !matches!(self.method, Method::GET | Method::HEAD) && !path.contains("/collections/")
    }

    /// Its deadline is ours, unless it is one that is refused.
    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        (*request.method_mut(), *request.uri_mut()) = (self.method.clone(), self.uri.clone());
        let deadline = HeaderName::from_static("coequal-deadline-ms");
        let is_long = |value: &HeaderValue| {
            let ms = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
            ms.is_some_and(|ms| ms > self.deadline_ms)
        };
        let headers = request.headers_mut();
        for (name, value) in self.headers.iter().filter(|(name, value)| *name != deadline || !is_long(value)) {
            headers.append(name.clone(), value.clone());
        }
        if !headers.contains_key(&deadline) {
            headers.insert(deadline, HeaderValue::from(self.deadline_ms));
        }
        request
    }
}

struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// Asks, and checks what holds of every answer.
async fn answer(router: &Router, asked: &Asked) -> Answer {
    let what = || format!("{} {}", asked.method, asked.uri);
    let asking = tokio::time::timeout(ANSWER_MAX, router.clone().oneshot(asked.request())).await;
    let response = asking.unwrap_or_else(|_| panic!("{} hangs", what())).expect("a router never fails");
    let (status, kind) = (response.status(), content_type(&response));
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{} is answered 500", what());
    assert!(response.headers().contains_key("x-request-id"), "{} is answered without its id", what());
    // A stream ends when its reader goes.
    let follows = kind == "text/event-stream"
        || asked.uri.query().is_some_and(|query| query.contains("follow") || query.contains('%'));
    if status.is_success() && follows {
        return Answer { status, body: Vec::new() };
    }
    let body = axum::body::to_bytes(response.into_body(), 64 << 20);
    let body = tokio::time::timeout(ANSWER_MAX, body).await.unwrap_or_else(|_| panic!("{} never ends", what()));
    let body = body.map(Vec::from).unwrap_or_default();
    if asked.method == Method::HEAD {
        assert!(body.is_empty(), "{} has a body", what());
    } else if status.is_client_error() || status.is_server_error() {
        if !asked.uri.path().ends_with("readyz") {
            assert_eq!(kind, "application/problem+json", "{}", what());
            let problem: Problem = serde_json::from_slice(&body).expect("a problem");
            assert!(problem.status == status.as_u16() && !problem.detail.is_empty(), "{} {problem:?}", what());
        }
    } else if kind == "application/json" {
        serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
    }
    Answer { status, body }
}

fn content_type(response: &Response) -> String {
    response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned()
}
