//! Nodes that only say that all is well: hundreds of them, for what the operator itself needs.

use super::namespace::Namespace;
use crate::kubernetes::{Api, at};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Between two looks for new pods.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pods that get their status at the same time.
const AT_ONCE: usize = 16;
/// Port of the nodes' HTTP API.
const PORT: u16 = 7600;

/// Looks after the pods of one namespace.
pub struct Fakes {
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Cluster {
    /// With the certificate that the operator made.
    tls: Option<TlsAcceptor>,
    is_initialized: bool,
    databases: BTreeMap<String, Value>,
    /// Addresses of its nodes by name.
    nodes: BTreeMap<String, String>,
}

type Clusters = Arc<Mutex<BTreeMap<String, Cluster>>>;

/// One node, as its server knows it.
#[derive(Clone)]
struct Fake {
    clusters: Clusters,
    cluster: String,
    name: String,
}

impl Fakes {
    /// Begins to answer for every pod of a namespace.
    pub fn start(namespace: &Namespace) -> Self {
        let (api, pods) = (namespace.api.clone(), namespace.path("v1 pods"));
        let secrets = namespace.path("v1 secrets");
        let task = tokio::spawn(async move {
            let clusters = Clusters::default();
            let mut given = 0;
            loop {
                turn(&api, (&pods, &secrets), &clusters, &mut given).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { task }
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn turn(api: &Api, (pods, secrets): (&str, &str), clusters: &Clusters, given: &mut u32) {
    let new = format!("{pods}?fieldSelector=status.phase%3DPending&limit=100");
    let Ok(list) = api.request(reqwest::Method::GET, &new, "", None).await else { return };
    let found = list["items"].as_array().cloned().unwrap_or_default();
    for pods_at_once in found.chunks(AT_ONCE) {
        let mut begun = Vec::new();
        for pod in pods_at_once {
            let Some(address) = serve(api, secrets, clusters, pod, given).await else { continue };
            begun.push(tell_ready(api, pods, pod, address));
        }
        futures::future::join_all(begun).await;
    }
}

/// What `<cluster>-tls` holds, once for each cluster.
async fn certificate(api: &Api, secrets: &str, clusters: &Clusters, cluster: &str) -> Option<TlsAcceptor> {
    let known = |clusters: &Clusters| clusters.lock().ok()?.get(cluster)?.tls.clone();
    if let Some(tls) = known(clusters) {
        return Some(tls);
    }
    let secret = api.request(reqwest::Method::GET, &format!("{secrets}/{cluster}-tls"), "", None).await.ok()?;
    let part = |name: &str| BASE64_STANDARD.decode(secret["data"][name].as_str()?).ok();
    let chain = CertificateDer::pem_slice_iter(&part("tls.crt")?).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&part("tls.key")?).ok()?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).ok()?;
    let tls = TlsAcceptor::from(Arc::new(config));
    clusters.lock().ok()?.entry(cluster.to_owned()).or_default().tls = Some(tls.clone());
    Some(tls)
}

/// A node's listener.
struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Starts the server of a pod, at an address that no other run of the tests uses.
async fn serve(api: &Api, secrets: &str, clusters: &Clusters, pod: &Value, given: &mut u32) -> Option<String> {
    let name = at(pod, "/metadata/name");
    let cluster = name.rsplit_once('-').map_or(name.as_str(), |(cluster, _)| cluster).to_owned();
    let tls = certificate(api, secrets, clusters, &cluster).await?;
    let tcp = loop {
        *given += 1;
        assert!(*given < 30_000, "no free address");
        let network = 216 + std::process::id() % 30;
        let address = format!("127.{network}.{}.{}", *given / 200, 1 + *given % 200);
        if let Ok(listener) = TcpListener::bind((address.as_str(), PORT)).await {
            break listener;
        }
    };
    let address = tcp.local_addr().expect("address").ip().to_string();
    let known = |clusters: &mut BTreeMap<String, Cluster>| {
        clusters.entry(cluster.clone()).or_default().nodes.insert(name.clone(), address.clone());
    };
    known(&mut clusters.lock().expect("no panic while it is held"));
    let fake = Fake { clusters: Arc::clone(clusters), cluster, name };
    let router = Router::new().fallback(answer).with_state(fake);
    tokio::spawn(async move { axum::serve(Listener { tcp, tls }, router).await });
    Some(address)
}

async fn tell_ready(api: &Api, pods: &str, pod: &Value, address: String) {
    let state = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
    let image = &pod["spec"]["containers"][0]["image"];
    let container =
        json!({ "name": "node", "image": image, "imageID": "", "ready": true, "restartCount": 0, "state": state });
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "containerStatuses": [container],
        "conditions": [{ "type": "Ready", "status": "True" }],
    });
    let path = format!("{pods}/{}/status", at(pod, "/metadata/name"));
    let body = json!({ "status": status });
    let _ = api.request(reqwest::Method::PATCH, &path, "application/merge-patch+json", Some(&body)).await;
}

async fn answer(State(fake): State<Fake>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut clusters = fake.clusters.lock().expect("no panic while it is held");
    let cluster = clusters.get_mut(&fake.cluster).expect("its cluster");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["readyz"]) => "ready\n".into_response(),
        ("GET", ["v1", "node"]) => json_answer(&fake.node(cluster)),
        ("GET", ["v1", "cluster"]) => json_answer(&fake.view(cluster)),
        ("GET", ["v1", "databases"]) => {
            json_answer(&json!({ "databases": cluster.databases.values().collect::<Vec<_>>() }))
        }
        ("GET", ["v1", "databases", name, "replication"]) => json_answer(&fake.replication(cluster, name)),
        ("POST", ["v1", "cluster", "initialize"]) => {
            cluster.is_initialized = true;
            StatusCode::NO_CONTENT.into_response()
        }
        ("PUT", ["v1", "databases", name]) => {
            let database = json!({
                "name": name, "uuid": fake.uuid(), "configuration": body, "epoch": 1, "status": "ONLINE",
                "documents": 0, "tombstones": 0,
            });
            cluster.databases.insert((*name).to_owned(), database);
            StatusCode::CREATED.into_response()
        }
        ("PATCH", ["v1", "databases", name, "configuration"]) => {
            let database = cluster.databases.get_mut(*name).expect("the database");
            let changed = body.as_object().cloned().unwrap_or_default();
            database["configuration"].as_object_mut().expect("settings").extend(changed);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn json_answer(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Fake {
    fn uuid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", fingerprint(&self.cluster) & 0xffff_ffff_ffff)
    }

    fn node(&self, cluster: &Cluster) -> Value {
        let mut node = self.seen(cluster, &self.name);
        (node["incarnation"], node["version"]) = (json!(1), json!("0.1.0"));
        if cluster.is_initialized {
            node["clusterId"] = json!(self.uuid());
        }
        node
    }

    /// What every node says of one.
    fn seen(&self, cluster: &Cluster, name: &str) -> Value {
        let address = cluster.nodes.get(name).cloned().unwrap_or_default();
        let of = |database: &Value| json!({ "name": database["name"], "uuid": database["uuid"], "status": "ONLINE" });
        json!({
            "id": format!("{:016x}", fingerprint(name)), "name": name, "status": "ONLINE",
            "peerAddress": format!("{address}:7700"), "apiAddress": format!("{address}:{PORT}"),
            "databases": cluster.databases.values().map(of).collect::<Vec<_>>(),
        })
    }

    fn view(&self, cluster: &Cluster) -> Value {
        if !cluster.is_initialized {
            return json!({ "nodes": [] });
        }
        let member = |name: &String| {
            let mut node = self.seen(cluster, name);
            (node["reachable"], node["leaving"]) = (json!(true), json!(false));
            node
        };
        json!({ "id": self.uuid(), "nodes": cluster.nodes.keys().map(member).collect::<Vec<_>>() })
    }

    fn replication(&self, cluster: &Cluster, name: &str) -> Value {
        let replica = |name: &String| {
            json!({
                "node": format!("{:016x}", fingerprint(name)), "name": name, "role": "voter", "status": "ONLINE",
                "reachable": true, "backlogEntries": 0, "backlogBoundEntries": 0,
            })
        };
        json!({
            "name": name, "uuid": self.uuid(), "epoch": 1, "changing": false,
            "node": format!("{:016x}", fingerprint(&self.name)), "status": "ONLINE",
            "nodes": cluster.nodes.keys().map(replica).collect::<Vec<_>>(),
        })
    }
}
