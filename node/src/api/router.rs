//! Which handler answers which path. The paths themselves stand in [`super::paths`].

use super::paths as p;
use super::shell::{self, Shell};
use super::{
    ApiSettings, ApiState, batch, changes, cluster, collections, dashboard, databases, documents, export, health,
    listing, metrics, openapi, replication,
};
use crate::replication::NodeService;
use axum::Router;
use axum::routing::{delete, get, patch, post, put};
use std::sync::Arc;

/// The whole API of a node.
pub fn router(service: NodeService, settings: ApiSettings) -> Router {
    let node = service.describe_node();
    let shell = Arc::new(Shell::new(&node.name, node.id, &settings));
    router_in(service, settings, shell)
}

/// The whole API in a given shell.
pub(super) fn router_in(service: NodeService, settings: ApiSettings, shell: Arc<Shell>) -> Router {
    let state = ApiState { service, settings: Arc::new(settings), shell: Arc::clone(&shell) };
    let routes = Router::new().merge(of_people()).merge(of_cluster()).merge(of_databases()).merge(of_documents());
    with_shell(routes.with_state(state), shell)
}

/// Puts what surrounds every request around the routes.
pub(super) fn with_shell(routes: Router, shell: Arc<Shell>) -> Router {
    routes
        .fallback(shell::path_not_found)
        .method_not_allowed_fallback(shell::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(shell, shell::surround))
}

fn of_people() -> Router<ApiState> {
    Router::new()
        .route(p::DASHBOARD, get(dashboard::show))
        .route(p::LIVEZ, get(health::live))
        .route(p::READYZ, get(health::ready))
        .route(p::METRICS, get(metrics::show))
        .route(p::OPENAPI, get(openapi::show))
}

fn of_cluster() -> Router<ApiState> {
    Router::new()
        .route(p::NODE, get(cluster::node))
        .route(p::CLUSTER, get(cluster::describe))
        .route(p::CLUSTER_INITIALIZE, post(cluster::initialize))
        .route(p::CLUSTER_RECOVER, post(cluster::recover))
        .route(p::CLUSTER_NODES, post(cluster::add_node))
        .route(p::CLUSTER_NODE, delete(cluster::remove_node))
}

fn of_databases() -> Router<ApiState> {
    Router::new()
        .route(p::DATABASES, get(databases::list))
        .route(p::DATABASE, get(databases::describe).put(databases::create).delete(databases::drop_database))
        .route(p::CONFIGURATION, patch(databases::configure))
        .route(p::REPLICATION, get(replication::describe))
        .route(p::DATABASE_NODE, delete(replication::remove))
        .route(p::DEPLOY, post(replication::deploy))
        .route(p::COMPARE, get(replication::comparison).post(replication::compare))
        .route(p::CHANGES, get(changes::stream))
}

fn of_documents() -> Router<ApiState> {
    Router::new()
        .route(p::COLLECTIONS, get(collections::list))
        .route(p::COLLECTION, put(collections::create).delete(collections::delete))
        .route(p::DOCUMENTS, get(listing::list).post(documents::create))
        .route(
            p::DOCUMENT,
            get(documents::read).put(documents::replace).patch(documents::patch).delete(documents::delete),
        )
        .route(p::BATCH, post(batch::write))
        .route(p::EXPORT, get(export::stream))
}

#[cfg(test)]
#[path = "router_test.rs"]
mod tests;
