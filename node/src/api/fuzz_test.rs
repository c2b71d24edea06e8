//! What must hold of any text that a client sends in a header, a query or a line of a batch.

use super::batch_line::{BatchContext, push_bad};
use super::body::{self, Limit};
use super::headers::{BodyKind, check_content};
use super::idempotency::WriteName;
use super::preconditions::{self, ReadAnswer, ReadCondition, etag};
use super::query::Query;
use super::{changes, listing, paths, session};
use coequal_protocol::Ballot;
use coequal_protocol::message::{Condition, OperationKind};
use coequal_types::rest::{AddNode, BatchError, SettingsPatch};
use coequal_types::{DatabaseId, DatabaseSettings, Document, DocumentKey};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The first byte says what the rest is meant to be.
pub fn tokens(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => batch_line(rest),
        1 => headers(rest),
        2 => settings(rest),
        _ => {
            if let Ok(text) = std::str::from_utf8(rest) {
                stamps(text);
                cursors(text);
                queries(text);
            }
        }
    }
}

fn stamps(text: &str) {
    let Ok(stamp) = text.parse::<Ballot>() else { return };
    assert_eq!(stamp.to_string().parse(), Ok(stamp), "a stamp leads back");
    let tag = [(header::IF_MATCH, HeaderValue::from_str(&etag(7, stamp)).expect("a header"))];
    let condition = preconditions::write_condition(&HeaderMap::from_iter(tag)).expect("an entity tag of ours");
    assert_eq!(condition, Condition::Revision { version: 7, stamp }, "an entity tag leads back");
}

fn cursors(text: &str) {
    if let Ok(key) = listing::read_cursor(text) {
        assert!(listing::write_cursor(key.as_str()).eq_ignore_ascii_case(text), "a cursor of a list leads back");
    }
    if let Ok(key) = text.parse::<DocumentKey>() {
        assert_eq!(listing::read_cursor(&listing::write_cursor(key.as_str())), Ok(key.clone()), "a key leads back");
        let segment = paths::decode_segment(&percent_encoded(key.as_str())).expect("an encoded key");
        assert_eq!(segment, key.as_str(), "a key in a path leads back");
    }
    if let Ok(cursor) = changes::read_cursor(text) {
        assert_eq!(changes::write_cursor(cursor), text, "a cursor of changes leads back");
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn queries(text: &str) {
    let known = ["prefix", "start", "limit", "cursor", "since", "follow", "consistency"];
    if let Ok(query) = Query::read(Some(text), &known) {
        let limit = query.number("limit", 1, 1000);
        assert!(limit.is_err() || limit.is_ok_and(|limit| limit.is_none_or(|limit| (1..=1000).contains(&limit))));
        let _either = query.flag("follow");
    }
    if let Ok(name) = WriteName::chosen(text) {
        assert!(name.chosen && name.text == text && (1..=255).contains(&text.len()), "{name:?}");
        assert_eq!(name.request_id(DatabaseId::nil()), name.request_id(DatabaseId::nil()));
    }
}

/// Lines of `name: value`.
fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(Some(seen)) = session::read(&headers) {
        let mut answer = HeaderMap::new();
        session::write(&mut answer, Some(seen), None);
        assert_eq!(session::read(&answer), Ok(Some(seen)), "a session leads back");
    }
    let condition = preconditions::write_condition(&headers);
    if !headers.contains_key(header::IF_MATCH) && !headers.contains_key(header::IF_NONE_MATCH) {
        assert_eq!(condition, Ok(Condition::Any));
    }
    if let Ok(read) = ReadCondition::of(&headers) {
        let answer = read.check(&etag(1, Ballot::ordinary(1, coequal_types::NodeId(2), 3)));
        assert!(answer == ReadAnswer::Send || condition != Ok(Condition::Any), "nothing was asked for");
    }
    let _either = WriteName::of(&headers);
    for kind in [BodyKind::Json, BodyKind::MergePatch, BodyKind::NdJson] {
        let _either = check_content(&headers, kind);
    }
    let _either = body::content_length(&headers);
}

fn settings(text: &[u8]) {
    if let Ok(settings) = body::parse_settings::<DatabaseSettings>(text) {
        let written = serde_json::to_vec(&settings).expect("JSON");
        assert_eq!(body::parse_settings::<DatabaseSettings>(&written), Ok(settings), "settings lead back");
    }
    let _either = body::parse_settings::<SettingsPatch>(text);
    let _either = body::parse_settings::<AddNode>(text);
}

fn batch_line(text: &[u8]) {
    let context = BatchContext {
        database: DatabaseId::nil(),
        collection: "c".parse().expect("a name"),
        name: WriteName { text: "n".to_owned(), chosen: true },
        limit: Limit::document(1 << 16),
    };
    match context.read(7, text) {
        Ok(line) => {
            assert!(line.key.parse::<DocumentKey>().is_ok_and(|key| key.as_str() == line.place.document_key()));
            assert!(line.number == 7 && line.operation.request.is_some() && !line.name.is_empty(), "{line:?}");
            if let OperationKind::Put(body) | OperationKind::Create(body) | OperationKind::Patch { patch: body, .. } =
                &line.operation.kind
            {
                assert_eq!(Document::parse(body).expect("a document").body, body, "in the form that is kept");
            }
        }
        Err(bad) => {
            let mut out = Vec::new();
            push_bad(&mut out, bad);
            let line = out.strip_suffix(b"\n").expect("a line");
            assert!(!line.contains(&b'\n'), "one line");
            let error: BatchError = serde_json::from_slice(line).expect("JSON");
            assert!((400..500).contains(&error.status) && error.line == 7 && !error.error.detail.is_empty());
        }
    }
}
