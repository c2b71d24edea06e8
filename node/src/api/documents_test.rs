//! Answers about one document, without an engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use coequal_protocol::Revision;
use coequal_types::NodeId;
use std::sync::Arc;

fn stamp() -> Ballot {
    Ballot::ordinary(0x1234, NodeId(7), 2)
}
fn found(body: Option<&'static str>) -> ReadDocument {
    let body = body.map(|text| Bytes::from_static(text.as_bytes()));
    let revision = Revision { version: 3, stamp: stamp(), body, history: Vec::new() };
    ReadDocument { revision: Arc::new(revision), linearizable: false, age_ms: Some(1_042) }
}
fn condition(name: HeaderName, value: &str) -> ReadCondition {
    ReadCondition::of(&HeaderMap::from_iter([(name, value.parse().unwrap())])).unwrap()
}
fn answer(document: &ReadDocument, condition: &ReadCondition) -> Response {
    let key = "k".parse().unwrap();
    answer_read(document, &key, condition, None).unwrap_or_else(|refusal| refusal.into_response())
}
async fn text(response: Response) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_read_carries_tag_session_and_system_members() {
    let any = ReadCondition::of(&HeaderMap::new()).unwrap();
    let response = answer(&found(Some("{\"n\":1.50}")), &any);
    let tag = format!("\"3-{}\"", stamp());
    assert_eq!((response.status(), &response.headers()[header::ETAG]), (StatusCode::OK, &tag.parse().unwrap()));
    assert_eq!(response.headers()["coequal-session"], stamp().to_string());
    assert_eq!(response.headers()[CONSISTENCY], "local");
    assert_eq!(response.headers()[AGE], "1.042");
    assert_eq!(
        text(response).await,
        format!("{{\"_key\":\"k\",\"_version\":3,\"_stamp\":\"{}\",\"n\":1.50}}", stamp())
    );
}

#[tokio::test]
async fn preconditions_of_reads_answer_304_and_412() {
    let document = found(Some("{}"));
    let tag = etag(3, stamp());
    let not_modified = answer(&document, &condition(header::IF_NONE_MATCH, &tag));
    assert_eq!(
        (not_modified.status(), not_modified.headers().contains_key(header::ETAG)),
        (StatusCode::NOT_MODIFIED, true)
    );
    assert_eq!(text(not_modified).await, "");
    let failed = answer(&document, &condition(header::IF_MATCH, "\"other\""));
    assert_eq!(
        (failed.status(), &failed.headers()[header::ETAG]),
        (StatusCode::PRECONDITION_FAILED, &tag.parse().unwrap())
    );
}

#[test]
fn a_tombstone_is_not_found() {
    let any = ReadCondition::of(&HeaderMap::new()).unwrap();
    assert_eq!(answer(&found(None), &any).status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_write_answers_by_its_effect() {
    let written = |effect| Written { version: 2, stamp: stamp(), effect };
    let location = "/v1/databases/d/collections/c/documents/a%2Fb";
    let created = answer_write(&written(Effect::Created), "a/b", false, location, None);
    assert_eq!(
        (created.status(), &created.headers()[header::LOCATION]),
        (StatusCode::CREATED, &location.parse().unwrap())
    );
    assert_eq!(text(created).await, format!("{{\"_key\":\"a/b\",\"_version\":2,\"_stamp\":\"{}\"}}", stamp()));
    let replaced = answer_write(&written(Effect::Replaced), "k", false, location, None);
    assert_eq!((replaced.status(), replaced.headers().contains_key(header::LOCATION)), (StatusCode::OK, false));
    let deleted = answer_write(&written(Effect::Deleted), "k", true, location, None);
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(deleted.headers()["coequal-session"], stamp().to_string());
    assert_eq!(text(deleted).await, "");
}

#[test]
fn consistency_is_one_of_two_words() {
    let read = |raw: &str| read_consistency(&Query::read(Some(raw), &["consistency"]).unwrap());
    assert_eq!(read(""), Ok(Consistency::Default));
    assert_eq!(read("consistency=linearizable"), Ok(Consistency::Linearizable));
    assert!(read("consistency=strong").is_err() && read("consistency=").is_err());
}
