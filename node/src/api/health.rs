//! Probes. They never wait and are never refused for load.

use super::ApiState;
use super::problem::Refusal;
use super::query::Query;
use crate::replication::service::ReadinessCheck;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};
use std::fmt::Write as _;

/// `GET /livez`: the process runs and answers.
pub async fn live() -> Response {
    text(StatusCode::OK, "ok\n".to_owned())
}

/// `GET /readyz?verbose`: this node serves what it should serve.
pub async fn ready(State(state): State<ApiState>, uri: Uri) -> Result<Response, Refusal> {
    let verbose = Query::read(uri.query(), &["verbose"])?.flag("verbose")?.unwrap_or(false);
    let (status, lines) = readiness(&state.service.readiness(), verbose);
    Ok(text(status, lines))
}

fn readiness(checks: &[ReadinessCheck], verbose: bool) -> (StatusCode, String) {
    let ready = checks.iter().all(|check| check.ok);
    let mut out = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        let mark = if check.ok { '+' } else { '-' };
        let detail = if check.detail.is_empty() { String::new() } else { format!(": {}", check.detail) };
        let word = if check.ok { "ok" } else { "not ready" };
        let _ = writeln!(out, "[{mark}] {} {word}{detail}", check.name);
    }
    out.push_str(if ready { "ready\n" } else { "not ready\n" });
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, out)
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_all_checks_and_names_those_that_fail() {
        let check = |name: &str, ok, detail: &str| ReadinessCheck { name: name.into(), ok, detail: detail.into() };
        let checks = [check("cluster", true, ""), check("database orders", false, "SYNCHRONIZING")];
        let (status, brief) = readiness(&checks, false);
        assert_eq!(
            (status, brief.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "[-] database orders not ready: SYNCHRONIZING\nnot ready\n")
        );
        assert!(readiness(&checks, true).1.starts_with("[+] cluster ok\n"));
        assert_eq!(readiness(&checks[..1], false), (StatusCode::OK, "ready\n".into()));
        assert_eq!(readiness(&[], false).0, StatusCode::OK);
    }
}
