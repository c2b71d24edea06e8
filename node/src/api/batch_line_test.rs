//! What lines of a batch are taken for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::replication::ServiceError;
use coequal_protocol::Ballot;
use coequal_types::NodeId;

fn context() -> BatchContext {
    BatchContext {
        database: DatabaseId::from_u128(1),
        collection: "c".parse().unwrap(),
        name: WriteName { text: "batch".into(), chosen: true },
        limit: Limit::document(1000),
    }
}
fn read(text: &str) -> Line {
    context().read(7, text.as_bytes()).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}
fn refused(text: &str) -> (u16, String) {
    match context().read(7, text.as_bytes()) {
        Ok(line) => panic!("{text} was taken: {line:?}"),
        Err(bad) => (bad.error.problem().status, bad.error.problem().detail),
    }
}
fn body(line: &Line) -> &str {
    match &line.operation.kind {
        OperationKind::Put(body) | OperationKind::Create(body) | OperationKind::Patch { patch: body, .. } => {
            std::str::from_utf8(body).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn operations_keep_the_text_of_their_numbers() {
    let line = read(r#"{"op":"put","key":"a/b","document":{"n":12345678901234567890.10, "m":1E400}}"#);
    assert_eq!((line.key.as_str(), body(&line)), ("a/b", r#"{"n":12345678901234567890.10,"m":1E400}"#));
    assert!(matches!(line.operation.kind, OperationKind::Put(_)));
    assert_eq!(line.place.collection(), "c");
}

#[test]
fn each_op_has_its_kind() {
    assert!(matches!(read(r#"{"op":"create","key":"k","document":{}}"#).operation.kind, OperationKind::Create(_)));
    assert!(matches!(
        read(r#"{"op":"patch","key":"k","document":{"a":null}}"#).operation.kind,
        OperationKind::Patch { .. }
    ));
    assert!(matches!(read(r#"{"op":"delete","key":"k"}"#).operation.kind, OperationKind::Delete));
    assert!(matches!(read(r#"{"\u006fp":"delete","key":"k"}"#).operation.kind, OperationKind::Delete));
}

#[test]
fn a_document_with_its_key_is_put() {
    let line = read(r#"{"_key":"k","_version":9,"_stamp":"x","a":1}"#);
    assert_eq!((line.key.as_str(), body(&line)), ("k", r#"{"a":1}"#));
    let like_an_operation = read(r#"{"op":"put","key":"x","colour":"red","_key":"k"}"#);
    assert_eq!(body(&like_an_operation), r#"{"op":"put","key":"x","colour":"red"}"#);
    let number = read(r#"{"op":1,"key":"x","_key":"k"}"#);
    assert_eq!((number.key.as_str(), body(&number)), ("k", r#"{"op":1,"key":"x"}"#));
}

#[test]
fn if_match_is_a_tag_a_star_or_a_version() {
    let condition = |text: &str| read(&format!(r#"{{"op":"delete","key":"k","ifMatch":{text}}}"#)).operation.condition;
    let stamp = Ballot::ordinary(5, NodeId(6), 7);
    assert_eq!(condition(&format!(r#""\"3-{stamp}\"""#)), Condition::Revision { version: 3, stamp });
    assert_eq!(condition(r#""*""#), Condition::Present);
    assert_eq!(condition("3"), Condition::Version(3));
    for bad in ["3.0", "-1", "null", "\"3\"", "[]", "99999999999999999999"] {
        assert_eq!(refused(&format!(r#"{{"op":"delete","key":"k","ifMatch":{bad}}}"#)).0, 422, "{bad}");
    }
}

#[test]
fn names_of_lines_come_from_the_batch_or_from_the_line() {
    let id = |line: &Line| line.operation.request.unwrap().0;
    let (by_batch, by_line) =
        (read(r#"{"op":"delete","key":"k"}"#), read(r#"{"op":"delete","key":"k","requestId":"r"}"#));
    assert_eq!((by_batch.name.as_str(), by_line.name.as_str()), ("batch/7", "r"));
    assert_ne!(id(&by_batch), id(&by_line));
    assert_eq!(id(&read(r#"{"op":"delete","key":"k","requestId":"batch/7"}"#)), id(&by_batch));
    assert_eq!(refused(r#"{"op":"delete","key":"k","requestId":"a b"}"#).0, 422);
    assert_eq!(refused(r#"{"op":"delete","key":"k","requestId":7}"#).0, 422);
}

#[test]
fn bad_lines_say_what_is_wrong_with_them() {
    for (text, status, word) in [
        ("", 400, "not JSON"),
        ("{", 400, "not JSON"),
        ("[]", 422, "an array"),
        ("{}", 422, "has no key"),
        (r#"{"op":"put","document":{}}"#, 422, "has no key"),
        (r#"{"op":"put","key":"k"}"#, 422, "needs a document"),
        (r#"{"op":"delete","key":"k","document":{}}"#, 422, "takes no document"),
        (r#"{"op":"upsert","key":"k"}"#, 422, "\"upsert\" is not known"),
        (r#"{"op":"put","key":"","document":{}}"#, 400, "is empty"),
        (r#"{"op":"put","key":"k","document":[]}"#, 422, "an array"),
        (r#"{"op":"put","key":"k","document":{"_key":"l"}}"#, 422, "does not agree"),
        (r#"{"op":"put","key":"k","document":{"a":1,"a":2}}"#, 422, "twice"),
        (r#"{"op":"put","op":"put","key":"k","document":{}}"#, 422, "twice"),
        (r#"{"op":"create","key":"k","document":{},"ifMatch":"*"}"#, 422, "takes no ifMatch"),
        (r#"{"op":"put","key":"k","document":{}} x"#, 400, "not JSON"),
    ] {
        let (found, detail) = refused(text);
        assert!(found == status && detail.contains(word), "{text}: {found} {detail}");
    }
    let large = format!(r#"{{"_key":"k","a":"{}"}}"#, "x".repeat(1000));
    assert_eq!(refused(&large).0, 413);
    assert_eq!(context().read(1, b"{\"_key\":\"\xff\"}").expect_err("not UTF-8").error.problem().status, 400);
}

#[test]
fn results_are_one_line_each() {
    let stamp = Ballot::ordinary(5, NodeId(6), 7);
    let written = |effect| Ok(Written { version: 2, stamp, effect });
    let mut out = Vec::new();
    push_result(&mut out, read(r#"{"_key":"k"}"#), written(Effect::Created));
    push_result(&mut out, read(r#"{"_key":"k"}"#), written(Effect::Replaced));
    push_result(&mut out, read(r#"{"op":"delete","key":"k"}"#), written(Effect::Deleted));
    push_result(&mut out, read(r#"{"_key":"k"}"#), Err(ServiceError::OutcomeUnknown));
    push_bad(&mut out, context().read(8, b"[]").expect_err("bad"));
    let lines: Vec<serde_json::Value> =
        std::str::from_utf8(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<u64> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 200, 204, 503, 422]);
    assert_eq!(lines[0], serde_json::json!({"key": "k", "status": 201, "version": 2, "stamp": stamp.to_string()}));
    assert_eq!((&lines[3]["error"]["requestId"], &lines[3]["line"]), (&"batch/7".into(), &7.into()));
    assert_eq!((lines[4].get("key"), &lines[4]["line"]), (None, &8.into()));
}
