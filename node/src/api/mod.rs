//! stub
pub struct ApiSettings {
    pub document_bytes_max: usize,
}
impl Default for ApiSettings {
    fn default() -> Self {
        Self { document_bytes_max: 1 << 20 }
    }
}
pub fn router(_s: crate::replication::NodeService, _a: ApiSettings) -> axum::Router {
    axum::Router::new()
}
pub async fn serve(_l: tokio::net::TcpListener, _r: axum::Router, s: impl Future<Output = ()>) -> std::io::Result<()> {
    s.await;
    Ok(())
}
