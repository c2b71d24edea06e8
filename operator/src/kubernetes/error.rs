//! Why a reconcile did not come to its end. Waiting is no error, and neither is what only a person can put right.

use super::build::ChildKind;

/// One way for a reconcile to fail; it is tried again, later and later.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A call to the API server failed.
    #[error("cannot {action} {what}: {source}")]
    Kubernetes {
        /// What was tried.
        action: &'static str,
        /// On which object.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A call to the API server took too long.
    #[error("cannot {action} {what}: no answer within {seconds} s")]
    TooSlow {
        /// What was tried.
        action: &'static str,
        /// On which object.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another operator took over; nothing may be changed any more.
    #[error("another operator leads now; nothing was changed")]
    NotLeading,
    /// A certificate, a key or a token could not be made or used.
    #[error("{0}")]
    Certificates(String),
    /// The resource cannot be read as text for validation.
    #[error("the resource cannot be written as JSON: {0}")]
    Unreadable(String),
    /// The resource has no name, namespace or uid: it did not come from an API server.
    #[error("the resource has no {0}")]
    Incomplete(&'static str),
    /// The StatefulSet changed since it was looked at.
    #[error("{kind:?} {name} was changed by somebody else at the same time")]
    Changed {
        /// Kind of the child.
        kind: ChildKind,
        /// Its name.
        name: String,
    },
}

impl ReconcileError {
    /// Whether somebody else was faster: look again at once, there is nothing to report.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Kubernetes { source, .. } => is_status(source, 409),
            Self::Changed { .. } => true,
            _ => false,
        }
    }

    /// What the API server says against the request, if it will say so again and again.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Kubernetes { action, what, source } if is_status(source, 422) || is_status(source, 403) => {
                Some(format!("the API server refuses to {action} {what}: {source}"))
            }
            _ => None,
        }
    }
}

/// Whether the API server answered with this HTTP status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
