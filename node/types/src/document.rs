//! A document's JSON text: what is accepted, how it is kept, how a merge patch changes it.
//!
//! Text is never turned into numbers or maps and back, so numbers come out as they went in, whatever
//! their size, and the bytes of a document are the same on every node.

use crate::names::{DocumentKey, NameError};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write as _;

/// Deepest nesting of arrays and objects in a document.
pub const NESTING_MAX: usize = 128;
/// Largest document unless a node is configured otherwise, in bytes.
pub const DOCUMENT_BYTES_MAX_DEFAULT: usize = 1 << 20;
/// Largest document that a node can be configured for, in bytes.
pub const DOCUMENT_BYTES_MAX_LIMIT: usize = 16 << 20;

/// Why a text is not an acceptable document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    /// JSON, but an array, string, number, true, false or null.
    #[error("a document is a JSON object; this is {0}")]
    NotAnObject(&'static str),
    /// Deeper than `NESTING_MAX`.
    #[error("nesting is deeper than {NESTING_MAX} at byte {0}; flatten the document")]
    TooDeep(usize),
    /// Two members of one name: which one counts would be a guess (RFC 8259, section 4).
    #[error("member {0:?} stands twice in the same object; keep one")]
    DuplicateMember(String),
    /// A top-level member that belongs to the system.
    #[error(
        "member {0:?} is reserved: top-level members that begin with '_' are the system's (_key, _version and _stamp may be sent back as they came); rename it"
    )]
    ReservedMember(String),
    /// `_key` is not the key of the request.
    #[error("_key {found:?} does not agree with the key {expected:?} of the request; send one of them")]
    KeyMismatch {
        /// Key in the document.
        found: String,
        /// Key in the path or line.
        expected: String,
    },
    /// `_key` is not a string or not a good key.
    #[error("_key is not usable: {0}")]
    BadKey(String),
}

impl From<NameError> for DocumentError {
    fn from(error: NameError) -> Self {
        Self::BadKey(error.to_string())
    }
}

/// A checked document: compact JSON object text without system members, and the `_key` it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Compact JSON text of an object, without `_key`, `_version` and `_stamp`.
    pub body: Bytes,
    /// `_key`, if it was there.
    pub key: Option<DocumentKey>,
}

impl Document {
    /// Checks `text` and keeps it in compact form.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        Self::parse_for(text, None)
    }

    /// Like [`Document::parse`]; `_key`, if present, must be `expected`.
    pub fn parse_for(text: &[u8], expected: Option<&DocumentKey>) -> Result<Self, DocumentError> {
        let text = checked_text(text)?;
        let mut key = None;
        let mut body = String::with_capacity(text.len());
        body.push('{');
        for (name, value) in members(text)? {
            match name.as_ref() {
                "_key" => key = Some(read_key(value, expected)?),
                "_version" | "_stamp" => {}
                reserved if reserved.starts_with('_') => {
                    return Err(DocumentError::ReservedMember(reserved.chars().take(80).collect()));
                }
                name => {
                    if body.len() > 1 {
                        body.push(',');
                    }
                    push_string(&mut body, name);
                    body.push(':');
                    push_compact(&mut body, value);
                }
            }
        }
        body.push('}');
        Ok(Self { body: Bytes::from(body), key })
    }
}

fn read_key(value: &str, expected: Option<&DocumentKey>) -> Result<DocumentKey, DocumentError> {
    let text: String =
        serde_json::from_str(value).map_err(|_| DocumentError::BadKey(format!("{} is not a string", cut(value))))?;
    match expected {
        Some(expected) if expected.as_str() != text => {
            Err(DocumentError::KeyMismatch { found: cut(&text), expected: expected.to_string() })
        }
        _ => Ok(text.parse()?),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What the system members take beside the key's own bytes, roughly.
pub const SYSTEM_BYTES: usize = 96;

/// The body with its system members in front: `{"_key":…,"_version":…,"_stamp":…,…}`.
pub fn with_system_members(body: &[u8], key: &str, version: u64, stamp: impl Display) -> Vec<u8> {
    let mut out = Vec::with_capacity(SYSTEM_BYTES + key.len() + body.len());
    push_with_system_members(&mut out, body, key, version, stamp);
    out
}

/// The same at the end of a longer text. What `stamp` shows must have nothing that JSON escapes.
pub fn push_with_system_members(out: &mut Vec<u8>, body: &[u8], key: &str, version: u64, stamp: impl Display) {
    // Writing into memory cannot fail; a part that was left out would only be wrong text, never a panic.
    out.extend_from_slice(b"{\"_key\":");
    _ = serde_json::to_writer(&mut *out, key);
    _ = write!(out, ",\"_version\":{version},\"_stamp\":\"{stamp}\"");
    let rest = body.get(1..).unwrap_or(b"}");
    if rest != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

/// Applies a JSON merge patch (RFC 7396) to a document body. Both must have been checked by
/// [`Document::parse`]; members that are not touched keep their place and their text.
pub fn merge_patch(target: &[u8], patch: &[u8]) -> Result<Bytes, DocumentError> {
    let target = checked_text(target)?;
    let patch = checked_text(patch)?;
    Ok(Bytes::from(merge_values(Some(target), patch)?))
}

fn merge_values(target: Option<&str>, patch: &str) -> Result<String, DocumentError> {
    if !patch.starts_with('{') {
        return Ok(patch.to_owned());
    }
    let old = match target {
        Some(text) if text.starts_with('{') => members(text)?,
        _ => Vec::new(),
    };
    let changes = members(patch)?;
    let change_of: std::collections::HashMap<&str, &str> =
        changes.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
    let known: HashSet<&str> = old.iter().map(|(name, _)| name.as_ref()).collect();
    let mut out = String::from("{");
    let mut push = |name: &str, value: &str| {
        if out.len() > 1 {
            out.push(',');
        }
        push_string(&mut out, name);
        out.push(':');
        out.push_str(value);
    };
    for (name, value) in &old {
        match change_of.get(name.as_ref()) {
            None => push(name, value),
            Some(&"null") => {}
            Some(change) => push(name, &merge_values(Some(value), change)?),
        }
    }
    for (name, value) in &changes {
        if !known.contains(name.as_ref()) && *value != "null" {
            push(name, &merge_values(None, value)?);
        }
    }
    out.push('}');
    Ok(out)
}

/// Checks syntax, depth and duplicate members, and gives the text without outer white space.
fn checked_text(text: &[u8]) -> Result<&str, DocumentError> {
    let text = std::str::from_utf8(text)
        .map_err(|e| DocumentError::Syntax(format!("invalid UTF-8 at byte {}", e.valid_up_to())))?;
    check_depth(text)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| DocumentError::Syntax(e.to_string()))?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    match text.as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => return Err(DocumentError::NotAnObject("an array")),
        Some(b'"') => return Err(DocumentError::NotAnObject("a string")),
        Some(b't' | b'f') => return Err(DocumentError::NotAnObject("a boolean")),
        Some(b'n') => return Err(DocumentError::NotAnObject("null")),
        _ => return Err(DocumentError::NotAnObject("a number")),
    }
    check_members(text)?;
    Ok(text)
}

/// Bounds the depth before anything recursive sees the text.
fn check_depth(text: &str) -> Result<(), DocumentError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(DocumentError::TooDeep(at));
        }
    }
    Ok(())
}

/// Refuses duplicate members and broken escapes at any depth. The text is valid JSON.
fn check_members(text: &str) -> Result<(), DocumentError> {
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut seen = HashSet::new();
            for (name, value) in members(text)? {
                check_members(value)?;
                if let Some(twice) = seen.replace(name) {
                    return Err(DocumentError::DuplicateMember(cut(&twice)));
                }
            }
        }
        Some(b'[') => {
            let mut rest = skip_space(&text[1..]);
            while !rest.starts_with(']') {
                let (value, after) = split_value(rest);
                check_members(value)?;
                rest = skip_space(after);
                rest = skip_space(rest.strip_prefix(',').unwrap_or(rest));
            }
        }
        Some(b'"') => {
            unescape(text)?;
        }
        _ => {}
    }
    Ok(())
}

/// Members of an object in order: unescaped names and the text of their values. The text is valid JSON.
fn members(object: &str) -> Result<Vec<(Cow<'_, str>, &str)>, DocumentError> {
    let mut found = Vec::new();
    let mut rest = skip_space(object.strip_prefix('{').unwrap_or(object));
    while rest.starts_with('"') {
        let (name, after) = split_value(rest);
        let after = skip_space(after);
        let (value, after) = split_value(skip_space(after.strip_prefix(':').unwrap_or(after)));
        found.push((unescape(name)?, value));
        let after = skip_space(after);
        rest = skip_space(after.strip_prefix(',').unwrap_or(after));
    }
    Ok(found)
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Splits valid JSON text behind its first value.
fn split_value(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_string = false;
                    if depth == 0 {
                        return text.split_at(at + 1);
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return text.split_at(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return text.split_at(at + 1);
                }
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

/// A JSON string's text (with its quotes) as the string it means. Lone surrogates are refused.
fn unescape(string: &str) -> Result<Cow<'_, str>, DocumentError> {
    let inner = string.get(1..string.len().saturating_sub(1)).unwrap_or("");
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(string)
        .map(Cow::Owned)
        .map_err(|e| DocumentError::Syntax(format!("string {} cannot be read: {e}", cut(string))))
}

fn push_string(out: &mut String, text: &str) {
    // Serialising a str cannot fail; an empty string would only be wrong text, never a panic.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Appends valid JSON text without white space outside strings.
fn push_compact(out: &mut String, text: &str) {
    let (mut in_string, mut escaped, mut start) = (false, false, 0);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            out.push_str(&text[start..at]);
            start = at + 1;
        }
    }
    out.push_str(&text[start..]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn body(text: &str) -> String {
        String::from_utf8(Document::parse(text.as_bytes()).expect(text).body.to_vec()).unwrap()
    }
    fn patched(target: &str, patch: &str) -> String {
        String::from_utf8(merge_patch(target.as_bytes(), patch.as_bytes()).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        let text = r#"{"a":12345678901234567890123,"b":0.10,"c":1E400,"d":-0}"#;
        assert_eq!(body(text), text);
        assert_eq!(patched(text, r#"{"b":1.50}"#), r#"{"a":12345678901234567890123,"b":1.50,"c":1E400,"d":-0}"#);
    }

    #[test]
    fn white_space_goes_and_strings_stay() {
        assert_eq!(body(" { \"a\" : [ 1 , \" x \\\" y \" ] , \"b\":{ } } "), r#"{"a":[1," x \" y "],"b":{}}"#);
    }

    #[test]
    fn duplicate_members_are_refused_at_any_depth_and_however_escaped() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"x":[{"b":{"a":1,"\u0061":2}}]}"#] {
            assert_eq!(Document::parse(text.as_bytes()), Err(DocumentError::DuplicateMember("a".into())), "{text}");
        }
    }

    #[test]
    fn system_members_are_dropped_or_refused() {
        let document = Document::parse(br#"{"_key":"k","_version":3,"_stamp":"x","a":1}"#).unwrap();
        assert_eq!((document.body.as_ref(), document.key.unwrap().as_str()), (&br#"{"a":1}"#[..], "k"));
        assert!(matches!(Document::parse(br#"{"_id":1}"#), Err(DocumentError::ReservedMember(_))));
        let other = "other".parse().unwrap();
        assert!(matches!(
            Document::parse_for(br#"{"_key":"k"}"#, Some(&other)),
            Err(DocumentError::KeyMismatch { .. })
        ));
        assert!(matches!(Document::parse(br#"{"_key":7}"#), Err(DocumentError::BadKey(_))));
        assert_eq!(body(r#"{"inner":{"_id":1}}"#), r#"{"inner":{"_id":1}}"#);
    }

    #[test]
    fn depth_is_bounded_at_128_and_does_not_recurse_further() {
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(Document::parse(nested(127).as_bytes()).is_ok());
        assert!(matches!(Document::parse(nested(128).as_bytes()), Err(DocumentError::TooDeep(_))));
        assert!(matches!(Document::parse("[".repeat(1_000_000).as_bytes()), Err(DocumentError::TooDeep(_))));
    }

    #[test]
    fn what_is_not_an_object_or_not_json_is_refused() {
        for text in
            ["", "1", "[]", "\"a\"", "null", "true", "{", "{\"a\":}", "{}x", "{\"a\":\"\\ud800\"}", "\u{feff}{}"]
        {
            assert!(Document::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Document::parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn merge_patch_follows_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(patched(target, patch), result, "{target} + {patch}");
        }
    }

    #[test]
    fn a_member_named_like_a_library_internal_is_an_ordinary_member() {
        let text = r#"{"a":{"$serde_json::private::Number":"1"}}"#;
        assert_eq!(patched(text, r#"{"b":2}"#), r#"{"a":{"$serde_json::private::Number":"1"},"b":2}"#);
    }

    #[test]
    fn system_members_come_first_in_answers() {
        assert_eq!(
            with_system_members(b"{\"a\":1}", "k\"", 2, "s"),
            br#"{"_key":"k\"","_version":2,"_stamp":"s","a":1}"#
        );
        assert_eq!(with_system_members(b"{}", "k", 2, "s"), br#"{"_key":"k","_version":2,"_stamp":"s"}"#);
    }
}
