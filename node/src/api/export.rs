//! All documents of a collection as NDJSON, in key order. Each page is one short read; a failure in the
//! middle breaks the connection off, so that a part is never taken for the whole.

use super::listing::{PAGE_BYTES, check_exists, documents_text};
use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::Query;
use super::shell::Deadline;
use super::{ApiState, session};
use crate::replication::DatabaseService;
use crate::replication::service::Page;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use coequal_protocol::Key;
use coequal_types::CollectionName;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Documents of a page at most.
const PAGE_DOCUMENTS: usize = 1000;

/// Where an export stands.
enum Position {
    /// A page was read and is to be sent.
    Read(Page),
    /// The next page begins behind this key.
    Behind(Key),
    /// Everything was sent.
    Done,
}

/// `GET …/export`
pub async fn stream(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (database, collection) = (names.database()?, names.collection()?);
    Query::read(uri.query(), &[])?;
    session::read(&headers)?;
    let service = state.service.database(&database)?;
    let first = read_page(&service, &collection, None, deadline).await?;
    if first.documents.is_empty() && first.next_after.is_none() {
        check_exists(&service, &collection, deadline).await?;
    }
    let pages = futures::stream::try_unfold(Position::Read(first), move |position| {
        let (service, collection) = (service.clone(), collection.clone());
        async move {
            let page = match position {
                Position::Read(page) => page,
                Position::Behind(key) => read_page(&service, &collection, Some(key), deadline.again())
                    .await
                    .map_err(|refusal| std::io::Error::other(refusal.problem().detail))?,
                Position::Done => return Ok(None),
            };
            let next = page.next_after.clone().map_or(Position::Done, Position::Behind);
            Ok::<_, std::io::Error>(Some((page_lines(&page), next)))
        }
    });
    let mut response = Response::new(Body::from_stream(pages));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

async fn read_page(
    service: &DatabaseService,
    collection: &CollectionName,
    after: Option<Key>,
    deadline: Deadline,
) -> Result<Page, Refusal> {
    let page = service.page(collection, "", after, PAGE_DOCUMENTS, PAGE_BYTES);
    let page = tokio::time::timeout_at(deadline.at.into(), page).await;
    Ok(page.map_err(|_| RequestError::DeadlineExceeded { written: false })??)
}

fn page_lines(page: &Page) -> Bytes {
    Bytes::from(documents_text(page, b"", b'\n'))
}
