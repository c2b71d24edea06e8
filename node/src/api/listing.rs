//! Documents of a collection in key order, a page at a time. The answer is put together from the
//! documents' bytes.

use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::{self, Query};
use super::shell::Deadline;
use super::{ApiState, documents, json_bytes, session};
use crate::replication::DatabaseService;
use crate::replication::service::Page;
use axum::extract::State;
use axum::response::Response;
use coequal_protocol::{Key, Revision};
use coequal_types::document::{SYSTEM_BYTES, push_with_system_members, with_system_members};
use coequal_types::names::KEY_BYTES_MAX;
use coequal_types::{CollectionName, DocumentKey};
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;

/// Documents of a page unless the request says.
const LIMIT_DEFAULT: usize = 100;
/// Documents of a page at most.
const LIMIT_MAX: usize = 1000;
/// Bytes of a page, roughly: a page may hold fewer documents than asked for.
pub const PAGE_BYTES: usize = 4 << 20;

/// `GET …/documents`
pub async fn list(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (database, collection) = (names.database()?, names.collection()?);
    let query = Query::read(uri.query(), &["prefix", "start", "limit", "cursor"])?;
    let limit = query.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    let prefix = query.get("prefix").unwrap_or("");
    let after = after(&query, &collection)?;
    session::read(&headers)?;
    let service = state.service.database(&database)?;
    let begins = after.is_none();
    let page = service.page(&collection, prefix, after, limit, PAGE_BYTES);
    let page = tokio::time::timeout_at(deadline.at.into(), page)
        .await
        .map_err(|_| RequestError::DeadlineExceeded { written: false })??;
    if page.documents.is_empty() && begins && prefix.is_empty() {
        check_exists(&service, &collection, deadline).await?;
    }
    Ok(json_bytes(StatusCode::OK, page_text(&page)))
}

/// Refuses a collection that does not exist: an empty answer would hide a slip in its name.
pub async fn check_exists(
    service: &DatabaseService,
    collection: &CollectionName,
    deadline: Deadline,
) -> Result<(), RequestError> {
    if documents::collection_exists(service, collection, deadline).await {
        Ok(())
    } else {
        Err(RequestError::CollectionNotFound(collection.to_string(), service.name().clone()))
    }
}

fn after(query: &Query, collection: &CollectionName) -> Result<Option<Key>, RequestError> {
    let key = match (query.get("cursor"), query.get("start")) {
        (Some(_), Some(_)) => {
            let fault = "query parameters cursor and start contradict each other; the cursor alone leads on";
            return Err(RequestError::MalformedQuery(fault.to_owned()));
        }
        (Some(cursor), None) => Some(read_cursor(cursor)?.to_string()),
        (None, Some(start)) => {
            let start: DocumentKey = start.parse()?;
            just_before(start.as_str())
        }
        (None, None) => None,
    };
    Ok(key.map(|key| Key::of(collection.as_str(), &key)))
}

/// The cursor that leads on behind a key: hexadecimal digits.
pub fn write_cursor(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of a cursor.
pub fn read_cursor(cursor: &str) -> Result<DocumentKey, RequestError> {
    let wrong = || query::wrong("cursor", cursor, "send nextCursor of an answer as it came");
    if cursor.is_empty() || !cursor.len().is_multiple_of(2) || !cursor.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let digits = cursor.as_bytes().chunks_exact(2);
    let bytes: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes.ok_or_else(wrong)?).map_err(|_| wrong())?.parse().map_err(|_| wrong())
}

/// Text that is below `start` and not below any key that is: pages begin *behind* a key, and `start`
/// is to be on the page. `None` when every key is at or above `start`.
fn just_before(start: &str) -> Option<String> {
    let last = start.chars().next_back()?;
    let head = start.get(..start.len() - last.len_utf8())?;
    // Keys order by code point. The greatest text below `head + last` begins with the code point before
    // `last`, followed by the greatest code point more often than a key is long.
    let code = u32::from(last);
    let previous = char::from_u32(if code == 0xE000 { 0xD7FF } else { code.checked_sub(1)? })?;
    let fill = "\u{10FFFF}".repeat(KEY_BYTES_MAX / 4 + 1);
    Some(format!("{head}{previous}{fill}"))
}

/// A document as it is sent, or `None` for a tombstone.
pub fn document_text(key: &Key, revision: &Revision) -> Option<Vec<u8>> {
    let body = revision.body.as_ref()?;
    Some(with_system_members(body, key.document_key(), revision.version, revision.stamp))
}

/// The documents of a page, each followed by `separator`, with room for a little more.
pub fn documents_text(page: &Page, head: &[u8], separator: u8) -> Vec<u8> {
    let size = |(key, revision): &(Key, Arc<Revision>)| {
        SYSTEM_BYTES + key.as_bytes().len() + revision.body.as_ref().map_or(0, bytes::Bytes::len)
    };
    let mut out = Vec::with_capacity(SYSTEM_BYTES + page.documents.iter().map(size).sum::<usize>());
    out.extend_from_slice(head);
    for (key, revision) in &page.documents {
        if let Some(body) = &revision.body {
            push_with_system_members(&mut out, body, key.document_key(), revision.version, revision.stamp);
            out.push(separator);
        }
    }
    out
}

fn page_text(page: &Page) -> Vec<u8> {
    let mut out = documents_text(page, b"{\"documents\":[", b',');
    out.pop_if(|last| *last == b',');
    out.push(b']');
    if let Some(next) = &page.next_after {
        out.extend_from_slice(b",\"nextCursor\":\"");
        out.extend_from_slice(write_cursor(next.document_key()).as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use coequal_protocol::Ballot;
    use coequal_types::NodeId;
    use coequal_types::rest::DocumentPage;
    use proptest::prelude::*;

    fn entry(key: &str, body: &'static str) -> (Key, Arc<Revision>) {
        let body = Some(Bytes::from_static(body.as_bytes()));
        let revision = Revision { version: 1, stamp: Ballot::ordinary(1, NodeId(1), 1), body, history: Vec::new() };
        (Key::of("c", key), Arc::new(revision))
    }

    #[test]
    fn a_page_is_json_with_its_documents_and_the_way_on() {
        let documents = vec![entry("a", "{\"n\":1.0}"), entry("ü/\"", "{}")];
        let next_after = documents.last().map(|(key, _)| key.clone());
        let text = page_text(&Page { documents, next_after });
        assert!(String::from_utf8(text.clone()).unwrap().contains("\"n\":1.0"));
        let page: DocumentPage = serde_json::from_slice(&text).unwrap();
        assert_eq!((page.documents.len(), page.documents[1]["_key"].as_str()), (2, Some("ü/\"")));
        assert_eq!(read_cursor(&page.next_cursor.unwrap()).unwrap().as_str(), "ü/\"");
        assert_eq!(page_text(&Page::default()), b"{\"documents\":[]}");
    }

    #[test]
    fn cursors_that_no_answer_carried_are_refused() {
        for bad in ["", "6", "6g", "zz", "ff", "00", "+1", &"61".repeat(513)] {
            assert!(matches!(read_cursor(bad), Err(RequestError::MalformedQuery(_))), "{bad}");
        }
    }

    #[test]
    fn cursor_and_start_together_are_refused() {
        let query = Query::read(Some("cursor=61&start=a"), &["cursor", "start"]).unwrap();
        assert!(after(&query, &"c".parse().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn start_itself_is_on_the_page_and_nothing_below_it(start in "\\PC{1,8}", other in "\\PC{1,8}") {
            let (Ok(start), Ok(other)) = (start.parse::<DocumentKey>(), other.parse::<DocumentKey>()) else {
                return Ok(());
            };
            let before = just_before(start.as_str()).unwrap();
            prop_assert!(before.as_str() < start.as_str());
            prop_assert_eq!(other.as_str() > before.as_str(), other >= start);
        }

        #[test]
        fn cursors_lead_back_to_their_key(key in "\\PC{1,40}") {
            if let Ok(key) = key.parse::<DocumentKey>() {
                prop_assert_eq!(read_cursor(&write_cursor(key.as_str())).unwrap(), key);
            }
        }
    }
}
