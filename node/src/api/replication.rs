//! Replication of a database: what each node holds, and which nodes hold it.

use super::paths::PathNames;
use super::problem::Refusal;
use super::query::Query;
use super::shell::Deadline;
use super::{ApiState, json};
use axum::extract::State;
use axum::response::Response;
use coequal_types::DatabaseName;
use http::{HeaderValue, StatusCode, Uri, header};

/// `GET /v1/databases/{db}/replication`
pub async fn describe(State(state): State<ApiState>, names: PathNames, uri: Uri) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &state.service.database(&database)?.replication()))
}

/// `POST /v1/databases/{db}/nodes/{node}/deploy`: begins; the progress stands in the replication.
pub async fn deploy(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (database, node) = (names.database()?, names.node()?);
    Query::read(uri.query(), &[])?;
    state.service.deploy(&database, node, deadline.at).await?;
    begun(&state, &database)
}

/// `DELETE /v1/databases/{db}/nodes/{node}`: begins to take the node out of the configuration.
pub async fn remove(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (database, node) = (names.database()?, names.node()?);
    Query::read(uri.query(), &[])?;
    state.service.remove_from_database(&database, node, deadline.at).await?;
    begun(&state, &database)
}

/// `GET /v1/databases/{db}/compare`
pub async fn comparison(State(state): State<ApiState>, names: PathNames, uri: Uri) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &state.service.database(&database)?.comparison()?))
}

/// `POST /v1/databases/{db}/compare`: begins, or tells of the one under way.
pub async fn compare(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let database = names.database()?;
    Query::read(uri.query(), &[])?;
    let begun = state.service.database(&database)?.compare(deadline.at).await?;
    let mut response = json(StatusCode::ACCEPTED, &begun);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/databases/{database}/compare")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// 202 with the replication as it is now.
fn begun(state: &ApiState, database: &DatabaseName) -> Result<Response, Refusal> {
    let mut response = json(StatusCode::ACCEPTED, &state.service.database(database)?.replication());
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/databases/{database}/replication")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
