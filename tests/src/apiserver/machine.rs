//! What a kubelet would do, for pods that are real nodes on loopback: each pod has an address of its own in 127.0.0.0/8,
//! and the ports that the operator knows.

use super::namespace::Namespace;
use crate::binaries::program;
use crate::client::Client;
use crate::kubernetes::{Api, at};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between two looks at the pods.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Ports of a node, as the operator builds them.
const API_PORT: u16 = 7600;

/// Runs the pods of one namespace.
pub struct Machine {
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    directory: tempfile::TempDir,
    /// The first three bytes of the addresses of this machine's pods.
    network: String,
    running: BTreeMap<String, Running>,
    /// Ordinals of nodes that do not come up, whatever is tried.
    ill: BTreeSet<u32>,
}

struct Running {
    process: Child,
    is_stopping: bool,
}

impl Machine {
    /// Begins to look after the pods of a namespace.
    pub fn start(namespace: &Namespace) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let state = State { directory, network: free_network(), running: BTreeMap::new(), ill: BTreeSet::new() };
        let state = Arc::new(Mutex::new(state));
        let keeper = Keeper {
            api: namespace.api.clone(),
            pods: namespace.path("v1 pods"),
            claims: namespace.path("v1 persistentvolumeclaims"),
            state: Arc::clone(&state),
        };
        let task = tokio::spawn(async move {
            loop {
                keeper.turn().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { state, task }
    }

    /// From now on a node ends at once whenever it is started, or comes up again.
    pub fn make_ill(&self, ordinal: u32, is_ill: bool) {
        let ill = &mut self.state.lock().expect("state").ill;
        if is_ill {
            ill.insert(ordinal)
        } else {
            ill.remove(&ordinal)
        };
    }

    /// Client of a node.
    pub fn client(&self, ordinal: u32) -> Client {
        let network = self.state.lock().expect("state").network.clone();
        Client::new(&format!("{network}.{}:{API_PORT}", ordinal + 1))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
        let Ok(mut state) = self.state.lock() else { return };
        let directory = state.directory.path().to_owned();
        for (pod, running) in &mut state.running {
            let _ = (running.process.kill(), running.process.wait());
            if std::thread::panicking() {
                eprintln!("--- {pod}\n{}", super::server::tail(&directory.join(format!("{pod}.log"))));
            }
        }
    }
}

/// Addresses that nobody on this machine uses; other runs of the tests begin somewhere else.
fn free_network() -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    (0..200)
        .map(|_| GIVEN.fetch_add(1, Ordering::Relaxed))
        .map(|given| format!("127.{}.{}", 16 + process % 200, 1 + (process / 200 + given) % 250))
        .find(|network| TcpListener::bind((format!("{network}.1"), API_PORT)).is_ok())
        .expect("a free network")
}

struct Keeper {
    api: Api,
    pods: String,
    claims: String,
    state: Arc<Mutex<State>>,
}

impl Keeper {
    /// One look at every pod. What fails is tried again with the next one.
    async fn turn(&self) {
        let Ok(list) = self.api.request(Method::GET, &self.pods, "", None).await else { return };
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        for pod in &pods {
            let name = at(pod, "/metadata/name");
            match pod["metadata"].get("deletionTimestamp") {
                Some(_) => self.stop(&name, pod).await,
                None => self.run(&name, pod).await,
            }
        }
        let names: Vec<String> = pods.iter().map(|pod| at(pod, "/metadata/name")).collect();
        // Deleted by force: nobody waits for the process.
        self.state.lock().expect("state").running.retain(|name, running| {
            let stays = names.contains(name);
            if !stays {
                let _ = (running.process.kill(), running.process.wait());
            }
            stays
        });
    }

    async fn stop(&self, name: &str, pod: &Value) {
        let has_ended = {
            let mut state = self.state.lock().expect("state");
            match state.running.get_mut(name) {
                None => true,
                Some(running) => running.stop(),
            }
        };
        if has_ended {
            self.state.lock().expect("state").running.remove(name);
            let uid = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod["metadata"]["uid"] } });
            let path = format!("{}/{name}", self.pods);
            let _ = self.api.request(Method::DELETE, &path, "application/json", Some(&uid)).await;
        }
    }

    async fn run(&self, name: &str, pod: &Value) {
        let image = at(pod, "/spec/containers/0/image");
        if image.contains("missing") {
            let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
            return self.tell(name, pod, "Pending", None, false, &waiting).await;
        }
        let is_ill = self.state.lock().expect("state").ends_at_once(name);
        if is_ill {
            let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "ended" } });
            let address = at(pod, "/status/podIP");
            let address = Some(address.as_str()).filter(|address| !address.is_empty());
            return self.tell(name, pod, "Running", address, false, &waiting).await;
        }
        if at(pod, "/spec/nodeName").is_empty() {
            let target = json!({ "apiVersion": "v1", "kind": "Node", "name": "loopback" });
            let binding = json!({ "metadata": { "name": name }, "target": target });
            let path = format!("{}/{name}/binding", self.pods);
            let _ = self.api.request(Method::POST, &path, "application/json", Some(&binding)).await;
            return;
        }
        let claim = self.api.request(Method::GET, &format!("{}/data-{name}", self.claims), "", None).await;
        let Ok(claim) = claim else { return };
        let address = self.state.lock().expect("state").keep_running(name, pod, &at(&claim, "/metadata/uid"));
        let client = Client::new(&format!("{address}:{API_PORT}"));
        let ready = client.try_send(Method::GET, "/readyz", &[], "").await.is_ok_and(|answer| answer.status == 200);
        let running = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        self.tell(name, pod, "Running", Some(&address), ready, &running).await;
    }

    /// Writes the pod's status, where it says something new.
    async fn tell(&self, name: &str, pod: &Value, phase: &str, address: Option<&str>, ready: bool, container: &Value) {
        let word = if ready { "True" } else { "False" };
        let is_ready = |value: &Value| value["type"] == "Ready" && value["status"] == word;
        let told = pod["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(is_ready));
        if told && at(pod, "/status/phase") == phase && at(pod, "/status/podIP") == address.unwrap_or_default() {
            return;
        }
        let ready_since = json!({ "type": "Ready", "status": word });
        let image = &pod["spec"]["containers"][0]["image"];
        let container = json!({
            "name": "node", "image": image, "imageID": "", "ready": ready, "restartCount": 0, "state": container,
        });
        let mut status = json!({
            "phase": phase, "conditions": [{ "type": "PodScheduled", "status": "True" }, ready_since],
            "containerStatuses": [container],
        });
        if let Some(address) = address {
            (status["podIP"], status["podIPs"]) = (json!(address), json!([{ "ip": address }]));
        }
        let path = format!("{}/{name}/status", self.pods);
        let body = json!({ "metadata": { "uid": pod["metadata"]["uid"] }, "status": status });
        let _ = self.api.request(Method::PATCH, &path, "application/merge-patch+json", Some(&body)).await;
    }
}

impl Running {
    /// Told to stop once; true when it has ended.
    fn stop(&mut self) -> bool {
        if !self.is_stopping {
            self.is_stopping = true;
            // SAFETY: kill only takes numbers; the process is our child and has not been waited for.
            unsafe { libc::kill(i32::try_from(self.process.id()).expect("pid"), libc::SIGTERM) };
        }
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl State {
    /// Whether the node of this pod is ill; then it does not run.
    fn ends_at_once(&mut self, name: &str) -> bool {
        let ordinal = name.rsplit('-').next().and_then(|text| text.parse().ok());
        let is_ill = ordinal.is_some_and(|ordinal| self.ill.contains(&ordinal));
        if is_ill && let Some(mut running) = self.running.remove(name) {
            let _ = (running.process.kill(), running.process.wait());
        }
        is_ill
    }

    /// Starts the node of a pod, or starts it again; gives its address.
    fn keep_running(&mut self, name: &str, pod: &Value, claim: &str) -> String {
        let ordinal: u32 = name.rsplit('-').next().and_then(|text| text.parse().ok()).expect("an ordinal");
        let address = format!("{}.{}", self.network, ordinal + 1);
        let lives = |running: &mut Running| matches!(running.process.try_wait(), Ok(None));
        if !self.running.get_mut(name).is_some_and(lives) {
            let process = self.spawn(name, pod, claim);
            self.running.insert(name.to_owned(), Running { process, is_stopping: false });
        }
        address
    }

    fn spawn(&self, name: &str, pod: &Value, claim: &str) -> Child {
        let log = self.directory.path().join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("log");
        let volume = self.directory.path().join(claim);
        std::fs::create_dir_all(&volume).expect("volume");
        let mut command = Command::new(program("coequal-node"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        for variable in pod["spec"]["containers"][0]["env"].as_array().into_iter().flatten() {
            let (key, value) = (at(variable, "/name"), at(variable, "/value"));
            if key == "POD_NAME" {
                continue;
            }
            command.env(key, self.on_loopback(&value, name, &volume));
        }
        command.spawn().expect("coequal-node starts")
    }

    /// A value of the pod's environment as it has to be without a network of pods: names and "everywhere" become
    /// addresses, places in the volume places on this machine.
    fn on_loopback(&self, value: &str, name: &str, volume: &Path) -> String {
        let ordinal = |pod: &str| pod.rsplit('-').next().and_then(|text| text.parse::<u32>().ok());
        let address = |pod: &str| ordinal(pod).map(|ordinal| format!("{}.{}", self.network, ordinal + 1));
        let value = value.replace("$(POD_NAME)", name).replace("/var/lib/coequal", &volume.display().to_string());
        let own = address(name).expect("an ordinal");
        let one = |part: &str| match part.rsplit_once(':') {
            Some(("0.0.0.0", port)) => format!("{own}:{port}"),
            Some((host, port)) if host.ends_with(".svc") => {
                let pod = host.split('.').next().unwrap_or_default();
                address(pod).map_or_else(|| part.to_owned(), |address| format!("{address}:{port}"))
            }
            _ => part.to_owned(),
        };
        value.split(',').map(one).collect::<Vec<_>>().join(",")
    }
}
