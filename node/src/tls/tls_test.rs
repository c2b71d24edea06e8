//! Handshakes over real certificates, in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const NAME: &str = "orders.shop.svc";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a node's three files.
fn write(
    directory: &Path,
    authority: &Authority,
    name: &str,
    trusted: &[&Authority],
    change: impl Fn(&mut CertificateParams),
) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("ca.crt"), trusted.iter().map(|ca| ca.pem()).collect::<String>()).unwrap();
}

/// A node of some cluster, for tests of the rooms above.
pub(crate) fn some_node() -> (tempfile::TempDir, Tls) {
    node(&authority("some"), NAME)
}

fn node(authority: &Authority, name: &str) -> (tempfile::TempDir, Tls) {
    node_with(authority, name, |_| {})
}

fn node_with(authority: &Authority, name: &str, change: impl Fn(&mut CertificateParams)) -> (tempfile::TempDir, Tls) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), authority, name, &[authority], change);
    let tls = Tls::open(directory.path().to_owned(), NAME).unwrap();
    (directory, tls)
}

/// One byte from the dialer to the listener and back; each side's fault in words.
async fn meet(dialer: &Tls, listener: &Tls) -> (Result<(), String>, Result<(), String>) {
    let (near, far) = duplex(64 << 10);
    let say = |error: io::Error| words(&error).unwrap_or_else(|| error.to_string());
    let dial = async {
        let mut stream = dialer.connect(near).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await.map(drop)
    };
    let listen = async {
        let mut stream = listener.accept_node(far).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"y").await?;
        stream.flush().await
    };
    let (dialed, listened) = tokio::join!(dial, listen);
    (dialed.map_err(say), listened.map_err(say))
}

#[tokio::test]
async fn nodes_of_one_cluster_meet() {
    let ca = authority("one");
    let ((_a, a), (_b, b)) = (node(&ca, NAME), node(&ca, NAME));
    assert_eq!(meet(&a, &b).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_authority_and_by_name() {
    let (one, two) = (authority("one"), authority("two"));
    let ((_a, own), (_b, stranger), (_c, named)) = (node(&one, NAME), node(&two, NAME), node(&one, "users.shop.svc"));
    let (dialed, _) = meet(&own, &stranger).await;
    assert!(dialed.unwrap_err().contains("authority that is not in ca.crt"));
    let (_, listened) = meet(&stranger, &own).await;
    assert!(listened.unwrap_err().contains("not accept this node's certificate"));
    // One authority for several clusters: the name keeps them apart, in both directions.
    let (dialed, _) = meet(&own, &named).await;
    assert!(dialed.unwrap_err().contains("not for this cluster's name"));
    let (_, listened) = meet(&named, &own).await;
    assert!(listened.unwrap_err().contains("not for this cluster's name"));
}

#[tokio::test]
async fn expired_certificates_are_refused_and_say_so() {
    let ca = authority("one");
    let (_a, own) = node(&ca, NAME);
    let (_b, expired) = node_with(&ca, NAME, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let (dialed, _) = meet(&own, &expired).await;
    assert!(dialed.unwrap_err().contains("has expired; renew it"));
    let (_, listened) = meet(&expired, &own).await;
    assert!(listened.is_err());
}

#[tokio::test]
async fn whoever_speaks_no_tls_or_shows_no_certificate_is_refused() {
    let ca = authority("one");
    let (_a, own) = node(&ca, NAME);
    let (mut near, far): (DuplexStream, DuplexStream) = duplex(1024);
    near.write_all(&[0, 0, 0, 40, 1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
    let error = own.accept_node(far).await.err().unwrap();
    assert!(words(&error).unwrap().contains("does not speak TLS"), "{error}");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (near, far) = duplex(64 << 10);
    let (_, listened) = tokio::join!(connector.connect(name.clone(), near), own.accept_node(far));
    assert!(words(&listened.err().unwrap()).unwrap().contains("shows no certificate"));
    // The HTTP API takes such a client in, and knows that it is none of the cluster's own.
    let (near, far) = duplex(64 << 10);
    let (_kept, accepted) = tokio::join!(connector.connect(name, near), own.accept_client(far));
    assert!(!accepted.unwrap().1);
}

#[tokio::test]
async fn a_rotation_needs_no_restart_and_a_broken_file_changes_nothing() {
    let (old, new) = (authority("old"), authority("new"));
    let ((a_files, a), (b_files, b)) = (node(&old, NAME), node(&old, NAME));
    assert!(!a.reload());
    // First everybody trusts both, then one after the other shows the new one.
    for (files, tls) in [(&a_files, &a), (&b_files, &b)] {
        write(files.path(), &old, NAME, &[&old, &new], |_| {});
        assert!(tls.reload());
    }
    write(a_files.path(), &new, NAME, &[&old, &new], |_| {});
    assert!(a.reload());
    assert_eq!((meet(&a, &b).await, meet(&b, &a).await), ((Ok(()), Ok(())), (Ok(()), Ok(()))));
    std::fs::write(b_files.path().join("tls.key"), "not a key").unwrap();
    assert!(!b.reload() && !b.reload());
    assert_eq!(meet(&a, &b).await, (Ok(()), Ok(())), "the old ones stay in use");
}

#[tokio::test]
async fn a_new_certificate_that_others_would_refuse_leaves_the_old_one_in_use() {
    let (ca, stranger) = (authority("one"), authority("two"));
    let ((a_files, a), (_b, b)) = (node(&ca, NAME), node(&ca, NAME));
    let over = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    write(a_files.path(), &ca, NAME, &[&ca], over);
    assert!(!a.reload() && !a.reload());
    write(a_files.path(), &ca, "users.shop.svc", &[&ca], |_| {});
    assert!(!a.reload());
    write(a_files.path(), &stranger, NAME, &[&ca], |_| {});
    assert!(!a.reload());
    assert_eq!((meet(&a, &b).await, meet(&b, &a).await), ((Ok(()), Ok(())), (Ok(()), Ok(()))));
    write(a_files.path(), &ca, NAME, &[&ca], |_| {});
    assert!(a.reload(), "and the next good one is taken");
}

#[test]
fn what_cannot_be_used_is_named() {
    let ca = authority("one");
    let (directory, _) = node(&ca, NAME);
    let open = |name: &str| Tls::open(directory.path().to_owned(), name).unwrap_err().to_string();
    assert!(open("not a name").contains("--tls-name"));
    let other = KeyPair::generate().unwrap();
    std::fs::write(directory.path().join("tls.key"), other.serialize_pem()).unwrap();
    assert!(open(NAME).contains("does not go with tls.key"), "{}", open(NAME));
    std::fs::write(directory.path().join("ca.crt"), "empty").unwrap();
    assert!(open(NAME).contains("holds no certificate"), "{}", open(NAME));
    std::fs::remove_file(directory.path().join("ca.crt")).unwrap();
    assert!(open(NAME).contains("ca.crt cannot be read"), "{}", open(NAME));
}
