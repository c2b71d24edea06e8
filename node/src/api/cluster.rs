//! This node and its cluster.

use super::headers::{BodyKind, check_content};
use super::paths::PathNames;
use super::problem::{Refusal, RequestError};
use super::query::Query;
use super::shell::Deadline;
use super::{ApiState, body, json};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use coequal_types::rest::{AddNode, RecoverCluster};
use http::{HeaderMap, StatusCode, Uri};

/// `GET /v1/node`
pub async fn node(State(state): State<ApiState>, uri: Uri) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &state.service.describe_node()))
}

/// `GET /v1/cluster`
pub async fn describe(State(state): State<ApiState>, uri: Uri) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    Ok(json(StatusCode::OK, &state.service.describe_cluster()))
}

/// `POST /v1/cluster/initialize`: once; again it changes nothing.
pub async fn initialize(State(state): State<ApiState>, deadline: Deadline, uri: Uri) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    let (description, created) = state.service.initialize_cluster(deadline.at).await?;
    Ok(json(if created { StatusCode::CREATED } else { StatusCode::OK }, &description))
}

/// `POST /v1/cluster/nodes`
pub async fn add_node(
    State(state): State<ApiState>,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    check_content(&headers, BodyKind::Json)?;
    let asked: Option<AddNode> = body::read_settings(&headers, body, deadline.at).await?;
    let address = asked.map(|asked| asked.peer_address).unwrap_or_default();
    check_address(&address)?;
    state.service.add_node(&address, deadline.at).await?;
    Ok(json(StatusCode::ACCEPTED, &state.service.describe_cluster()))
}

/// `POST /v1/cluster/recover`: goes on without a majority that is lost for good. Again it changes nothing.
pub async fn recover(
    State(state): State<ApiState>,
    deadline: Deadline,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    check_content(&headers, BodyKind::Json)?;
    let asked: Option<RecoverCluster> = body::read_settings(&headers, body, deadline.at).await?;
    let asked = asked.ok_or_else(|| {
        RequestError::UnacceptableBody(
            "the body is empty; send clusterId, lostNodes and acceptDataLoss (see /openapi.json)".to_owned(),
        )
    })?;
    let recovery = state.service.recover_cluster(&asked, deadline.at).await?;
    let status = if recovery.complete { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json(status, &recovery))
}

/// `DELETE /v1/cluster/nodes/{node}`: begins to take the node out of every database.
pub async fn remove_node(
    State(state): State<ApiState>,
    names: PathNames,
    deadline: Deadline,
    uri: Uri,
) -> Result<Response, Refusal> {
    let node = names.node()?;
    Query::read(uri.query(), &[])?;
    state.service.remove_node(node, deadline.at).await?;
    Ok(json(StatusCode::ACCEPTED, &state.service.describe_cluster()))
}

fn check_address(address: &str) -> Result<(), RequestError> {
    let good = address.len() <= 300
        && address.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
            let host_good = bare.map_or(plain && !host.is_empty(), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
            host_good && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
        });
    if good {
        return Ok(());
    }
    let cut: String = address.chars().take(80).collect();
    Err(RequestError::UnacceptableBody(format!(
        "peerAddress: {cut:?} is not host:port; send where the node listens for other nodes, like db-1.db:7700"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_address_is_host_and_port() {
        for good in ["a:1", "db-0.db.svc:7700", "10.0.0.1:65535", "[::1]:7700"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "a b:1", "::1:7700", "[x]:1", "http://a:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
