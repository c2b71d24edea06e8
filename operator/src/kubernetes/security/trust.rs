//! The client for the nodes of one cluster: it shows a certificate of the cluster, and takes nodes that do.

use super::held::Pair;
use super::names::tls_name;
use super::verify;
use crate::nodes::http_client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;

/// Nodes are called by their pods' addresses, and show a certificate for the cluster's name.
#[derive(Debug)]
struct OfCluster {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for OfCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _called: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client that shows `own` and takes nodes whose certificate is for `name` and comes from `trusted`.
pub fn client(own: &Pair, trusted: &[CertificateDer<'static>], name: &str) -> Result<reqwest::Client, String> {
    let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| of_no_use(&error))?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|error| of_no_use(&error))?;
    let config = taking(trusted, name)?.with_client_auth_cert(chain, key).map_err(|error| of_no_use(&error))?;
    http_client(Some(config)).map_err(|error| of_no_use(&error))
}

/// A client that shows nothing, and takes the nodes of this cluster by `bundle`, which clients trust: in PEM form.
pub fn visitor(bundle: &str, cluster: &str, namespace: &str) -> Result<reqwest::Client, String> {
    let trusted = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<Vec<_>, _>>();
    let trusted = trusted.map_err(|error| format!("ca.crt is not in PEM form: {error}"))?;
    let config = taking(&trusted, &tls_name(cluster, namespace))?.with_no_client_auth();
    http_client(Some(config)).map_err(|error| of_no_use(&error))
}

fn taking(
    trusted: &[CertificateDer<'static>],
    name: &str,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = Arc::new(default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(verify::roots(trusted)?, Arc::clone(&provider))
        .build()
        .map_err(|error| of_no_use(&error))?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| of_no_use(&error))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| of_no_use(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OfCluster { inner, name })))
}

fn of_no_use(error: &dyn std::fmt::Display) -> String {
    format!("the client for nodes cannot be made: {error}")
}
