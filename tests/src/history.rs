//! Clients that write down what they asked and what they were told, for a judge that knows nothing of the nodes
//! (`tests/porcupine`). An operation that got no clear answer is asked again under the same `Idempotency-Key`, at any
//! node: with all its retries it is one operation.

use crate::client::{Answer, Client};
use crate::random::Random;
use reqwest::Method;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const DOCUMENTS: &str = "/v1/databases/orders/collections/history/documents";
const JSON: (&str, &str) = ("content-type", "application/json");
/// A client gives one operation of so many up after its first unclear answer; the outcome stays unknown.
const GIVES_UP: u64 = 20;
/// Longer than any fault of a test lasts.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// One operation, as the judge reads it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    client: u64,
    key: String,
    op: &'static str,
    if_version: u64,
    if_absent: bool,
    sent: i64,
    call: i64,
    #[serde(rename = "return")]
    end: i64,
    status: u16,
    version: u64,
    a: i64,
    b: i64,
}

/// What all clients of one run share.
struct Shared {
    began: Instant,
    file: Mutex<BufWriter<File>>,
    stop: AtomicBool,
    values: AtomicI64,
    operations: AtomicU64,
    retries: AtomicU64,
    faults: Mutex<Vec<String>>,
}

/// A history that is being written.
pub struct History {
    path: PathBuf,
    shared: Arc<Shared>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

/// What a run was.
#[derive(Debug)]
pub struct Recorded {
    /// Where the operations stand.
    pub path: PathBuf,
    /// Operations with a known outcome or without.
    pub operations: u64,
    /// Requests that had to be asked again.
    pub retries: u64,
    /// Promises to a session that were broken: these need no judge.
    pub faults: Vec<String>,
}

impl History {
    /// `count` clients of all `nodes` work on `keys` documents until the history is ended.
    pub fn start(path: &Path, nodes: &[Client], count: u64, keys: u64, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            file: Mutex::new(BufWriter::new(File::create(path).expect("a file for the history"))),
            stop: AtomicBool::new(false),
            values: AtomicI64::new(0),
            operations: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            faults: Mutex::default(),
        });
        let clients = (0..count).map(|number| {
            let random = Random::new(seed.wrapping_mul(1_000).wrapping_add(number));
            let (nodes, shared) = (nodes.to_vec(), Arc::clone(&shared));
            let session = Session { number, seed, nodes, keys, random, shared, token: None, seen: BTreeMap::new() };
            tokio::spawn(session.run())
        });
        Self { path: path.to_owned(), clients: clients.collect(), shared }
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::Relaxed)
    }

    /// Lets every client finish what it has begun.
    pub async fn end(self) -> Recorded {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no client panics");
        }
        self.shared.file.lock().unwrap_or_else(PoisonError::into_inner).flush().expect("the history is written");
        Recorded {
            path: self.path,
            operations: self.shared.operations.load(Ordering::Relaxed),
            retries: self.shared.retries.load(Ordering::Relaxed),
            faults: self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Shared {
    fn nanoseconds(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).expect("a run of less than centuries")
    }

    fn write(&self, operation: &Operation) {
        let line = serde_json::to_string(operation).expect("numbers and words");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}").expect("the history is written");
        self.operations.fetch_add(1, Ordering::Relaxed);
    }
}

/// One client: it does one thing at a time, and keeps one session.
struct Session {
    number: u64,
    seed: u64,
    nodes: Vec<Client>,
    keys: u64,
    random: Random,
    shared: Arc<Shared>,
    token: Option<String>,
    /// Newest version of each key that an answer of this session showed, and its entity tag.
    seen: BTreeMap<String, (u64, String)>,
}

impl Session {
    async fn run(mut self) {
        for count in 0.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            match self.random.below(8) {
                0 => self.read_locally().await,
                1 | 2 => self.read().await,
                _ => self.write(count).await,
            }
        }
    }

    fn key(&mut self) -> String {
        format!("k{}", self.random.below(self.keys))
    }

    fn node(&mut self) -> Client {
        let at = self.random.below(self.nodes.len() as u64);
        self.nodes[usize::try_from(at).expect("a small number")].clone()
    }

    /// A promise to a session: what it has seen, it never sees older.
    async fn read_locally(&mut self) {
        let (key, node) = (self.key(), self.node());
        let token = self.token.clone().unwrap_or_default();
        let headers = [("coequal-session", token.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers[..] };
        let Ok(answer) = node.try_send(Method::GET, &format!("{DOCUMENTS}/{key}"), headers, "").await else { return };
        if answer.status == 200 {
            let version = answer.json()["_version"].as_u64().expect("a version");
            let seen = self.seen.get(&key).map_or(0, |(version, _)| *version);
            if version < seen {
                let fault = format!("client {} saw version {seen} of {key}, then {version}", self.number);
                self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
        }
        self.learn(&key, &answer);
    }

    fn learn(&mut self, key: &str, answer: &Answer) {
        if let Some(token) = &answer.session {
            self.token = Some(token.clone());
        }
        let version = answer.etag.as_deref().and_then(|tag| tag.trim_matches('"').split('-').next()?.parse().ok());
        if let (true, Some(version), Some(tag)) = (answer.status.is_success(), version, &answer.etag) {
            let newest = self.seen.entry(key.to_owned()).or_default();
            // An exact retry of a write shows the revision that it made, whatever came after it.
            *newest = newest.clone().max((version, tag.clone()));
        }
    }

    async fn read(&mut self) {
        let key = self.key();
        let path = format!("{DOCUMENTS}/{key}?consistency=linearizable");
        let operation = Operation { client: self.number, key, op: "read", ..Operation::default() };
        self.ask(operation, Method::GET, &path, Vec::new(), String::new()).await;
    }

    async fn write(&mut self, count: u64) {
        let key = self.key();
        let sent = self.shared.values.fetch_add(1, Ordering::Relaxed) + 1;
        let (op, method, body) = match self.random.below(10) {
            0 => ("delete", Method::DELETE, String::new()),
            1 | 2 => ("patch", Method::PATCH, format!("{{\"b\":{sent}}}")),
            _ => ("put", Method::PUT, format!("{{\"a\":{sent}}}")),
        };
        let mut operation = Operation { client: self.number, op, sent, ..Operation::default() };
        let name = format!("{}-{}-{count}", self.seed, self.number);
        let mut headers = vec![("idempotency-key".to_owned(), name)];
        if op == "patch" {
            headers.push(("content-type".to_owned(), "application/merge-patch+json".to_owned()));
        } else if op == "put" {
            headers.push((JSON.0.to_owned(), JSON.1.to_owned()));
        }
        match (self.random.below(4), self.seen.get(&key)) {
            (0, Some((version, tag))) => {
                operation.if_version = *version;
                headers.push(("if-match".to_owned(), tag.clone()));
            }
            (1, _) if op == "put" => {
                operation.if_absent = true;
                headers.push(("if-none-match".to_owned(), "*".to_owned()));
            }
            _ => {}
        }
        let path = format!("{DOCUMENTS}/{key}");
        operation.key = key;
        self.ask(operation, method, &path, headers, body).await;
    }

    /// Asks until the answer is clear, and writes the operation down.
    async fn ask(
        &mut self,
        mut operation: Operation,
        method: Method,
        path: &str,
        headers: Vec<(String, String)>,
        body: String,
    ) {
        let token = self.token.clone().unwrap_or_default();
        let mut headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if !token.is_empty() {
            headers.push(("coequal-session", &token));
        }
        let gives_up = operation.op != "read" && self.random.below(GIVES_UP) == 0;
        let deadline = Instant::now() + PATIENCE;
        operation.call = self.shared.nanoseconds();
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.node().try_send(method.clone(), path, &headers, body.clone()).await;
            if let Some(answer) = answer.ok().filter(is_clear) {
                self.learn(&operation.key.clone(), &answer);
                // A refusal is about the try that it answers: an earlier one may still be under way at another node, and
                // be done before its deadline. So the operation as a whole has no known outcome.
                let is_refusal = operation.op != "read" && !answer.status.is_success();
                if tries == 1 || !is_refusal {
                    operation.end = self.shared.nanoseconds();
                    take(&mut operation, &answer);
                }
                break;
            }
            // A read that nobody answers says nothing; a write may have been done.
            if gives_up || Instant::now() > deadline {
                break;
            }
            self.shared.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        self.shared.write(&operation);
    }
}

/// Whether an answer says what became of a request.
fn is_clear(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 200 | 201 | 204 | 412) || {
        answer.status == 404 && answer.body.contains("document-not-found")
    }
}

fn take(operation: &mut Operation, answer: &Answer) {
    operation.status = answer.status.as_u16();
    let Ok(document) = serde_json::from_str::<serde_json::Value>(&answer.body) else { return };
    let member = if answer.status.is_success() { "_version" } else { "version" };
    operation.version = document[member].as_u64().unwrap_or(0);
    operation.a = document["a"].as_i64().unwrap_or(0);
    operation.b = document["b"].as_i64().unwrap_or(0);
}
