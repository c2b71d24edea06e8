//! One document: read, create, replace, patch, delete.

use super::body::{self, Limit, SYSTEM_MEMBERS_BYTES};
use super::headers::{BodyKind, check_content};
use super::idempotency::{WriteName, fingerprint};
use super::paths::{PathNames, document_location};
use super::preconditions::{self, ReadAnswer, ReadCondition, etag};
use super::problem::{Refusal, RequestError};
use super::query::{self, Query};
use super::shell::Deadline;
use super::{ApiState, empty, json, json_bytes, session};
use crate::replication::DatabaseService;
use crate::replication::service::{Consistency, ReadDocument, Written};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use coequal_protocol::key::COLLECTIONS;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::{Ballot, Effect, Key};
use coequal_types::document::with_system_members;
use coequal_types::rest::WriteResult;
use coequal_types::{CollectionName, Document, DocumentKey};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

/// Header of reads: how the answer was confirmed, `local` or `linearizable`.
pub const CONSISTENCY: HeaderName = HeaderName::from_static("coequal-consistency");
/// How old a local answer may be, in seconds: so long ago this node last held everything that enough other nodes knew
/// (half a second at rest, when nothing has to be said).
pub const AGE: HeaderName = HeaderName::from_static("coequal-age");

/// `GET` and `HEAD` of a document.
pub async fn read(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (database, collection, key) = (names.database()?, names.collection()?, names.key()?);
    let query = Query::read(uri.query(), &["consistency"])?;
    let consistency = read_consistency(&query)?;
    let condition = ReadCondition::of(&headers)?;
    let seen = session::read(&headers)?;
    let service = state.service.database(&database)?;
    let found = service.read(&Key::document(&collection, &key), consistency, seen, deadline.at).await;
    let Some(found) = found.map_err(|error| Refusal::from(error).about(key.as_str()))? else {
        let missing = if collection_exists(&service, &collection, deadline).await {
            RequestError::DocumentNotFound(key.to_string())
        } else {
            RequestError::CollectionNotFound(collection.to_string(), database)
        };
        return Err(Refusal::from(missing).about(key.as_str()));
    };
    answer_read(&found, &key, &condition, seen)
}

fn read_consistency(query: &Query) -> Result<Consistency, RequestError> {
    match query.get("consistency") {
        None => Ok(Consistency::Default),
        Some("local") => Ok(Consistency::Local),
        Some("linearizable") => Ok(Consistency::Linearizable),
        Some(other) => Err(query::wrong("consistency", other, "it is local or linearizable")),
    }
}

fn answer_read(
    found: &ReadDocument,
    key: &DocumentKey,
    condition: &ReadCondition,
    seen: Option<Ballot>,
) -> Result<Response, Refusal> {
    let revision = &found.revision;
    let Some(text) = &revision.body else {
        return Err(Refusal::from(RequestError::DocumentNotFound(key.to_string())).about(key.as_str()));
    };
    let tag = etag(revision.version, revision.stamp);
    let mut response = match condition.check(&tag) {
        ReadAnswer::Failed => {
            let version = revision.version;
            let refusal = Refusal::from(RequestError::PreconditionFailed { version });
            return Err(refusal.about(key.as_str()).with_etag(tag));
        }
        ReadAnswer::NotModified => empty(StatusCode::NOT_MODIFIED),
        ReadAnswer::Send => {
            json_bytes(StatusCode::OK, with_system_members(text, key.as_str(), revision.version, revision.stamp))
        }
    };
    let confirmed = if found.linearizable { "linearizable" } else { "local" };
    let headers = response.headers_mut();
    headers.insert(CONSISTENCY, HeaderValue::from_static(confirmed));
    if let Some(age_ms) = found.age_ms {
        insert(headers, AGE, &format!("{}.{:03}", age_ms / 1000, age_ms % 1000));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    insert(headers, header::ETAG, &tag);
    session::write(headers, seen, Some(revision.stamp));
    Ok(response)
}

/// Whether a collection exists, as far as this node knows. Not knowing counts as yes.
pub async fn collection_exists(service: &DatabaseService, collection: &CollectionName, deadline: Deadline) -> bool {
    let listed = Key::of(COLLECTIONS, collection.as_str());
    match service.read(&listed, Consistency::Local, None, deadline.at).await {
        Ok(Some(_)) | Err(_) => true,
        Ok(None) => {
            let all = service.collections().await;
            all.map_or(true, |all| all.iter().any(|known| known == collection.as_str()))
        }
    }
}

/// A write as the request says it, checked as far as its head goes.
struct WriteRequest {
    service: DatabaseService,
    collection: CollectionName,
    condition: Condition,
    name: WriteName,
    seen: Option<Ballot>,
    deadline: Deadline,
}

impl WriteRequest {
    fn of(
        state: &ApiState,
        names: &PathNames,
        deadline: Deadline,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let (database, collection) = (names.database()?, names.collection()?);
        Query::read(uri.query(), &[])?;
        let (condition, name) = (preconditions::write_condition(headers)?, WriteName::of(headers)?);
        let seen = session::read(headers)?;
        let service = state.service.database(&database)?;
        Ok(Self { service, collection, condition, name, seen, deadline })
    }

    async fn write(self, key: DocumentKey, kind: OperationKind, generated: bool) -> Result<Response, Refusal> {
        let place = Key::document(&self.collection, &key);
        let print = fingerprint(place.as_bytes(), &kind, &self.condition);
        let request = Some((self.name.request_id(self.service.uuid()), print));
        let created_only = matches!(kind, OperationKind::Create(_));
        let deletes = matches!(kind, OperationKind::Delete);
        let operation = Operation { kind, condition: self.condition, request };
        let written = self.service.write(place, operation, generated, self.deadline.at).await.map_err(|error| {
            let refusal = Refusal::from(error).about(key.as_str()).asked_as(&self.name.text);
            let ask = "ask again with the same request and the Idempotency-Key that requestId names";
            if created_only { refusal.hint(format!("{ask}, and with _key in the document")) } else { refusal.hint(ask) }
        })?;
        let location = document_location(self.service.name(), &self.collection, key.as_str());
        Ok(answer_write(&written, key.as_str(), deletes, &location, self.seen))
    }
}

fn answer_write(written: &Written, key: &str, deletes: bool, location: &str, seen: Option<Ballot>) -> Response {
    let mut response = if deletes {
        empty(StatusCode::NO_CONTENT)
    } else {
        let status = if written.effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
        let (version, stamp) = (written.version, written.stamp.to_string());
        let mut response = json(status, &WriteResult { key: key.to_owned(), version, stamp });
        insert(response.headers_mut(), header::ETAG, &etag(version, written.stamp));
        if status == StatusCode::CREATED {
            insert(response.headers_mut(), header::LOCATION, location);
        }
        response
    };
    session::write(response.headers_mut(), seen, Some(written.stamp));
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Reads and checks the document of a request.
async fn read_document(
    state: &ApiState,
    headers: &HeaderMap,
    kind: BodyKind,
    body: Body,
    expected: Option<&DocumentKey>,
    deadline: Deadline,
) -> Result<Document, Refusal> {
    check_content(headers, kind)?;
    let limit = Limit::document(state.settings.document_bytes_max);
    let bytes_max = limit.bytes + SYSTEM_MEMBERS_BYTES;
    let declared = body::content_length(headers).and_then(|length| usize::try_from(length).ok()).unwrap_or(bytes_max);
    let _room = state.shell.admission.body(declared.min(bytes_max))?;
    let text = body::read(headers, body, limit, SYSTEM_MEMBERS_BYTES, deadline.at).await?;
    let document = Document::parse_for(&text, expected)?;
    if document.body.len() > limit.bytes { Err(limit.exceeded().into()) } else { Ok(document) }
}

/// `PUT`: create or replace.
pub async fn replace(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = names.key()?;
    let write = WriteRequest::of(&state, &names, deadline, &uri, &headers)?;
    let document = read_document(&state, &headers, BodyKind::Json, body, Some(&key), deadline).await?;
    write.write(key, OperationKind::Put(document.body), false).await
}

/// `PATCH`: JSON merge patch.
pub async fn patch(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = names.key()?;
    let write = WriteRequest::of(&state, &names, deadline, &uri, &headers)?;
    let document = read_document(&state, &headers, BodyKind::MergePatch, body, Some(&key), deadline).await?;
    let bytes_max = Limit::document(state.settings.document_bytes_max).bytes_max();
    write.write(key, OperationKind::Patch { patch: document.body, bytes_max }, false).await
}

/// `DELETE`: a tombstone.
pub async fn delete(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let key = names.key()?;
    let write = WriteRequest::of(&state, &names, deadline, &uri, &headers)?;
    write.write(key, OperationKind::Delete, false).await
}

/// `POST`: create under the key in the document, or under a generated one.
pub async fn create(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let write = WriteRequest::of(&state, &names, deadline, &uri, &headers)?;
    if write.condition != Condition::Any {
        let fault =
            "a POST creates a document, so If-Match and If-None-Match have nothing to compare with; leave them out";
        return Err(RequestError::MalformedHeader(fault.to_owned()).into());
    }
    let document = read_document(&state, &headers, BodyKind::Json, body, None, deadline).await?;
    let (key, generated) = match document.key {
        Some(key) => (key, false),
        // A retry has to meet the document that the first try made, so its key comes from the name.
        None if write.name.chosen => {
            (write.name.document_key(write.service.uuid(), &write.collection).parse::<DocumentKey>()?, false)
        }
        None => (state.service.generate_key().parse::<DocumentKey>()?, true),
    };
    write.write(key, OperationKind::Create(document.body), generated).await
}

#[cfg(test)]
#[path = "documents_test.rs"]
mod tests;
