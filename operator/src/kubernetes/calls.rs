//! Every call to the API server: with a deadline, and no change unless this operator leads.

use super::error::ReconcileError;
use super::leader::Leadership;
use std::time::Duration;

/// Deadline of a call. Shorter than the margin between the end of leading and its taking over by another.
pub const CALL_DEADLINE: Duration = Duration::from_secs(4);

/// Waits for an answer that only reads.
pub async fn read<T>(
    action: &'static str,
    what: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReconcileError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| ReconcileError::Kubernetes {
            action,
            what: what.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(ReconcileError::TooSlow { action, what: what.to_owned(), seconds: CALL_DEADLINE.as_secs() }),
    }
}

/// Waits for a change; nothing is sent when another operator may lead by now.
pub async fn change<T>(
    leadership: &Leadership,
    action: &'static str,
    what: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReconcileError> {
    if !leadership.holds() {
        return Err(ReconcileError::NotLeading);
    }
    read(action, what, call).await
}
