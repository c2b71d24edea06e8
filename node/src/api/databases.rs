//! Databases: list, create, describe, configure, drop.

use super::headers::{BodyKind, check_content};
use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::{self, Query};
use super::shell::Deadline;
use super::{ApiState, body, empty, json};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use coequal_types::rest::{DatabaseList, SettingsPatch};
use coequal_types::{DatabaseId, DatabaseSettings};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

/// `GET /v1/databases`
pub async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &DatabaseList { databases: state.service.databases() }))
}

/// `GET /v1/databases/{db}`
pub async fn describe(State(state): State<ApiState>, names: PathNames, uri: Uri) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &state.service.database(&database)?.describe()))
}

/// `PUT /v1/databases/{db}`: create; the same settings again change nothing.
pub async fn create(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    check_content(&headers, BodyKind::Json)?;
    let settings: Option<DatabaseSettings> = body::read_settings(&headers, body, deadline.at).await?;
    let (description, created) =
        state.service.create_database(&database, settings.unwrap_or_default(), deadline.at).await?;
    let mut response = json(if created { StatusCode::CREATED } else { StatusCode::OK }, &description);
    if created && let Ok(location) = HeaderValue::from_str(&format!("/v1/databases/{database}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `PATCH /v1/databases/{db}/configuration`: what is absent stays.
pub async fn configure(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    check_content(&headers, BodyKind::MergePatch)?;
    let patch: Option<SettingsPatch> = body::read_settings(&headers, body, deadline.at).await?;
    let description = state.service.change_settings(&database, patch.unwrap_or_default(), deadline.at).await?;
    Ok(json(StatusCode::OK, &description))
}

/// `DELETE /v1/databases/{db}?uuid=`
pub async fn drop_database(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    let query = Query::read(uri.query(), &["uuid"])?;
    let Some(text) = query.get("uuid") else {
        let actual = state.service.database(&database)?.uuid();
        return Err(RequestError::UuidRequired(database, actual).into());
    };
    let uuid: DatabaseId = text.parse().map_err(|_| query::wrong("uuid", text, "it is the UUID that GET shows"))?;
    state.service.drop_database(&database, uuid, deadline.at).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
