//! The three files, and what TLS makes of them.

use super::TlsError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files longer than this hold no certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files as they are.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

/// What connections are made with.
pub(super) struct Configs {
    /// Dialing another node.
    pub dialer: Arc<ClientConfig>,
    /// Another node dials: its certificate is demanded.
    pub nodes: Arc<ServerConfig>,
    /// A client of the HTTP API: its certificate is welcome.
    pub clients: Arc<ServerConfig>,
}

fn read(path: PathBuf) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    match std::fs::File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(TlsError::Unreadable { path, source }),
    }
}

impl Files {
    pub fn read(directory: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(directory.join("tls.crt"))?,
            key: read(directory.join("tls.key"))?,
            authorities: read(directory.join("ca.crt"))?,
        })
    }

    /// The certificate and those that lead to an authority, and the authorities.
    fn parsed(&self, directory: &Path) -> Result<(Vec<CertificateDer<'static>>, Arc<RootCertStore>), TlsError> {
        let chain = certificates(&self.certificate).map_err(|reason| unusable(directory, "tls.crt", reason))?;
        let trusted = certificates(&self.authorities).map_err(|reason| unusable(directory, "ca.crt", reason))?;
        let mut roots = RootCertStore::empty();
        for authority in trusted {
            roots.add(authority).map_err(|error| unusable(directory, "ca.crt", error.to_string()))?;
        }
        Ok((chain, Arc::new(roots)))
    }

    /// Whether other nodes, as dialers and as listeners, would take this certificate for one of the cluster `name` now.
    pub fn check(&self, directory: &Path, name: &ServerName<'_>) -> Result<(), TlsError> {
        let (chain, roots) = self.parsed(directory)?;
        let refused = |error: rustls::Error| unusable(directory, "tls.crt", format!("others would refuse it: {error}"));
        let unknown = |error: VerifierBuilderError| unusable(directory, "ca.crt", error.to_string());
        let (provider, now) = (Arc::new(default_provider()), UnixTime::now());
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(unknown)?;
        let Some((own, between)) = chain.split_first() else { return Ok(()) };
        let servers = servers.build().map_err(unknown)?;
        servers.verify_server_cert(own, between, name, &[], now).map_err(refused)?;
        clients.verify_client_cert(own, between, now).map_err(refused)?;
        Ok(())
    }

    pub fn configs(&self, directory: &Path) -> Result<Configs, TlsError> {
        let (chain, roots) = self.parsed(directory)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(&self.key)
                .map_err(|error| unusable(directory, "tls.key", format!("holds no private key in PEM form: {error}")))
        };
        let provider = Arc::new(default_provider());
        let not_matching =
            |error: rustls::Error| unusable(directory, "tls.crt", format!("does not go with tls.key: {error}"));
        let dialer = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(not_matching)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(not_matching)?;
        let nodes = server(&provider, &roots, true)
            .and_then(|builder| builder.with_single_cert(chain.clone(), key().map_err(general)?))
            .map_err(not_matching)?;
        let mut clients = server(&provider, &roots, false)
            .and_then(|builder| builder.with_single_cert(chain, key().map_err(general)?))
            .map_err(not_matching)?;
        clients.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Configs { dialer: Arc::new(dialer), nodes: Arc::new(nodes), clients: Arc::new(clients) })
    }
}

fn unusable(directory: &Path, file: &str, reason: String) -> TlsError {
    TlsError::Unusable { path: directory.join(file), reason }
}

fn general(error: TlsError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

type ServerBuilder = rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

/// Nodes speak TLS 1.3 among themselves; clients may be older.
fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    demand: bool,
) -> Result<ServerBuilder, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let verifier = if demand { verifier } else { verifier.allow_unauthenticated() };
    let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = if demand {
        builder.with_protocol_versions(&[&TLS13])?
    } else {
        builder.with_safe_default_protocol_versions()?
    };
    Ok(builder.with_client_cert_verifier(verifier))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not in PEM form: {error}"))?;
    if found.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(found) }
}
