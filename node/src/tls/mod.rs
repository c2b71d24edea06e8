//! TLS between nodes, and between clients and a node. Certificates come from one directory and are read again when
//! they change; nothing has to be restarted for a rotation. Modules stand in reading order.
//!
//! ```text
//! <directory>/tls.crt   this node's certificate, and those that lead from it to an authority
//! <directory>/tls.key   its private key
//! <directory>/ca.crt    the authorities that are trusted; both old and new while they are rotated
//! ```
//!
//! Every node shows a certificate, and both sides check two things: a trusted authority issued it, and it is for the
//! name of this cluster. The second keeps clusters apart that have one authority in common.

mod files;
mod words;

#[cfg(test)]
#[path = "tls_test.rs"]
pub(crate) mod tests;

pub use words::words;

use files::{Configs, Files};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// How often the files are looked at. Kubernetes brings a changed Secret to a pod within about a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}; --tls-directory needs tls.crt, tls.key and ca.crt")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The name is none.
    #[error("--tls-name {0:?} is not a DNS name")]
    BadName(String),
}

struct Current {
    files: Files,
    configs: Configs,
    /// Changed files that could not be used; said once.
    refused: Option<Files>,
}

/// The certificates in use.
pub struct Tls {
    directory: PathBuf,
    name: ServerName<'static>,
    current: Mutex<Current>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("directory", &self.directory).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates. `name`: the DNS name that the certificate of every node of this cluster is for.
    pub fn open(directory: PathBuf, name: &str) -> Result<Self, TlsError> {
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName(name.to_owned()))?;
        let files = Files::read(&directory)?;
        let configs = files.configs(&directory)?;
        Ok(Self { directory, name: server_name, current: Mutex::new(Current { files, configs, refused: None }) })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // The fields are replaced whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the files again and again; whoever connects from then on meets the new ones.
    pub async fn keep_up_to_date(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tls = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || tls.reload()).await {
                tracing::error!(%error, "the certificates could not be looked at");
            }
        }
    }

    /// One look. Files that cannot be used, and a certificate that others would refuse, leave the old ones in use. True
    /// when there are new ones.
    pub fn reload(&self) -> bool {
        let files = match Files::read(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "certificates not read again; the old ones stay in use");
                return false;
            }
        };
        let mut current = self.current();
        if files == current.files {
            return false;
        }
        // Looked at again each time: one that is not valid yet will be.
        let usable = files.check(&self.directory, &self.name).and_then(|()| files.configs(&self.directory));
        match usable {
            Ok(configs) => {
                tracing::info!(directory = %self.directory.display(), "certificates read again");
                *current = Current { files, configs, refused: None };
                true
            }
            Err(error) => {
                if current.refused.as_ref() != Some(&files) {
                    tracing::error!(%error, "the changed certificates cannot be used; the old ones stay in use");
                }
                current.refused = Some(files);
                false
            }
        }
    }

    /// The dialer's side of a connection between nodes.
    pub async fn connect<S>(&self, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current().configs.dialer);
        TlsConnector::from(config).connect(self.name.clone(), stream).await
    }

    /// The listener's side: the dialer has to show a certificate of this cluster.
    pub async fn accept_node<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current().configs.nodes);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => self.check_name(certificate)?,
            None => return Err(io::Error::other(rustls::Error::NoCertificatesPresented)),
        }
        Ok(stream)
    }

    /// A client of the HTTP API; true when it showed a certificate of this cluster, which it need not.
    pub async fn accept_client<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, bool)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current().configs.clients);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let is_ours = shown.is_some_and(|certificate| self.check_name(certificate).is_ok());
        Ok((stream, is_ours))
    }

    fn check_name(&self, certificate: &CertificateDer<'_>) -> io::Result<()> {
        let parsed = ParsedCertificate::try_from(certificate).map_err(io::Error::other)?;
        rustls::client::verify_server_name(&parsed, &self.name).map_err(io::Error::other)
    }
}
