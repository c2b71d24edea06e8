//! Probes and metrics of the operator itself.

use super::leader::Leadership;
use super::metrics::Metrics;
use crate::crd::ReplicatedDatabase;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::runtime::reflector::Store;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What the probes look at.
#[derive(Clone)]
pub struct Health {
    /// Whether this process leads.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether everything was listed once.
    pub listed: Arc<AtomicBool>,
    /// The resources, once the controller runs.
    pub resources: Arc<OnceLock<Store<ReplicatedDatabase>>>,
}

/// Serves the probes until the process ends.
pub async fn serve(listener: tokio::net::TcpListener, health: Health) -> std::io::Result<()> {
    let router = axum::Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, router).await
}

/// Ready is one that stands by, and one that leads and has seen everything.
async fn ready(State(health): State<Health>) -> Response {
    match health.leadership.holds() {
        false => "ready: stands by\n".into_response(),
        true if health.listed.load(Ordering::Acquire) => "ready: leads\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "not ready: objects are being listed\n").into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let resources = health.resources.get().map_or(0, Store::len);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.text(health.leadership.holds(), resources)).into_response()
}
