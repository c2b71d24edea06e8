//! Making keys and certificates. The time comes in; keys are drawn here, and shown nowhere.

use super::held::{Authority, Pair};
use super::names::subject_names;
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::time::Duration;

const DAY: u64 = 24 * 3600;
/// Life of an authority: ten years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3652 * DAY);
/// Life of the nodes' certificate.
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY);
/// Life of a certificate that only asks nodes whom they trust.
const PROBE_LIFE: Duration = Duration::from_secs(3600);
/// Clocks may differ by so much.
const BEFORE: Duration = Duration::from_secs(3600);

/// What could not be made, and why.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// A new authority for one cluster.
pub fn authority(cluster: &str, namespace: &str, now: Timestamp) -> Result<Pair, IssueError> {
    let mut params = params(Vec::new(), now, AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two that follow each other have different names: whoever trusts both finds the right one at once.
    params.distinguished_name = named(&format!("{cluster} {}", now.as_second()), namespace);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A certificate for all nodes of a cluster.
pub fn leaf(authority: &Authority, cluster: &str, namespace: &str, now: Timestamp) -> Result<Pair, IssueError> {
    signed(authority, cluster, namespace, now, LEAF_LIFE)
}

/// A certificate of this operator, to ask nodes whether they trust the authority. It is kept nowhere.
pub fn probe(authority: &Authority, cluster: &str, namespace: &str, now: Timestamp) -> Result<Pair, IssueError> {
    signed(authority, cluster, namespace, now, PROBE_LIFE)
}

fn signed(
    authority: &Authority,
    cluster: &str,
    namespace: &str,
    now: Timestamp,
    life: Duration,
) -> Result<Pair, IssueError> {
    let left = authority.facts.validity.until.as_second().saturating_sub(now.as_second());
    let life = life.min(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    let mut params = params(subject_names(cluster, namespace), now, life)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = named(cluster, namespace);
    let issuer = Issuer::from_ca_cert_pem(&authority.pair.certificate, KeyPair::from_pem(&authority.pair.key)?)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(names: Vec<String>, now: Timestamp, life: Duration) -> Result<CertificateParams, IssueError> {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let mut params = CertificateParams::new(names)?;
    (params.not_before, params.not_after) = (now - BEFORE, now + life);
    Ok(params)
}

fn named(name: &str, namespace: &str) -> DistinguishedName {
    let mut found = DistinguishedName::new();
    found.push(DnType::OrganizationName, namespace);
    found.push(DnType::CommonName, name);
    found
}

/// Certificates one after the other, as they stand in `ca.crt`.
pub fn bundle(certificates: &[CertificateDer<'static>]) -> String {
    let text = |der: &CertificateDer<'static>| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()));
    certificates.iter().map(text).collect()
}

/// The certificate of a pair, for a bundle.
pub fn first(pair: &Pair) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()
}
