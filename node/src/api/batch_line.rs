//! One line of a batch: what it asks for, and how its result is written.
//!
//! A line is an operation when it has a string `op` and a string `key` and no members besides those and
//! `document`, `ifMatch` and `requestId`. Every other line is a document that carries its `_key`, to be put.
//! The document is cut out of the line as text, so its numbers stay as they are.

use super::body::Limit;
use super::idempotency::{WriteName, fingerprint};
use super::preconditions::line_condition;
use super::problem::{Refusal, RequestError};
use crate::replication::service::Written;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::{Effect, Key};
use coequal_types::rest::{BatchError, BatchResult};
use coequal_types::{CollectionName, DatabaseId, Document, DocumentKey};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Bytes that a line may have besides its document.
pub const LINE_EXTRA_BYTES: usize = 8192;

/// What the lines of a batch have in common.
#[derive(Debug, Clone)]
pub struct BatchContext {
    /// The database.
    pub database: DatabaseId,
    /// The collection.
    pub collection: CollectionName,
    /// Name of the whole batch; its lines have names of their own under it.
    pub name: WriteName,
    /// The limit of each document.
    pub limit: Limit,
}

/// A line that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Key of the document.
    pub key: String,
    /// The name to ask again with.
    pub name: String,
    /// The register.
    pub place: Key,
    /// What to do.
    pub operation: Operation,
}

/// A line that is refused before it reaches the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: u64,
    /// The key, as far as it could be read.
    pub key: Option<String>,
    /// Why.
    pub error: Refusal,
}

impl BatchContext {
    /// Reads a line.
    pub fn read(&self, number: u64, text: &[u8]) -> Result<Line, BadLine> {
        let bad = |key: Option<String>| move |error: Refusal| BadLine { number, key, error };
        let parts = split(text).map_err(|error| bad(None)(error.into()))?;
        let (key, kind, condition, request) = match parts {
            Some(parts) => {
                let key = parts.key.clone();
                self.operation(parts).map_err(bad(Some(key)))?
            }
            None => self.bare(text).map_err(bad(None))?,
        };
        let name = match request {
            Some(text) => WriteName::chosen(&text).map_err(|fault| {
                let error = RequestError::UnacceptableBody(format!(
                    "requestId {fault}; it is 1 to 255 visible ASCII characters"
                ));
                bad(Some(key.to_string()))(error.into())
            })?,
            None => self.name.line(number),
        };
        let place = Key::document(&self.collection, &key);
        let print = fingerprint(place.as_bytes(), &kind, &condition);
        let request = Some((name.request_id(self.database), print));
        let operation = Operation { kind, condition, request };
        Ok(Line { number, key: key.into(), name: name.text, place, operation })
    }

    fn bare(&self, text: &[u8]) -> Result<Parsed, Refusal> {
        let document = Document::parse(text)?;
        let Some(key) = document.key else {
            return Err(unacceptable(
                "the line has no key: it is neither an operation (members op and key, and document, ifMatch and requestId) nor a document with _key",
            ));
        };
        self.check_size(document.body.len())?;
        Ok((key, OperationKind::Put(document.body), Condition::Any, None))
    }

    fn operation(&self, parts: Parts<'_>) -> Result<Parsed, Refusal> {
        let key: DocumentKey = parts.key.parse()?;
        let condition = parts.if_match.map_or(Ok(Condition::Any), read_if_match)?;
        let request = parts.request_id.map(|raw| read_string("requestId", raw)).transpose()?;
        let kind = match (parts.op.as_str(), parts.document) {
            ("delete", None) => OperationKind::Delete,
            ("delete", Some(_)) => return Err(unacceptable("op delete takes no document; leave it out")),
            ("put" | "create" | "patch", None) => {
                return Err(unacceptable(&format!("op {} needs a document", parts.op)));
            }
            (op @ ("put" | "create" | "patch"), Some(document)) => {
                let body = Document::parse_for(document.get().as_bytes(), Some(&key))?.body;
                self.check_size(body.len())?;
                match op {
                    "put" => OperationKind::Put(body),
                    "create" => OperationKind::Create(body),
                    _ => OperationKind::Patch { patch: body, bytes_max: self.limit.bytes_max() },
                }
            }
            (other, _) => {
                let cut: String = other.chars().take(80).collect();
                return Err(unacceptable(&format!("op {cut:?} is not known; use put, create, patch or delete")));
            }
        };
        if matches!(kind, OperationKind::Create(_)) && condition != Condition::Any {
            return Err(unacceptable("op create takes no ifMatch: the document must not exist"));
        }
        Ok((key, kind, condition, request))
    }

    fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.limit.bytes { Err(self.limit.exceeded().into()) } else { Ok(()) }
    }
}

type Parsed = (DocumentKey, OperationKind, Condition, Option<String>);

fn unacceptable(text: &str) -> Refusal {
    RequestError::UnacceptableBody(text.to_owned()).into()
}

fn read_string(member: &str, raw: &RawValue) -> Result<String, Refusal> {
    serde_json::from_str(raw.get()).map_err(|_| unacceptable(&format!("{member} is not a string")))
}

fn read_if_match(raw: &RawValue) -> Result<Condition, Refusal> {
    if let Ok(version) = raw.get().parse::<u64>() {
        return Ok(Condition::Version(version));
    }
    let text: String = serde_json::from_str(raw.get())
        .map_err(|_| unacceptable("ifMatch is an entity tag as a string, \"*\", or a version as a number"))?;
    line_condition(&text).map_err(|error| unacceptable(&error.to_string()))
}

/// The members of an operation.
struct Parts<'a> {
    op: String,
    key: String,
    document: Option<&'a RawValue>,
    if_match: Option<&'a RawValue>,
    request_id: Option<&'a RawValue>,
}

/// The members of an operation, or `None` for any other object.
fn split(text: &[u8]) -> Result<Option<Parts<'_>>, RequestError> {
    let text = std::str::from_utf8(text).map_err(|error| {
        RequestError::MalformedBody(format!("the line is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    // Most lines of a bulk load are plain documents: do not read those twice.
    if !text.contains("\"op\"") && !text.contains("\\u") {
        return Ok(None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Ok(members) = deserializer.deserialize_map(Members) else { return Ok(None) };
    let Some(members) = members else { return Ok(None) };
    if deserializer.end().is_err() {
        return Ok(None);
    }
    let get = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let string = |name: &str| get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let (Some(op), Some(key)) = (string("op"), string("key")) else { return Ok(None) };
    for (at, (name, _)) in members.iter().enumerate() {
        if members.iter().take(at).any(|(other, _)| other == name) {
            return Err(RequestError::UnacceptableBody(format!("member {name:?} stands twice in the line; keep one")));
        }
    }
    let (document, if_match, request_id) = (get("document"), get("ifMatch"), get("requestId"));
    Ok(Some(Parts { op, key, document, if_match, request_id }))
}

/// Members of an operation; `None` as soon as there is another one.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Option<Vec<(Cow<'de, str>, &'de RawValue)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Some(Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            match &mut found {
                Some(members) if matches!(name.as_str(), "op" | "key" | "document" | "ifMatch" | "requestId") => {
                    members.push((Cow::Owned(name), map.next_value::<&RawValue>()?));
                }
                _ => {
                    found = None;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Appends the result of a line that reached the engine.
pub fn push_result(out: &mut Vec<u8>, line: Line, result: Result<Written, crate::replication::ServiceError>) {
    match result {
        Ok(written) => {
            let status = match (&line.operation.kind, written.effect) {
                (OperationKind::Delete, _) => 204,
                (_, Effect::Created) => 201,
                _ => 200,
            };
            let stamp = written.stamp.to_string();
            push_json(out, &BatchResult { key: line.key, status, version: written.version, stamp });
        }
        Err(error) => {
            let refusal = Refusal::from(error).about(&line.key).asked_as(&line.name);
            let refusal = refusal.hint("send the same line again with the requestId that the error names");
            push_refusal(out, line.number, Some(line.key), &refusal);
        }
    }
}

/// Appends the result of a line that was refused.
pub fn push_bad(out: &mut Vec<u8>, bad: BadLine) {
    push_refusal(out, bad.number, bad.key, &bad.error);
}

fn push_refusal(out: &mut Vec<u8>, line: u64, key: Option<String>, refusal: &Refusal) {
    let error = refusal.problem();
    push_json(out, &BatchError { key, line, status: error.status, error });
}

fn push_json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, value);
    out.push(b'\n');
}

#[cfg(test)]
#[path = "batch_line_test.rs"]
mod tests;
