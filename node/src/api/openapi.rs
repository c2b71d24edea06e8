//! stub
pub fn document() -> String {
    String::new()
}
pub async fn show() -> axum::response::Response {
    super::empty(http::StatusCode::OK)
}
