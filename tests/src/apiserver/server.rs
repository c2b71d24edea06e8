//! etcd, API server and a few controllers, started once for a test program.

use super::guard::Guard;
use crate::binaries::root;
use crate::cluster::free_port;
use crate::kubernetes::{Api, until};
use reqwest::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The controllers that matter here: pods and claims of StatefulSets, and what goes when its owner or namespace does.
const CONTROLLERS: &str = "statefulset-controller,garbage-collector-controller,namespace-controller,\
                           persistentvolumeclaim-protection-controller";
/// Building it takes about ten minutes on two cores.
const BUILD_DEADLINE: Duration = Duration::from_secs(1800);
/// Everything that may be done, by one who has this token.
const TOKEN: &str = "administrator";

/// A running API server.
pub struct Server {
    /// Where it can be reached in the clear, with all rights.
    pub url: String,
    /// etcd behind it.
    pub etcd: String,
    _guard: std::sync::Mutex<Guard>,
}

impl Server {
    /// The one server of this program, or why there is none.
    pub async fn shared() -> Result<&'static Self, String> {
        static SERVER: OnceCell<Result<Server, String>> = OnceCell::const_new();
        static HAS_FAILED: AtomicBool = AtomicBool::new(false);
        let server = SERVER.get_or_init(async || {
            let program = kube().await?;
            // A start that fails takes its time; once is enough.
            assert!(!HAS_FAILED.swap(true, Ordering::Relaxed), "the API server did not start for an earlier test");
            let server = Self::start(program).await;
            HAS_FAILED.store(false, Ordering::Relaxed);
            Ok(server)
        });
        server.await.as_ref().map_err(Clone::clone)
    }

    async fn start(program: PathBuf) -> Self {
        let directory = tempfile::Builder::new().prefix("coequal-apiserver-").tempdir().expect("directory").keep();
        let [etcd, peers, port, proxy] = std::array::from_fn(|_| free_port());
        let mut guard = Guard::new(&directory);
        let mut start = |name: &str, arguments: Vec<String>| {
            let arguments: Vec<String> = std::iter::once(name.to_owned()).chain(arguments).collect();
            guard.start(&program, &arguments, &directory.join(format!("{name}.log")));
        };
        start("etcd", etcd_arguments(&directory, etcd, peers));
        start("apiserver", apiserver_arguments(&directory, etcd, port));
        let kubeconfig = kubeconfig(&format!("https://127.0.0.1:{port}"), &format!("{{token: {TOKEN}}}"));
        let path = directory.join("kubeconfig");
        std::fs::write(&path, kubeconfig).expect("kubeconfig");
        let flag = format!("--kubeconfig={}", path.display());
        start("kubectl", words(&[&flag, "proxy", &format!("--port={proxy}"), "--disable-filter"]));
        let url = format!("http://127.0.0.1:{proxy}");
        let api = Api::at(&url);
        until_ready(&api, &directory).await;
        install(&api).await;
        // After the definition is there: they look for kinds only now and then.
        let controllers = format!("--controllers={CONTROLLERS}");
        let plain = [
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--concurrent-statefulset-syncs=10",
        ];
        start("controller-manager", [words(&[&flag, &controllers]), words(&plain)].concat());
        Self { url, etcd: format!("http://127.0.0.1:{etcd}"), _guard: std::sync::Mutex::new(guard) }
    }

    /// As the administrator.
    pub fn api(&self) -> Api {
        Api::at(&self.url)
    }
}

async fn until_ready(api: &Api, directory: &Path) {
    let (_, took) = until("the API server is ready", async || {
        let ready = api.request(Method::GET, "/readyz", "", None).await;
        let logs = ["etcd", "apiserver", "kubectl"].map(|name| tail(&directory.join(format!("{name}.log")))).join("\n");
        assert!(!logs.contains("command failed"), "the API server has ended:\n{logs}");
        ready.map_err(|error| format!("{error:?}\n{logs}"))
    })
    .await;
    println!("API server and etcd ready after {:.1} s", took.as_secs_f64());
}

/// The definition and the operator's rights, as people install them.
async fn install(api: &Api) {
    for definition in documents("crds/replicateddatabases.coequal.dev.yaml") {
        api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    }
    for object in documents("deploy/operator.yaml") {
        if object["kind"] == "ClusterRole" {
            api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", &object).await;
        }
    }
    until("the definition is served", async || {
        let path = "/apis/coequal.dev/v1alpha1/replicateddatabases";
        api.request(Method::GET, path, "", None).await.map_err(|error| format!("{error:?}"))
    })
    .await;
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The program that `tests/kubernetes/build` makes; made now, if that is possible.
async fn kube() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("COEQUAL_TESTCLUSTER_CACHE").or_else(|| {
        let home = || variable("HOME").map(|home| home.join(".cache"));
        variable("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("coequal-testcluster"))
    });
    let program = cache.unwrap_or_default().join("kube");
    if program.is_file() {
        return Ok(program);
    }
    let missing = format!("{} is missing", program.display());
    // SAFETY: it only gives a number.
    if unsafe { libc::geteuid() } != 0 {
        return Err(format!("{missing}; as root, tests/kubernetes/build kube makes it"));
    }
    // Another build that is under way is waited for; this one then finds everything there.
    let mut build = tokio::process::Command::new(root().join("tests/kubernetes/build"));
    build.arg("kube").kill_on_drop(true);
    match tokio::time::timeout(BUILD_DEADLINE, build.output()).await {
        Ok(Ok(output)) if output.status.success() && program.is_file() => Ok(program),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{missing}, and cannot be built: {}", said.lines().next_back().unwrap_or("no word why")))
        }
        Ok(Err(error)) => Err(format!("{missing}, and cannot be built: {error}")),
        Err(_) => Err(format!("{missing}, and was not built within {BUILD_DEADLINE:?}")),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn etcd_arguments(directory: &Path, clients: u16, peers: u16) -> Vec<String> {
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    [
        ("data-dir", directory.join("etcd").display().to_string()),
        ("listen-client-urls", clients.clone()),
        ("advertise-client-urls", clients),
        ("listen-peer-urls", peers.clone()),
        ("initial-advertise-peer-urls", peers.clone()),
        ("initial-cluster", format!("default={peers}")),
        ("unsafe-no-fsync", "true".to_owned()),
    ]
    .map(|(flag, value)| format!("--{flag}={value}"))
    .to_vec()
}

fn apiserver_arguments(directory: &Path, etcd: u16, port: u16) -> Vec<String> {
    let key = directory.join("service-accounts.key");
    let pair = rcgen::KeyPair::generate().expect("key");
    std::fs::write(&key, pair.serialize_pem()).expect("key");
    let public = directory.join("service-accounts.pub");
    std::fs::write(&public, pair.public_key_pem()).expect("key");
    let tokens = directory.join("tokens.csv");
    std::fs::write(&tokens, format!("{TOKEN},administrator,administrator,system:masters\n")).expect("tokens");
    [
        ("etcd-servers", format!("http://127.0.0.1:{etcd}")),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("cert-dir", directory.join("certificates").display().to_string()),
        ("token-auth-file", tokens.display().to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("service-account-key-file", public.display().to_string()),
        ("service-account-signing-key-file", key.display().to_string()),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("authorization-mode", "RBAC".to_owned()),
        ("anonymous-auth", "false".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
    ]
    .map(|(flag, value)| format!("--{flag}={value}"))
    .to_vec()
}

/// A kubeconfig; the server's certificate is its own work and nobody's business on loopback.
pub(super) fn kubeconfig(server: &str, user: &str) -> String {
    let is_secure = server.starts_with("https");
    let insecure = if is_secure { ", insecure-skip-tls-verify: true" } else { "" };
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: t, cluster: {{server: '{server}'{insecure}}}}}]\n\
         users: [{{name: t, user: {user}}}]\ncontexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n\
         current-context: t\n"
    )
}

/// The YAML documents of a file of the project.
pub fn documents(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents
        .map(|document| serde::Deserialize::deserialize(document).unwrap_or_else(|e| panic!("{path}: {e}")))
        .collect()
}
