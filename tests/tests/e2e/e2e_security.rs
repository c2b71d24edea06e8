//! Certificates and tokens: renewed, rotated, replaced and spoilt while applications work.

use coequal_tests::client::Client;
use coequal_tests::kubernetes::{Access, Load, OPERATOR_NAMESPACE, Place, With, at, condition, scenario, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const NODES: [&str; 3] = ["orders-0", "orders-1", "orders-2"];
const DOCUMENT: &str = "/v1/databases/orders/collections/load/documents/of-a-person";

/// The certificates that the nodes show to whoever trusts as `access` does.
async fn shown(place: &Place, access: &Access) -> Result<Vec<Vec<u8>>, String> {
    let mut certificates = Vec::new();
    for node in NODES {
        let certificate = access.certificate_of(&place.address(node).await).await;
        certificates.push(certificate.map_err(|error| format!("{node}: {error}"))?);
    }
    Ok(certificates)
}

/// Waits until every node shows another certificate than before.
async fn until_others_are_shown(place: &Place, before: &[Vec<u8>], what: &str) {
    let (_, took) = until(what, async || {
        let now = shown(place, &Access::of(place, "orders").await).await?;
        let kept: Vec<_> = NODES.iter().zip(now.iter().zip(before)).filter(|(_, (a, b))| a == b).collect();
        if kept.is_empty() { Ok(()) } else { Err(format!("{} nodes show the old one", kept.len())) }
    })
    .await;
    println!("TIME {what}: {took:.1?}");
}

async fn annotate(place: &Place, annotation: &str, text: &str) {
    place.patch(json!({ "metadata": { "annotations": { annotation: text } } })).await;
}

#[test]
fn certificates_and_their_authority_are_renewed_while_applications_work() {
    scenario("e2e-certificates", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let (pods, access) = (place.pods().await, Access::of(place, "orders").await);
        let before = shown(place, &access).await.expect("every node shows a certificate");

        annotate(place, "coequal.dev/renew-certificates", "once").await;
        until_others_are_shown(place, &before, "from the wish to a new certificate on every node").await;
        load.goes_on().await;

        annotate(place, "coequal.dev/renew-authority", "once").await;
        until("clients are told of both authorities", async || {
            let now = Access::of(place, "orders").await.authorities();
            if now == 2 { Ok(()) } else { Err(format!("{now} authorities")) }
        })
        .await;
        let (_, took) = until("the old authority is trusted no more", async || {
            let now = Access::of(place, "orders").await.authorities();
            let says = condition(&place.orders().await, "CertificatesValid");
            if now == 1 { Ok(()) } else { Err(format!("{now} authorities, {says}")) }
        })
        .await;
        println!("TIME rotation of the authority, from both to the new one alone: {took:.1?}");
        let renewed = Access::of(place, "orders").await;
        shown(place, &renewed).await.expect("every node shows a certificate of the new authority");
        for node in NODES {
            let refused = access.certificate_of(&place.address(node).await).await;
            assert!(refused.is_err(), "whoever trusts the old authority alone meets a stranger at {node}");
        }
        assert_eq!(place.pods().await, pods, "the same pods");
        assert_eq!(place.restarts().await, 0, "and none was restarted");
        load.finish(place, "certificates renewed, authority rotated", 3).await;
    });
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of a person");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority")
}

/// What cert-manager would write into a Secret for the nodes of `orders`.
fn issued(place: &Place, authority: &Authority, is_over: bool) -> Value {
    let names = ["orders-nodes", "orders"].map(|service| format!("{service}.{}.svc", place.namespace));
    let mut params = CertificateParams::new(names.to_vec()).expect("params");
    if is_over {
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2024, 2, 1));
    }
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    json!({ "tls.crt": certificate.pem(), "tls.key": key.serialize_pem(), "ca.crt": authority.pem() })
}

#[test]
fn certificates_of_a_person_are_used_checked_and_never_touched() {
    scenario("e2e-own-certificates", With::OthersBeside, async |place| {
        let authority = authority();
        let spec = json!({ "replicas": 3, "tls": { "certificateSecretName": "of-a-person" } });
        place.create("orders", spec).await;
        let valid = |orders: &Value| condition(orders, "CertificatesValid");
        place
            .until_orders("the missing Secret is named, and what it has to be for", |orders| {
                let text = at(&valid(orders), "/message");
                text.contains("of-a-person") && text.contains(&format!("orders-nodes.{}.svc", place.namespace))
            })
            .await;
        let secret = json!({
            "metadata": { "name": "of-a-person" }, "type": "kubernetes.io/tls",
            "stringData": issued(place, &authority, false),
        });
        place.api.create(&place.core("secrets"), &secret).await;
        println!("TIME from the Secret to Ready: {:.1?}", place.until_ready(3).await);

        let load = Load::start(place, 0).await;
        let pods = place.pods().await;
        let before = shown(place, &Access::of(place, "orders").await).await.expect("every node shows a certificate");
        let path = place.core("secrets/of-a-person");
        place.api.patch(&path, &json!({ "stringData": issued(place, &authority, false) })).await;
        until_others_are_shown(place, &before, "from a renewed Secret to its certificate on every node").await;

        let good = shown(place, &Access::of(place, "orders").await).await.expect("every node shows a certificate");
        place.api.patch(&path, &json!({ "stringData": issued(place, &authority, true) })).await;
        place
            .until_orders("a certificate that is over is refused, and that is said", |orders| {
                valid(orders)["status"] == "False" && at(&valid(orders), "/message").contains("has expired")
            })
            .await;
        load.goes_on().await;
        let now = shown(place, &Access::of(place, "orders").await).await.expect("every node shows a certificate");
        assert_eq!(now, good, "nodes keep the last one that is good");
        place.api.patch(&path, &json!({ "stringData": issued(place, &authority, false) })).await;
        until_others_are_shown(place, &good, "from a corrected Secret to its certificate on every node").await;
        place.until_ready(3).await;
        assert_eq!(place.pods().await, pods, "the same pods");
        assert_eq!(place.restarts().await, 0, "and none was restarted");
        load.finish(place, "certificates of a person renewed, spoilt and corrected", 3).await;
    });
}

async fn status(client: &Client, method: Method) -> Result<StatusCode, String> {
    let headers = [("content-type", "application/json")];
    let body = if method == Method::PUT { "{}" } else { "" };
    client.try_send(method, DOCUMENT, &headers, body).await.map(|a| a.status).map_err(|error| format!("{error:?}"))
}

#[test]
fn tokens_are_replaced_by_writing_others_and_stand_in_no_log() {
    scenario("e2e-tokens", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let written = load.finish(place, "before the tokens are replaced", 3).await;
        let old = Access::of(place, "orders").await;
        let pods = place.pods().await;
        let path = place.core("secrets/orders-tokens");
        let (admin, reader) = ("an-admin-token-of-a-person", "a-token-of-a-person-for-reading");
        place.api.patch(&path, &json!({ "stringData": { "admin": admin, "read-only": reader } })).await;
        for node in NODES {
            let host = place.address(node).await;
            let with = |token: &str| old.with_token(token).patient(&host);
            until(&format!("{node} takes the new tokens and no others"), async || {
                let seen = [
                    status(&with(admin), Method::PUT).await?,
                    status(&with(reader), Method::GET).await?,
                    status(&with(reader), Method::PUT).await?,
                    status(&old.patient(&host), Method::GET).await?,
                    status(&with("a-token-that-nobody-knows"), Method::GET).await?,
                ];
                let is_right = seen[0].is_success() && seen[1] == 200 && seen[2] == 403 && seen[3] == 401;
                if is_right && seen[4] == 401 { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        }
        let client = Access::of(place, "orders").await.patient(&place.service().await);
        assert_eq!(status(&client, Method::DELETE).await, Ok(StatusCode::NO_CONTENT));
        Load::start(place, written).await.finish(place, "with the new token", 3).await;
        assert_eq!(place.pods().await, pods, "the same pods");
        assert_eq!(place.restarts().await, 0, "and none was restarted");
        let nodes = place.kubectl(&["logs", "-l", "app.kubernetes.io/component=node", "--tail=-1"]);
        let logs = [("nodes", nodes), ("operator", log_of_the_operators(place).await)];
        for (whose, log) in logs {
            let tokens = [admin, reader, old.token()];
            assert!(
                !log.is_empty() && tokens.iter().all(|token| !log.contains(token)),
                "a token stands in the {whose}' log"
            );
        }
    });
}

/// What the operators' pods wrote. The scenarios beside this one kill operators, and a pod that begins has no log yet.
async fn log_of_the_operators(place: &Place) -> String {
    let logs = ["-n", OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=coequal-operator", "--tail=-1"];
    until("the operators have logs", async || place.cluster.try_kubectl(&logs)).await.0
}
