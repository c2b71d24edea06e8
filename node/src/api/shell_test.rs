//! The shell around handlers that need no engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::router::with_shell;
use super::*;
use axum::Router;
use axum::routing::get;
use coequal_types::rest::Problem;
use http::StatusCode;
use tower::ServiceExt as _;

fn shell(settings: &ApiSettings) -> Arc<Shell> {
    Arc::new(Shell::new(&"a".parse().unwrap(), NodeId(0xab), settings))
}

fn routes() -> Router {
    Router::new()
        .route(paths::NODE, get(|| async { "here" }))
        .route(paths::BATCH, axum::routing::post(|| async { "batch" }))
        .route(paths::CLUSTER, get(std::future::pending::<()>))
        .route(
            paths::DOCUMENT,
            get(|names: paths::PathNames| async move { Ok::<_, Refusal>(names.key()?.to_string()) }),
        )
}

async fn ask_with(settings: &ApiSettings, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    with_shell(routes(), shell(settings)).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    ask_with(&ApiSettings::default(), method, path, headers).await
}

async fn text(response: Response) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

async fn problem(response: Response) -> Problem {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Problem = serde_json::from_str(&text(response).await).unwrap();
    problem
}

#[tokio::test]
async fn every_answer_names_its_request_and_its_node() {
    for (path, status) in [("/v1/node", 200), ("/nothing", 404), ("/v1/databases/d", 404)] {
        let response = ask("GET", path, &[("x-request-id", "abc")]).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()[REQUEST_ID], "abc");
        assert_eq!(response.headers()[NODE], "a/00000000000000ab");
    }
    let made_up = ask("GET", "/v1/node", &[("x-request-id", "a b")]).await;
    assert_eq!(made_up.headers()[REQUEST_ID].len(), 36);
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let answer = problem(ask("GET", "/v2/databases", &[]).await).await;
    assert_eq!((answer.status, answer.kind.as_str()), (404, "urn:coequal:error:path-not-found"));
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_and_names_the_right_ones() {
    for method in ["PUT", "BREW", "TRACE"] {
        let response = ask(method, "/v1/node", &[]).await;
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD, OPTIONS");
        assert_eq!(problem(response).await.kind, "urn:coequal:error:method-not-allowed");
    }
    let options = ask("OPTIONS", "/v1/node", &[]).await;
    assert_eq!(
        (options.status(), &options.headers()[header::ALLOW]),
        (StatusCode::NO_CONTENT, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

#[tokio::test]
async fn keys_are_decoded_from_one_path_segment() {
    for (raw, key) in
        [("a%2Fb", "a/b"), ("%252F", "%2F"), ("..", ".."), ("%2e%2E", ".."), ("Z%C3%BCrich", "Zürich"), ("a+b", "a+b")]
    {
        let response = ask("GET", &format!("/v1/databases/d/collections/c/documents/{raw}"), &[]).await;
        assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, key), "{raw}");
    }
}

#[tokio::test]
async fn odd_keys_are_problems() {
    let long = "k".repeat(513);
    for (raw, name) in [
        ("%00", "malformed-name"),
        ("%0A", "malformed-name"),
        (long.as_str(), "malformed-name"),
        ("%FF", "malformed-path"),
        ("%ZZ", "malformed-path"),
        ("%", "malformed-path"),
    ] {
        let answer = problem(ask("GET", &format!("/v1/databases/d/collections/c/documents/{raw}"), &[]).await).await;
        assert_eq!((answer.status, answer.kind), (400, format!("urn:coequal:error:{name}")), "{raw}");
    }
    for path in ["/v1/databases/d/collections/c/documents/", "/v1/databases/d/collections/c/documents/a/b", "//v1/node"]
    {
        assert_eq!(ask("GET", path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_colon_in_a_segment_is_literal() {
    let path = "/v1/databases/d/collections/c/documents:batch";
    assert_eq!(text(ask("POST", path, &[]).await).await, "batch");
    assert_eq!(ask("POST", "/v1/databases/d/collections/c/documents:other", &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deadline_out_of_range_is_refused() {
    for bad in ["0", "600001", "abc", "-1", "+5", ""] {
        let answer = problem(ask("GET", "/v1/node", &[("coequal-deadline-ms", bad)]).await).await;
        assert_eq!(answer.kind, "urn:coequal:error:malformed-header", "{bad}");
    }
    assert_eq!(ask("GET", "/v1/node", &[("coequal-deadline-ms", "600000")]).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_on_after_its_deadline() {
    let answer = problem(ask("GET", "/v1/cluster", &[("coequal-deadline-ms", "5")]).await).await;
    assert_eq!((answer.status, answer.outcome.as_deref()), (503, Some("not-applied")));
}

#[tokio::test]
async fn too_many_requests_are_refused_and_probes_are_not() {
    let settings = ApiSettings { requests_max: 0, ..ApiSettings::default() };
    let response = ask_with(&settings, "GET", "/v1/node", &[]).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert_eq!(problem(response).await.status, 429);
    assert_eq!(
        ask_with(&settings, "POST", "/v1/databases/d/collections/c/documents:batch", &[]).await.status(),
        StatusCode::OK
    );
}
