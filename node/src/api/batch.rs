//! Many writes in one request: NDJSON in, NDJSON out, results in the order of the lines.
//!
//! ```text
//! body ─► lines ─► window being filled ─► windows being written (at most 2, in turn with other batches') ─► results ─► answer
//! ```
//!
//! Each stage is bounded: a client that does not read its results is not read from either, once the
//! results waiting for it reach their bound. Windows that share a key are not written at the same time,
//! so writes of one key keep their order.

use super::batch_line::{BadLine, BatchContext, LINE_EXTRA_BYTES, Line, push_bad, push_result};
use super::body::{self, Limit};
use super::headers::{BodyKind, check_content};
use super::idempotency::WriteName;
use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::Query;
use super::shell::Deadline;
use super::{ApiState, session};
use crate::replication::service::Written;
use crate::replication::{DatabaseService, ServiceError};
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use coequal_protocol::Key;
use coequal_protocol::message::Operation;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use http::{HeaderMap, HeaderValue, Uri, header};
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

/// Lines of a window at most.
const WINDOW_LINES: usize = 256;
/// Bytes of a window at most, but for its last line.
const WINDOW_BYTES: usize = 1 << 20;
/// Windows that are being written at once.
const WINDOWS_IN_FLIGHT: usize = 2;
/// Windows whose results may wait for the client.
const RESULTS_WAITING: usize = 64;
/// How long a window that is not full waits for more lines.
const LINGER: Duration = Duration::from_millis(2);
/// How long a client may neither send lines nor take results.
const IDLE: Duration = Duration::from_secs(60);

/// `POST …/documents:batch`
pub async fn write(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (database, collection) = (names.database()?, names.collection()?);
    Query::read(uri.query(), &[])?;
    check_content(&headers, BodyKind::NdJson)?;
    session::read(&headers)?;
    let name = WriteName::of(&headers)?;
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
        let fault =
            "a batch has a precondition for each line: ifMatch of its operation; leave If-Match and If-None-Match out";
        return Err(RequestError::MalformedHeader(fault.to_owned()).into());
    }
    let service = state.service.database(&database)?;
    let limit = Limit::document(state.settings.document_bytes_max);
    let line_bytes_max = limit.bytes + LINE_EXTRA_BYTES;
    let room = (WINDOWS_IN_FLIGHT + 1) * (WINDOW_BYTES + line_bytes_max);
    let declared = body::content_length(&headers).and_then(|length| usize::try_from(length).ok()).unwrap_or(room);
    let held = state.shell.admission.body(declared.min(room))?;
    let context = BatchContext { database: service.uuid(), collection, name, limit };
    let lines = Lines::new(body.into_data_stream(), line_bytes_max);
    // One place more, for the error that ends an answer which is not whole.
    let (results, waiting) = mpsc::channel(RESULTS_WAITING + 1);
    let written = move |writes| write_window(service.clone(), writes, deadline);
    tokio::spawn(async move {
        let _held = held;
        run(lines, context, written, results).await;
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(waiting)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

type Writes = Vec<(Key, Operation)>;
type Results = Vec<Result<Written, ServiceError>>;

async fn write_window(service: DatabaseService, writes: Writes, deadline: Deadline) -> Results {
    service.write_in_turn(writes, deadline.length).await
}

/// A window: lines that are written together, and the bad ones between them.
#[derive(Debug, Default)]
struct Window {
    lines: Vec<Result<Line, BadLine>>,
    keys: HashSet<Key>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, line: Result<Line, BadLine>, bytes: usize) {
        if let Ok(line) = &line {
            self.keys.insert(line.place.clone());
        }
        self.lines.push(line);
        self.bytes += bytes;
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= WINDOW_LINES || self.bytes >= WINDOW_BYTES
    }

    /// Writes the good lines and puts the results of all in order.
    async fn write<F: Future<Output = Results>>(self, write: impl FnOnce(Writes) -> F) -> Bytes {
        let good = self.lines.iter().filter_map(|line| line.as_ref().ok());
        let writes: Writes = good.map(|line| (line.place.clone(), line.operation.clone())).collect();
        let mut results = if writes.is_empty() { Vec::new() } else { write(writes).await }.into_iter();
        let mut out = Vec::with_capacity(self.lines.len() * 120);
        for line in self.lines {
            match line {
                // The engine answers every write; if it did not, nothing is known about this one.
                Ok(line) => push_result(&mut out, line, results.next().unwrap_or(Err(ServiceError::OutcomeUnknown))),
                Err(bad) => push_bad(&mut out, bad),
            }
        }
        Bytes::from(out)
    }
}

/// Runs a batch to its end, or until the client is gone.
async fn run<W, F>(
    mut lines: Lines,
    context: BatchContext,
    write: W,
    results: mpsc::Sender<Result<Bytes, std::io::Error>>,
) where
    W: Fn(Writes) -> F + Clone + Send + 'static,
    F: Future<Output = Results> + Send + 'static,
{
    // Kept from the beginning: when the client takes nothing, there is no other place.
    let Ok(end) = results.clone().reserve_owned().await else { return };
    let mut in_flight: FuturesOrdered<AbortOnDropHandle<Bytes>> = FuturesOrdered::new();
    let mut keys_in_flight: VecDeque<HashSet<Key>> = VecDeque::new();
    let mut next: Option<Window> = None;
    let mut filling = Window::default();
    loop {
        if let Some(window) = next.take() {
            let shares = keys_in_flight.iter().any(|keys| !keys.is_disjoint(&window.keys));
            if in_flight.len() < WINDOWS_IN_FLIGHT && !shares {
                keys_in_flight.push_back(window.keys.clone());
                let write = write.clone();
                // A task of its own: while results wait for a slow client, it ends and lets others have its turn.
                in_flight.push_back(AbortOnDropHandle::new(tokio::spawn(window.write(write))));
            } else {
                next = Some(window);
            }
        }
        if lines.ended && filling.lines.is_empty() && next.is_none() && in_flight.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            Some(done) = in_flight.next(), if !in_flight.is_empty() => {
                keys_in_flight.pop_front();
                let Ok(done) = done else { return abort(end) };
                match tokio::time::timeout(IDLE, results.send(Ok(done))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => return abort(end),
                }
            }
            () = lines.fill(&mut filling, &context), if next.is_none() && !(lines.ended && filling.lines.is_empty()) => {
                if !filling.lines.is_empty() {
                    next = Some(std::mem::take(&mut filling));
                }
            }
            () = results.closed() => return,
        }
    }
}

/// The client takes no results, or a window has none: the answer is broken off, never ended as if it were whole.
fn abort(end: OwnedPermit<Result<Bytes, std::io::Error>>) {
    end.send(Err(std::io::Error::from(std::io::ErrorKind::TimedOut)));
}

/// Lines of a body. Being dropped in the middle of `fill` loses nothing.
struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
    /// Lines that have begun so far.
    number: u64,
    /// Inside a line that is too long, up to its end.
    skipping: bool,
    /// The body has ended and its last line was given out.
    ended: bool,
    body_ended: bool,
}

impl Lines {
    fn new(body: BodyDataStream, line_bytes_max: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            line_bytes_max,
            number: 0,
            skipping: false,
            ended: false,
            body_ended: false,
        }
    }

    /// Adds lines until the window is full, the body has ended, or nothing more came for a little while.
    async fn fill(&mut self, window: &mut Window, context: &BatchContext) {
        loop {
            self.take_lines(window, context);
            if window.is_full() || self.ended {
                return;
            }
            let patience = if window.lines.is_empty() { IDLE } else { LINGER };
            match tokio::time::timeout(patience, self.body.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => self.body_ended = true,
                Ok(Some(Err(error))) => return self.stop(window, RequestError::BodyBroken(error.to_string())),
                Err(_) if window.lines.is_empty() => return self.stop(window, RequestError::BodyTimeout),
                Err(_) => return,
            }
        }
    }

    fn stop(&mut self, window: &mut Window, error: RequestError) {
        self.ended = true;
        window.push(Err(BadLine { number: self.number + 1, key: None, error: error.into() }), 0);
    }

    fn take_lines(&mut self, window: &mut Window, context: &BatchContext) {
        while !window.is_full() && !self.ended {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    let line = self.buffer.split_to(self.searched + at + 1);
                    self.searched = 0;
                    self.take_line(&line, window, context);
                }
                None if self.body_ended => {
                    let line = self.buffer.split();
                    self.take_line(&line, window, context);
                    self.ended = true;
                }
                None => {
                    self.searched = self.buffer.len();
                    return self.bound(window, context);
                }
            }
        }
    }

    /// Forgets the beginning of a line that is longer than any may be, and reports it once.
    fn bound(&mut self, window: &mut Window, context: &BatchContext) {
        if self.skipping || self.buffer.len() > self.line_bytes_max {
            if !self.skipping {
                self.number += 1;
                let error = context.limit.exceeded().into();
                window.push(Err(BadLine { number: self.number, key: None, error }), self.line_bytes_max);
            }
            self.skipping = true;
            self.buffer.clear();
            self.searched = 0;
        }
    }

    fn take_line(&mut self, line: &[u8], window: &mut Window, context: &BatchContext) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        let text = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.number += 1;
        if text.len() > self.line_bytes_max {
            let error = context.limit.exceeded().into();
            window.push(Err(BadLine { number: self.number, key: None, error }), text.len());
        } else if !text.is_empty() {
            window.push(context.read(self.number, text), text.len());
        }
    }
}

#[cfg(test)]
#[path = "batch_test.rs"]
mod tests;
