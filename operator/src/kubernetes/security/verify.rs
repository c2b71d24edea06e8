//! Whether a certificate is what nodes and clients take: checked by the same library, with the same rules.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// The trusted authorities; one that cannot be used is named.
pub fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| format!("ca.crt holds no authority: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// Checks a chain for a name, as the listener's and as the dialer's; `second` is the moment, since 1970.
pub fn check(
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    name: &str,
    second: i64,
) -> Result<(), String> {
    let (Some((leaf, between)), roots) = (chain.split_first(), roots(authorities)?) else {
        return Err("tls.crt holds no certificate".to_owned());
    };
    let provider = Arc::new(default_provider());
    let when = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(second).unwrap_or(0)));
    let server_name = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
    let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| format!("ca.crt is of no use: {error}"))?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| format!("ca.crt is of no use: {error}"))?;
    servers.verify_server_cert(leaf, between, &server_name, &[], when).map_err(|error| words(&error, name))?;
    clients.verify_client_cert(leaf, between, when).map_err(|error| words(&error, name))?;
    Ok(())
}

fn words(error: &Error, name: &str) -> String {
    let Error::InvalidCertificate(fault) = error else { return format!("tls.crt: {error}") };
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "tls.crt has expired; renew it".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "tls.crt is not valid yet; compare the clocks".into()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "tls.crt was not issued by an authority in ca.crt".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("tls.crt is not for the DNS name {name}; issue one that is")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "tls.crt has to be for servers and for clients (extended key usages server auth and client auth)".into()
        }
        other => format!("tls.crt is refused: {other}"),
    }
}
