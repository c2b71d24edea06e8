//! The change feed of this node, for clients: NDJSON or server-sent events, once or for as long as the
//! client listens. An entry is the newest state of a document; its cursor leads on behind it.

use super::ApiState;
use super::listing::document_text;
use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::{self, Query};
use super::shell::Deadline;
use crate::replication::service::{ChangeCursor, ChangeEntry};
use crate::replication::{DatabaseService, ServiceError};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use std::time::{Duration, Instant};

/// Header with which a browser resumes server-sent events.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Entries of an answer that does not follow, unless the request says.
const LIMIT_DEFAULT: usize = 1000;
/// Entries of an answer at most.
const LIMIT_MAX: usize = 1_000_000;
/// Entries that are read at once.
const STEP_ENTRIES: usize = 256;
/// How often a following stream shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a following stream waits at least before it reads again.
const PAUSE: Duration = Duration::from_millis(5);

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    NdJson,
    Events,
}

/// Where a stream of changes stands.
struct Position {
    service: DatabaseService,
    format: Format,
    after: Option<ChangeCursor>,
    /// Entries that may still be sent.
    left: usize,
    follow: bool,
    read: Option<Vec<ChangeEntry>>,
    deadline: Deadline,
}

/// `GET …/changes`
pub async fn stream(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    let query = Query::read(uri.query(), &["since", "follow", "limit"])?;
    let format = accepted(&headers);
    let follow = query.flag("follow")?.unwrap_or(format == Format::Events);
    let limit = query.number("limit", 1, LIMIT_MAX)?;
    let left = limit.unwrap_or(if follow { usize::MAX } else { LIMIT_DEFAULT });
    let resumed = super::headers::single(&headers, &LAST_EVENT_ID)?.filter(|text| !text.is_empty());
    let after = query.get("since").or(resumed).map(read_cursor).transpose()?;
    let service = state.service.database(&database)?;
    let mut position = Position { service, format, after, left, follow, read: None, deadline };
    // The first step is taken before the head of the answer, so that a void cursor is a 410.
    position.read = Some(position.next_entries().await?);
    let body = Body::from_stream(futures::stream::try_unfold(position, step));
    let mut response = Response::new(body);
    let media = match format {
        Format::NdJson => "application/x-ndjson",
        Format::Events => "text/event-stream",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn accepted(headers: &HeaderMap) -> Format {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media = texts.flat_map(|text| text.split(',')).filter_map(|part| part.split(';').next());
    if media.any(|name| name.trim().eq_ignore_ascii_case("text/event-stream")) {
        Format::Events
    } else {
        Format::NdJson
    }
}

impl Position {
    async fn next_entries(&self) -> Result<Vec<ChangeEntry>, Refusal> {
        let entries = self.service.changes(self.after, self.left.min(STEP_ENTRIES));
        let entries = tokio::time::timeout_at(self.deadline.again().at.into(), entries).await;
        let entries: Result<_, ServiceError> =
            entries.map_err(|_| RequestError::DeadlineExceeded { written: false })?;
        Ok(entries?)
    }

    /// True when there may be something new; false when it is time for a heartbeat.
    async fn wait(&self) -> bool {
        let heartbeat = Instant::now() + HEARTBEAT;
        // Changes come in groups; the pause also bounds how often an idle feed is read.
        tokio::time::sleep(PAUSE).await;
        let change = self.service.wait_for_change(self.after, heartbeat);
        tokio::time::timeout_at(heartbeat.into(), change).await.is_ok() && Instant::now() < heartbeat
    }
}

/// One piece of the answer: some entries, or a heartbeat.
async fn step(mut position: Position) -> Result<Option<(Bytes, Position)>, std::io::Error> {
    while position.left > 0 {
        let entries = match position.read.take() {
            Some(entries) => entries,
            None => position.next_entries().await.map_err(|refusal| std::io::Error::other(refusal.problem().detail))?,
        };
        let Some(last) = entries.last() else {
            if !position.follow {
                return Ok(None);
            }
            if position.wait().await {
                continue;
            }
            return Ok(Some((Bytes::from_static(heartbeat_text(position.format)), position)));
        };
        position.after = Some(last.cursor);
        let mut out = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.key.collection().starts_with('_')) {
            push_entry(&mut out, entry, position.format);
            position.left = position.left.saturating_sub(1);
        }
        if !out.is_empty() {
            return Ok(Some((Bytes::from(out), position)));
        }
    }
    Ok(None)
}

fn heartbeat_text(format: Format) -> &'static [u8] {
    match format {
        Format::NdJson => b"\n",
        Format::Events => b":\n\n",
    }
}

/// The cursor as text: feed and sequence in hexadecimal digits.
pub(super) fn write_cursor(cursor: ChangeCursor) -> String {
    format!("{:016x}{:016x}", cursor.feed, cursor.sequence)
}

/// The cursor that a text says.
pub(super) fn read_cursor(text: &str) -> Result<ChangeCursor, RequestError> {
    let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts = if plain { text.split_at_checked(16) } else { None };
    let number = |part: &str| u64::from_str_radix(part, 16).ok();
    parts
        .and_then(|(feed, sequence)| Some(ChangeCursor { feed: number(feed)?, sequence: number(sequence)? }))
        .ok_or_else(|| query::wrong("since", text, "send the cursor of an entry as it came"))
}

fn push_entry(out: &mut Vec<u8>, entry: &ChangeEntry, format: Format) {
    let cursor = write_cursor(entry.cursor);
    if format == Format::Events {
        out.extend_from_slice(format!("id: {cursor}\ndata: ").as_bytes());
    }
    let revision = &entry.revision;
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let head = format!(
        "{{\"cursor\":\"{cursor}\",\"collection\":{},\"key\":{},\"version\":{},\"stamp\":\"{}\",\"deleted\":{}",
        text(entry.key.collection()),
        text(entry.key.document_key()),
        revision.version,
        revision.stamp,
        revision.is_tombstone(),
    );
    out.extend_from_slice(head.as_bytes());
    if let Some(document) = document_text(&entry.key, revision) {
        out.extend_from_slice(b",\"document\":");
        out.extend_from_slice(&document);
    }
    out.extend_from_slice(b"}\n");
    if format == Format::Events {
        out.push(b'\n');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use coequal_protocol::{Ballot, Key, Revision};
    use coequal_types::NodeId;
    use coequal_types::rest::ChangeLine;
    use std::sync::Arc;

    fn entry(body: Option<&'static str>) -> ChangeEntry {
        let body = body.map(|text| Bytes::from_static(text.as_bytes()));
        let revision = Revision { version: 2, stamp: Ballot::ordinary(1, NodeId(1), 1), body, history: Vec::new() };
        ChangeEntry {
            cursor: ChangeCursor { feed: 5, sequence: 6 },
            key: Key::of("c", "k\""),
            revision: Arc::new(revision),
        }
    }
    fn text(entry: &ChangeEntry, format: Format) -> String {
        let mut out = Vec::new();
        push_entry(&mut out, entry, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cursors_lead_back_and_others_are_refused() {
        let cursor = ChangeCursor { feed: u64::MAX, sequence: 7 };
        assert_eq!(read_cursor(&write_cursor(cursor)), Ok(cursor));
        for bad in ["", "0", &"0".repeat(31), &"G".repeat(32), &"0".repeat(33), &"ä".repeat(16)] {
            assert!(matches!(read_cursor(bad), Err(RequestError::MalformedQuery(_))), "{bad}");
        }
    }

    #[test]
    fn entries_are_lines_of_json() {
        let line: ChangeLine = serde_json::from_str(&text(&entry(Some("{\"a\":1.0}")), Format::NdJson)).unwrap();
        assert_eq!((line.collection.as_str(), line.key.as_str(), line.deleted), ("c", "k\"", false));
        assert_eq!(line.document.unwrap()["a"].to_string(), "1.0");
        let gone: ChangeLine = serde_json::from_str(&text(&entry(None), Format::NdJson)).unwrap();
        assert!(gone.deleted && gone.document.is_none());
    }

    #[test]
    fn events_carry_their_cursor_as_id() {
        let text = text(&entry(Some("{}")), Format::Events);
        assert!(
            text.starts_with("id: 00000000000000050000000000000006\ndata: {\"cursor\"") && text.ends_with("}\n\n"),
            "{text}"
        );
    }

    #[test]
    fn the_format_follows_accept() {
        let format = |text: &str| accepted(&HeaderMap::from_iter([(header::ACCEPT, text.parse().unwrap())]));
        assert_eq!(format("text/event-stream"), Format::Events);
        assert_eq!(format("text/html, text/event-stream;q=0.5"), Format::Events);
        assert_eq!(format("*/*"), Format::NdJson);
        assert_eq!(accepted(&HeaderMap::new()), Format::NdJson);
    }
}
