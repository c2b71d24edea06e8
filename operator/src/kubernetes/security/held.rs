//! What the Secrets hold: from bytes to certificates that can be used, or what is wrong with them. No I/O.

use super::names::{subject_names, tls_name};
use super::plan::{AuthorityFacts, Held, LeafFacts, Validity};
use super::verify;
use k8s_openapi::jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::collections::BTreeMap;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Keys of a Secret with certificates, as Kubernetes and cert-manager name them.
pub const CERTIFICATE: &str = "tls.crt";
/// The private key.
pub const KEY: &str = "tls.key";
/// Whom to trust.
pub const TRUSTED: &str = "ca.crt";
/// Annotation of such a Secret: what a person wrote when its content was made.
pub const RENEWED: &str = "coequal.dev/renewed";
/// Annotation of the authority: why it was made.
pub const MADE_BECAUSE: &str = "coequal.dev/made-because";

/// What a Secret holds, and what stands at it.
#[derive(Clone, Default)]
pub struct Content {
    /// Keys and their values.
    pub data: BTreeMap<String, Vec<u8>>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Content {
    /// A value as text.
    pub fn text(&self, key: &str) -> Result<&str, String> {
        let bytes = self.data.get(key).ok_or_else(|| format!("it has no key {key}"))?;
        std::str::from_utf8(bytes).map_err(|_| format!("{key} is not text"))
    }
}

/// A certificate with its key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

/// An authority as it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The one that signs.
    pub pair: Pair,
    /// All that are trusted, the one that signs first.
    pub trusted: Vec<CertificateDer<'static>>,
    /// For the decision.
    pub facts: AuthorityFacts,
}

/// The nodes' certificate as it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Certificate and key.
    pub pair: Pair,
    /// Whom its holders trust.
    pub trusted: Vec<CertificateDer<'static>>,
    /// For the decision.
    pub facts: LeafFacts,
}

/// All certificates of a value, at least one.
pub fn certificates(content: &Content, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content.text(key)?.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{key} holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{key} is not in PEM form: {error}")),
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>, key: &str) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der).map(|(_, found)| found).map_err(|error| format!("{key} is no certificate: {error}"))
}

fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, String> {
    let second = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|_| "its dates are of no use".to_owned())
    };
    let found = certificate.validity();
    Ok(Validity { from: second(found.not_before)?, until: second(found.not_after)? })
}

/// The certificate and the key that goes with it.
fn pair(content: &Content) -> Result<(Pair, Vec<CertificateDer<'static>>, Validity), String> {
    let chain = certificates(content, CERTIFICATE)?;
    let first = chain.first().ok_or("tls.crt holds no certificate")?;
    let certificate = parsed(first, CERTIFICATE)?;
    let key = KeyPair::from_pem(content.text(KEY)?).map_err(|_| "tls.key holds no private key that can be used")?;
    if key.subject_public_key_info() != certificate.public_key().raw {
        return Err("tls.key does not go with tls.crt".to_owned());
    }
    let validity = validity(&certificate)?;
    let pair = Pair { certificate: content.text(CERTIFICATE)?.to_owned(), key: content.text(KEY)?.to_owned() };
    Ok((pair, chain, validity))
}

/// The authority in its Secret.
pub fn authority(content: Option<&Content>) -> Held<Authority> {
    let Some(content) = content else { return Held::Absent };
    match read_authority(content) {
        Ok(authority) => Held::Good(authority),
        Err(wrong) => Held::Broken(wrong),
    }
}

fn read_authority(content: &Content) -> Result<Authority, String> {
    let (pair, chain, validity) = pair(content)?;
    let own = chain.into_iter().next().ok_or("tls.crt holds no certificate")?;
    if !parsed(&own, CERTIFICATE)?.is_ca() {
        return Err("tls.crt is no certificate of an authority".to_owned());
    }
    let mut trusted = certificates(content, TRUSTED)?;
    verify::roots(&trusted)?;
    trusted.retain(|certificate| *certificate != own);
    let facts = AuthorityFacts {
        validity,
        has_previous: !trusted.is_empty(),
        is_urgent: content.annotations.get(MADE_BECAUSE).is_none_or(|why| why != "age"),
        renewed: content.annotations.get(RENEWED).cloned(),
    };
    trusted.insert(0, own);
    Ok(Authority { pair, trusted, facts })
}

/// The nodes' certificate in its Secret, against the authority.
pub fn leaf(content: Option<&Content>, authority: &Authority, cluster: &str, namespace: &str) -> Held<Leaf> {
    let Some(content) = content else { return Held::Absent };
    match read_leaf(content, authority, cluster, namespace) {
        Ok(leaf) => Held::Good(leaf),
        Err(wrong) => Held::Broken(wrong),
    }
}

fn read_leaf(content: &Content, authority: &Authority, cluster: &str, namespace: &str) -> Result<Leaf, String> {
    let (pair, chain, validity) = pair(content)?;
    // Its end is the decision's; here it only matters who signed it, and what for.
    let (name, when) = (tls_name(cluster, namespace), validity.from.as_second());
    let by = |authorities: &[CertificateDer<'static>]| verify::check(&chain, authorities, &name, when);
    let is_of_active = by(authority.trusted.get(..1).unwrap_or_default()).is_ok();
    if !is_of_active {
        by(&authority.trusted)?;
    }
    let names = chain.first().map(subject_names_of).transpose()?.unwrap_or_default();
    // Whom it trusts is put right without a new certificate.
    let trusted = certificates(content, TRUSTED).unwrap_or_default();
    let facts = LeafFacts {
        validity,
        is_of_active,
        has_all_names: subject_names(cluster, namespace).iter().all(|name| names.contains(name)),
        trusts_all: trusted == authority.trusted,
        renewed: content.annotations.get(RENEWED).cloned(),
    };
    Ok(Leaf { pair, trusted, facts })
}

fn subject_names_of(der: &CertificateDer<'static>) -> Result<Vec<String>, String> {
    let certificate = parsed(der, CERTIFICATE)?;
    let names = certificate.subject_alternative_name().map_err(|error| format!("tls.crt: {error}"))?;
    let found = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    Ok(found.collect())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::IpAddr::from(sixteen).to_string())
}

/// A Secret that a person looks after: everything that a node asks of it, at this moment.
pub fn provided(content: &Content, name: &str, now: Timestamp) -> Result<(Pair, Validity), String> {
    let (pair, chain, validity) = pair(content)?;
    let trusted = certificates(content, TRUSTED)?;
    verify::check(&chain, &trusted, name, now.as_second())?;
    Ok((pair, validity))
}

/// Authorities that are still of use when the authority's own Secret is lost: those that the nodes trust.
pub fn still_trusted(content: Option<&Content>, now: Timestamp) -> Vec<CertificateDer<'static>> {
    const MOST: usize = 3;
    let found = content.and_then(|content| certificates(content, TRUSTED).ok()).unwrap_or_default();
    let is_of_use = |der: &CertificateDer<'static>| {
        parsed(der, TRUSTED).is_ok_and(|found| found.is_ca() && validity(&found).is_ok_and(|life| !life.is_over(now)))
            && verify::roots(std::slice::from_ref(der)).is_ok()
    };
    found.into_iter().filter(is_of_use).take(MOST).collect()
}
