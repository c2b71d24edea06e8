//! The table of errors, row by row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use coequal_protocol::Ballot;
use coequal_types::{DatabaseStatus, NodeId};

fn database() -> DatabaseName {
    "orders".parse().unwrap()
}

fn every_service_error() -> Vec<(ServiceError, u16, &'static str, Option<&'static str>)> {
    use ServiceError as E;
    let stamp = Ballot::ordinary(1, NodeId(2), 3);
    let not_applied = Some("not-applied");
    vec![
        (E::Rejected(Rejection::NotFound), 404, "document-not-found", None),
        (E::Rejected(Rejection::Exists { version: 4, stamp }), 409, "document-exists", None),
        (E::Rejected(Rejection::PreconditionFailed { current: Some((4, stamp)) }), 412, "precondition-failed", None),
        (E::Rejected(Rejection::TooLarge { bytes: 5000, bytes_max: 4096 }), 413, "too-large", None),
        (E::Rejected(Rejection::NotAcceptable("no".into())), 422, "write-not-acceptable", None),
        (E::DatabaseNotFound(database()), 404, "database-not-found", None),
        (E::DatabaseNotAvailable(database(), NodeId(2)), 503, "database-not-available", not_applied),
        (
            E::Synchronizing { name: database(), status: DatabaseStatus::Synchronizing, progress: None },
            503,
            "synchronizing",
            not_applied,
        ),
        (E::NameConflict("x".into()), 409, "name-conflict", None),
        (E::Faulty { name: database(), reason: "x".into() }, 503, "database-faulty", not_applied),
        (E::NoQuorum { reached: 1, needed: 2 }, 503, "no-quorum", not_applied),
        (E::OutcomeUnknown, 503, "outcome-unknown", Some("unknown")),
        (E::Overloaded { what: "writes", limit: 9 }, 429, "overloaded", not_applied),
        (E::ShuttingDown, 503, "shutting-down", not_applied),
        (E::NoCluster, 503, "no-cluster", not_applied),
        (E::DiskFull, 507, "disk-full", not_applied),
        (E::CursorVoid("x".into()), 410, "cursor-void", None),
        (E::NotAcceptable("x".into()), 422, "not-acceptable", None),
        (E::NotFound("x".into()), 404, "not-found", None),
        (E::Conflict("x".into()), 409, "conflict", None),
        (
            E::WrongUuid { name: database(), actual: DatabaseId::from_u128(1), asked: DatabaseId::from_u128(2) },
            409,
            "wrong-uuid",
            None,
        ),
    ]
}

#[test]
fn every_error_of_the_engine_has_its_status_urn_and_outcome() {
    for (error, status, name, outcome) in every_service_error() {
        let problem = Refusal::from(error.clone()).problem();
        assert_eq!(problem.status, status, "{error:?}");
        assert_eq!(problem.kind, format!("urn:coequal:error:{name}"), "{error:?}");
        assert_eq!(problem.outcome.as_deref(), outcome, "{error:?}");
        assert!(!problem.detail.is_empty(), "{error:?}");
    }
}

#[test]
fn every_503_and_429_says_when_to_try_again() {
    for (error, status, ..) in every_service_error() {
        let response = Refusal::from(error).into_response();
        let retry = response.headers().contains_key(header::RETRY_AFTER);
        assert_eq!(retry, matches!(status, 429 | 503 | 507), "{response:?}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}

#[test]
fn a_failed_precondition_carries_the_current_etag_and_version() {
    let stamp = Ballot::ordinary(1, NodeId(2), 3);
    let error = ServiceError::Rejected(Rejection::PreconditionFailed { current: Some((4, stamp)) });
    let refusal = Refusal::from(error).about("k");
    assert_eq!((refusal.problem().version, refusal.problem().key.as_deref()), (Some(4), Some("k")));
    assert_eq!(refusal.into_response().headers()[header::ETAG], format!("\"4-{stamp}\""));
}

#[test]
fn only_an_unknown_outcome_names_the_request_id() {
    let unknown = Refusal::from(ServiceError::OutcomeUnknown).asked_as("abc").hint("do so").problem();
    assert_eq!(unknown.request_id.as_deref(), Some("abc"));
    assert!(unknown.detail.ends_with("; do so"));
    let known = Refusal::from(ServiceError::NoQuorum { reached: 0, needed: 2 }).asked_as("abc").hint("x").problem();
    assert_eq!(known.request_id, None);
}

#[test]
fn broken_json_is_400_and_json_that_cannot_be_a_document_is_422() {
    let status = |text: &str| match coequal_types::Document::parse(text.as_bytes()) {
        Err(error) => Refusal::from(error).problem().status,
        Ok(_) => 200,
    };
    for text in ["", "{", "\u{feff}{}", "{\"a\":\"\\ud800\"}", "{}x", "{\"a\":NaN}"] {
        assert_eq!(status(text), 400, "{text}");
    }
    let deep = format!("{{\"a\":{}", "[".repeat(200));
    for text in ["[]", "1", "{\"a\":1,\"a\":2}", "{\"_id\":1}", "{\"_key\":7}", deep.as_str()] {
        assert_eq!(status(text), 422, "{text}");
    }
    assert_eq!(status("{\"a\":1e999999}"), 200);
}

#[test]
fn a_method_that_is_not_allowed_names_those_that_are() {
    let error = RequestError::MethodNotAllowed { method: "BREW".into(), allow: "GET, HEAD".into() };
    let response = Refusal::from(error).into_response();
    assert_eq!(
        (response.status(), &response.headers()[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
    );
}
