//! The text of documents: what went in comes out, and merge patches do what RFC 7396 says, judged by plain values.

use coequal_types::document::{Document, merge_patch, with_system_members};
use serde_json::{Map, Value};

/// Between a document and a patch.
const SEPARATOR: u8 = 0x1e;

/// Reads one document, or a document and a patch to it.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == SEPARATOR);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let Some(target) = document(first) else { return };
    if let Some(patch) = second.and_then(document) {
        let patched = merge_patch(&target, &patch).expect("both were read");
        let again = Document::parse(&patched).expect("a patched document is a document");
        // A patch can make members of the top level, but none of the system's: it has none.
        assert_eq!(again.body, patched, "a patched document is in the form that is kept");
        let (mut expected, change) = (value(&target), value(&patch));
        merge(&mut expected, &change);
        assert_eq!(value(&patched), expected, "RFC 7396");
        assert_eq!(merge_patch(&patched, &patch).expect("again"), patched, "a patch twice is a patch once");
    }
}

/// The kept text of a document, if it is one, after the checks that hold for each alone.
fn document(text: &[u8]) -> Option<Vec<u8>> {
    let Ok(document) = Document::parse(text) else { return None };
    let body = document.body.to_vec();
    let again = Document::parse(&body).expect("the kept text is a document");
    assert_eq!((again.body.as_ref(), again.key), (&body[..], None), "the kept text stays as it is");

    let sent = serde_json::from_slice::<Value>(text);
    let Ok(Value::Object(mut sent)) = sent else {
        // Plain values refuse numbers beyond their range, which documents keep as text.
        let error = sent.expect_err("an object").to_string();
        assert!(error.contains("number out of range") || error.contains("recursion limit"), "{error}");
        return None;
    };
    assert_eq!(sent.get("_key").and_then(Value::as_str), document.key.as_ref().map(|key| key.as_str()));
    sent.retain(|name, _| !matches!(name.as_str(), "_key" | "_version" | "_stamp"));
    assert_eq!(value(&body), Value::Object(sent.clone()), "what went in");
    assert_eq!(numbers(text_of(&body)).len(), numbers_of(&Value::Object(sent)), "numbers stay text");

    let full = with_system_members(&body, "k\"ö\\", 7, "o1-2-3");
    let answer = Document::parse(&full).expect("an answer can be sent back");
    assert_eq!((answer.body.as_ref(), answer.key.expect("its key").as_str()), (&body[..], "k\"ö\\"));
    Some(body)
}

fn text_of(body: &[u8]) -> &str {
    std::str::from_utf8(body).expect("UTF-8")
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

/// Number texts of compact JSON.
fn numbers(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut in_string, mut escaped) = (Vec::new(), None, false, false);
    for (at, byte) in text.bytes().enumerate() {
        let is_number =
            !in_string && matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'E') || (byte == b'e' && start.is_some());
        match (is_number, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(&text[from..at]);
                start = None;
            }
            _ => {}
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    found
}

fn numbers_of(value: &Value) -> usize {
    match value {
        Value::Number(_) => 1,
        Value::Array(items) => items.iter().map(numbers_of).sum(),
        Value::Object(members) => members.values().map(numbers_of).sum(),
        _ => 0,
    }
}

/// RFC 7396, section 2, word for word.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            target.shift_remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
