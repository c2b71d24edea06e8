//! All routes as clients meet them, as far as no engine is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use axum::body::Body;
use axum::response::Response;
use coequal_types::NodeId;
use coequal_types::rest::Problem;
use http::{Request, StatusCode, header};
use tower::ServiceExt as _;

async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Response {
    let settings = ApiSettings::default();
    let shell = Arc::new(Shell::new(&"a".parse().unwrap(), NodeId(1), &settings));
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router_in(crate::replication::idle_service().await, settings, shell)
        .oneshot(request.body(Body::from(body)).unwrap())
        .await
        .unwrap()
}

async fn problem(response: Response) -> Problem {
    let status = response.status();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let problem: Problem = serde_json::from_slice(&text).unwrap();
    assert_eq!(status.as_u16(), problem.status);
    problem
}

fn example(template: &str) -> String {
    template.replace("{db}", "d").replace("{collection}", "c").replace("{key}", "k").replace("{node}", "n")
}

#[tokio::test]
async fn every_route_is_served_with_its_methods_and_no_others() {
    for route in p::ROUTES {
        let response = ask("BREW", &example(route.path), &[], "").await;
        assert_eq!(response.headers()[header::ALLOW], p::allow(route), "{}", route.path);
        assert_eq!(problem(response).await.kind, "urn:coequal:error:method-not-allowed");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            if !route.methods.iter().any(|known| known.as_str() == method) {
                let status = ask(method, &example(route.path), &[], "").await.status();
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {}", route.path);
            }
        }
    }
}

#[tokio::test]
async fn pages_and_probes_that_need_no_engine_are_there() {
    for path in ["/", "/livez", "/openapi.json"] {
        assert_eq!(ask("GET", path, &[], "").await.status(), StatusCode::OK, "{path}");
        let head = ask("HEAD", path, &[], "").await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert!(axum::body::to_bytes(head.into_body(), 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn malformed_names_are_refused_on_every_route_that_takes_them() {
    for route in p::ROUTES {
        for method in route.methods {
            let mut paths = Vec::new();
            if route.path.contains("{db}") {
                paths.extend(["Orders", "_system", "a%2Fb"].map(|bad| route.path.replace("{db}", bad)));
            }
            if route.path.contains("{node}") {
                paths.push(route.path.replace("{node}", "N_1"));
            }
            if route.path.contains("{collection}") {
                paths.push(route.path.replace("{collection}", "_collections"));
            }
            for path in paths {
                let answer = problem(ask(method.as_str(), &example(&path), &[], "{}").await).await;
                assert_eq!(answer.kind, "urn:coequal:error:malformed-name", "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn unknown_query_parameters_are_refused_on_every_route() {
    for route in p::ROUTES.iter().filter(|route| ![p::DASHBOARD, p::LIVEZ, p::OPENAPI].contains(&route.path)) {
        for method in route.methods {
            let answer =
                problem(ask(method.as_str(), &format!("{}?nonsense=1", example(route.path)), &[], "{}").await).await;
            assert_eq!(answer.kind, "urn:coequal:error:malformed-query", "{method} {}", route.path);
            assert!(answer.detail.contains("nonsense"), "{}", answer.detail);
        }
    }
}

#[tokio::test]
async fn malformed_headers_are_refused_before_anything_is_written() {
    let path = example(p::DOCUMENT);
    for header in [
        ("coequal-session", "yesterday"),
        ("idempotency-key", "a b"),
        ("if-match", "3"),
        ("if-none-match", "\"3\""),
        ("coequal-deadline-ms", "0"),
    ] {
        let answer = problem(ask("PUT", &path, &[header], "{}").await).await;
        assert_eq!((answer.status, answer.kind.as_str()), (400, "urn:coequal:error:malformed-header"), "{header:?}");
    }
    let both = [("if-match", "*"), ("if-none-match", "*")];
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        assert_eq!(problem(ask(method, &path, &both, "{}").await).await.status, 400, "{method}");
    }
}

#[tokio::test]
async fn bodies_of_cluster_and_database_requests_are_checked_before_the_engine_is_asked() {
    let json = ("content-type", "application/json");
    for (method, path, headers, body, status) in [
        ("PUT", "/v1/databases/d", vec![("content-type", "text/plain")], "{}", 415),
        ("PUT", "/v1/databases/d", vec![json], "{\"autoDeploi\":true}", 422),
        ("PUT", "/v1/databases/d", vec![json], "{\"autoDeploy\":true,\"autoDeploy\":true}", 422),
        ("PUT", "/v1/databases/d", vec![json], "{\"writeQuorum\":0}", 422),
        ("PUT", "/v1/databases/d", vec![json], "{", 400),
        ("PATCH", "/v1/databases/d/configuration", vec![json], "[]", 422),
        ("POST", "/v1/cluster/nodes", vec![], "", 422),
        ("POST", "/v1/cluster/nodes", vec![json], "{\"peerAddress\":\"nowhere\"}", 422),
        ("DELETE", "/v1/databases/d?uuid=abc", vec![], "", 400),
        ("POST", "/v1/databases/d/collections/c/documents:batch", vec![("content-type", "text/plain")], "", 415),
        ("GET", "/v1/databases/d/collections/c/documents?limit=0", vec![], "", 400),
        ("GET", "/v1/databases/d/collections/c/documents?cursor=zz", vec![], "", 400),
        ("GET", "/v1/databases/d/changes?since=zz", vec![], "", 400),
        ("GET", "/v1/databases/d/collections/c/documents/k?consistency=strong", vec![], "", 400),
    ] {
        assert_eq!(problem(ask(method, path, &headers, body).await).await.status, status, "{method} {path} {body}");
    }
}
