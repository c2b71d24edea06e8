//! Collections of a database.

use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::Query;
use super::shell::Deadline;
use super::{ApiState, empty, json};
use axum::extract::State;
use axum::response::Response;
use coequal_types::rest::{CollectionDescription, CollectionList};
use http::{StatusCode, Uri};

/// `GET …/collections`
pub async fn list(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    let service = state.service.database(&database)?;
    let found = tokio::time::timeout_at(deadline.at.into(), service.collections()).await;
    let found = found.map_err(|_| RequestError::DeadlineExceeded { written: false })??;
    let collections = found.into_iter().map(|name| CollectionDescription { name }).collect();
    Ok(json(StatusCode::OK, &CollectionList { collections }))
}

/// `PUT …/collections/{collection}`
pub async fn create(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (database, collection) = (names.database()?, names.collection()?);
    Query::read(uri.query(), &[])?;
    let service = state.service.database(&database)?;
    let created = service.create_collection(&collection, deadline.at).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &CollectionDescription { name: collection.into() }))
}

/// `DELETE …/collections/{collection}?documents=true`
pub async fn delete(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (database, collection) = (names.database()?, names.collection()?);
    let documents = Query::read(uri.query(), &["documents"])?.flag("documents")?.unwrap_or(false);
    let service = state.service.database(&database)?;
    service.delete_collection(&collection, documents, deadline.at).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
