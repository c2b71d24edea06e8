//! Certificates between nodes and tokens for clients, as processes meet them.

use coequal_tests::cluster::{Cluster, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use std::path::Path;

const NAME: &str = "orders.test.svc";
const JSON: (&str, &str) = ("content-type", "application/json");

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority")
}

/// Writes a certificate of `issuer`, and whom its holder trusts; each file replaced whole.
fn write(directory: &Path, issuer: &Authority, trusted: &[&Authority]) {
    std::fs::create_dir_all(directory).expect("directory");
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("params");
    let certificate = params.signed_by(&key, issuer).expect("signed");
    let files = [
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
        ("ca.crt", trusted.iter().map(|ca| ca.pem()).collect()),
    ];
    for (name, text) in files {
        std::fs::write(directory.join("new"), text).expect("written");
        std::fs::rename(directory.join("new"), directory.join(name)).expect("replaced");
    }
}

fn tls(directory: &Path) -> Vec<String> {
    vec!["--tls-directory".into(), directory.display().to_string(), "--tls-name".into(), NAME.into()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_meet_by_their_certificates_and_strangers_are_told_why_not() {
    let (old, new, other) = (authority(), authority(), authority());
    let files = tempfile::tempdir().expect("directory");
    write(files.path(), &old, &[&old]);
    let extra = tls(files.path());
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let mut cluster = Cluster::with_database(3, "orders", "{}", &extra).await;

    // One without TLS, and one of another cluster that somehow was given these addresses.
    let (plain, foreign) = (cluster.add(&[]), cluster.add_stopped(&[]));
    let stranger = tempfile::tempdir().expect("directory");
    write(stranger.path(), &other, &[&other]);
    cluster.nodes[foreign].extra = tls(stranger.path());
    cluster.nodes[foreign].start();
    for words in ["does not speak TLS", "not accept this node's certificate: its authority is not known there"] {
        until(words, async || cluster.nodes[..3].iter().any(|node| node.log().contains(words)).then_some(())).await;
    }
    let members = cluster.nodes[0].client().get("/v1/cluster").await.json();
    assert_eq!(members["nodes"].as_array().map(Vec::len), Some(3), "{members}");
    for at in [foreign, plain] {
        cluster.nodes.remove(at.min(cluster.nodes.len() - 1)).kill();
    }

    // A rotation while the nodes run: trust both, show the new one; then a node starts anew and meets the others.
    write(files.path(), &old, &[&old, &new]);
    let read_again = |times: usize| {
        let all = &cluster.nodes;
        async move || {
            let counts = |log: String| log.matches("certificates read again").count() >= times;
            all.iter().all(|node| counts(node.log())).then_some(())
        }
    };
    until("both authorities are trusted", read_again(1)).await;
    write(files.path(), &new, &[&old, &new]);
    until("the new certificate is shown", read_again(2)).await;
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    cluster.until_members(3).await;
    cluster.until_online("orders").await;
    let written = cluster.nodes[1].client().put("/v1/databases/orders/collections/c/documents/k", "{}").await;
    assert_eq!(written.status, 201, "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_a_token_that_can_be_replaced_while_the_node_runs() {
    let tokens = tempfile::tempdir().expect("directory");
    let set = |name: &str, token: &str| std::fs::write(tokens.path().join(name), token).expect("token");
    let ask = async |cluster: &Cluster, method: Method, token: &str, path: &str| {
        let shown = format!("Bearer {token}");
        let headers: Vec<(&str, &str)> =
            if token.is_empty() { vec![JSON] } else { vec![JSON, ("authorization", &shown)] };
        cluster.nodes[0].client().send(method, path, &headers, "{}").await.status.as_u16()
    };
    let (admin, reader, next) = ("admin-0123456789abcdef", "reader-0123456789abcdef", "next-0123456789abcdef");
    set("admin", admin);
    set("read-only", reader);
    let mut cluster = Cluster { nodes: Vec::new(), directory: tempfile::tempdir().expect("directory") };
    cluster.add(&["--token-directory", &tokens.path().display().to_string()]);
    let probe = cluster.nodes[0].client();
    until("the probe, which needs no token", async || {
        (probe.try_send(Method::GET, "/readyz", &[], "").await.ok()?.status == 200).then_some(())
    })
    .await;
    for (method, token, path, expected) in [
        (Method::GET, "", "/v1/cluster", 401),
        (Method::GET, "", "/metrics", 401),
        (Method::GET, "", "/nowhere", 401),
        (Method::GET, "", "/livez", 200),
        (Method::GET, "wrong-0123456789abcdef", "/v1/cluster", 401),
        (Method::GET, reader, "/v1/cluster", 200),
        (Method::GET, reader, "/metrics", 200),
        (Method::PUT, reader, "/v1/databases/orders", 403),
        (Method::PUT, admin, "/v1/databases/orders", 201),
        (Method::PUT, reader, "/v1/databases/orders/collections/c/documents/k", 403),
        (Method::PUT, admin, "/v1/databases/orders/collections/c/documents/k", 201),
        (Method::GET, reader, "/v1/databases/orders/collections/c/documents/k", 200),
    ] {
        assert_eq!(ask(&cluster, method.clone(), token, path).await, expected, "{method} {path} with {token:?}");
    }
    set("admin", next);
    until("the new token", async || (ask(&cluster, Method::GET, next, "/v1/cluster").await == 200).then_some(())).await;
    assert_eq!(ask(&cluster, Method::GET, admin, "/v1/cluster").await, 401, "the old one is worth nothing");
    let log = cluster.nodes[0].log();
    assert!([admin, reader, next].iter().all(|token| !log.contains(token)), "tokens are never logged");
}
