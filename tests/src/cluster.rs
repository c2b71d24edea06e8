//! Clusters of real node processes on loopback: started, killed, stopped, continued, restarted.

use crate::binaries::program;
use crate::blockade::Blockade;
use crate::client::Client;
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Longest wait of any test; a wait that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One node process and what it takes to start it again.
pub struct Node {
    pub name: String,
    pub directory: PathBuf,
    pub api: String,
    pub peers: String,
    pub extra: Vec<String>,
    pub environment: Vec<(String, String)>,
    join: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

/// A cluster under test; its processes end with it.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub directory: tempfile::TempDir,
}

/// Below the ports that the system gives to outgoing connections, and beside those of the tests of local mode.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A free port that this process has not given to anybody before: nobody else takes it before its node listens.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Another run of the tests on this machine begins somewhere else.
    let begin = u16::try_from(std::process::id().wrapping_mul(197) % u32::from(count)).expect("below the count");
    (0..count)
        .map(|_| PORTS.start + (begin + GIVEN.fetch_add(1, Ordering::Relaxed) % count) % count)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Every other node, the first among them, runs its databases on the one thread that serves clients: clusters have both kinds.
fn threads_of(index: usize) -> [&'static str; 2] {
    ["--worker-threads", if index.is_multiple_of(2) { "1" } else { "0" }]
}

impl Node {
    fn new(directory: &std::path::Path, index: usize, join: Vec<String>, extra: &[&str]) -> Self {
        let name = format!("n{index}");
        Self {
            directory: directory.join(&name),
            name,
            api: format!("127.0.0.1:{}", free_port()),
            peers: format!("127.0.0.1:{}", free_port()),
            extra: extra.iter().copied().chain(threads_of(index)).map(str::to_owned).collect(),
            environment: Vec::new(),
            join,
            log: directory.join(format!("n{index}.log")),
            process: None,
        }
    }

    /// Other ports than before, from the next start on.
    pub fn move_ports(&mut self) {
        self.api = format!("127.0.0.1:{}", free_port());
        self.peers = format!("127.0.0.1:{}", free_port());
    }

    /// Whom it asks at its next start.
    pub fn set_join(&mut self, join: Vec<String>) {
        self.join = join;
    }

    /// The command line of this node.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("coequal-node"));
        command
            .args(["--name", &self.name, "--listen", &self.api, "--listen-peers", &self.peers])
            .arg("--data")
            .arg(&self.directory);
        if self.join.is_empty() {
            command.arg("--initialize");
        } else {
            command.args(["--join", &self.join.join(",")]);
        }
        command.args(&self.extra).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log");
        let child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("coequal-node starts");
        self.process = Some(child);
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.as_ref().expect("running").id()).expect("pid")
    }

    /// Sends a signal. After SIGSTOP every thread stands still when this returns: on a busy machine the kernel takes its
    /// time, and what a node still answers meanwhile is not what the test is about.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill only takes numbers; the process is our child and has not been waited for.
        unsafe { libc::kill(self.pid(), signal) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while signal == libc::SIGSTOP && !self.stands_still() {
            assert!(Instant::now() < deadline, "{} has not stopped", self.name);
            std::thread::yield_now();
        }
    }

    fn stands_still(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process is there");
        // After the name in brackets comes the state (proc_pid_stat(5)); T is stopped. A thread that has just ended counts.
        let stopped = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'));
        tasks.flatten().all(|task| std::fs::read_to_string(task.path().join("stat")).map_or(true, stopped))
    }

    /// `kill -9`, and gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; true if it ended by itself with success.
    pub fn terminate(&mut self) -> bool {
        self.signal(libc::SIGTERM);
        let mut child = self.process.take().expect("running");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn client(&self) -> Client {
        Client::new(&self.api)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {} ({})", self.name, self.api);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}

impl Cluster {
    /// `count` nodes, all members, with the database `orders` ONLINE everywhere.
    pub async fn with_orders(count: usize) -> Self {
        Self::with_database(count, "orders", "{}", &[]).await
    }

    pub async fn with_database(count: usize, name: &str, settings: &str, extra: &[&str]) -> Self {
        let cluster = Self::start(count, extra).await;
        let answer = cluster.nodes[0].client().put(&format!("/v1/databases/{name}"), settings).await;
        assert!(answer.status.is_success(), "{answer:?}");
        cluster.until_online(name).await;
        cluster
    }

    /// `count` nodes that are members of one cluster; no database yet.
    pub async fn start(count: usize, extra: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut cluster = Self { nodes: Vec::new(), directory };
        for _ in 0..count {
            cluster.add(extra);
        }
        cluster.until_members(count).await;
        cluster.until_settled(count).await;
        cluster
    }

    /// Nodes that reach each other only through a [`Blockade`], with the database `orders` ONLINE everywhere.
    pub async fn behind_blockade(count: usize) -> (Self, Blockade) {
        let directory = tempfile::tempdir().expect("directory");
        let mut nodes: Vec<Node> =
            (0..count).map(|index| Node::new(directory.path(), index, Vec::new(), &[])).collect();
        let blockade = Blockade::start(nodes.iter().map(|node| node.peers.clone()).collect()).await;
        for (index, node) in nodes.iter_mut().enumerate() {
            node.extra.extend(["--advertise".to_owned(), blockade.address(index)]);
            node.join = (0..index).map(|other| blockade.address(other)).collect();
            node.start();
            blockade.node_is(index, node.pid());
        }
        let cluster = Self { nodes, directory };
        cluster.until_members(count).await;
        cluster.until_settled(count).await;
        let answer = cluster.nodes[0].client().put("/v1/databases/orders", "{}").await;
        assert!(answer.status.is_success(), "{answer:?}");
        cluster.until_online("orders").await;
        (cluster, blockade)
    }

    /// One more node, started at once.
    pub fn add(&mut self, extra: &[&str]) -> usize {
        let at = self.add_stopped(extra);
        self.nodes[at].start();
        at
    }

    /// One more node, not started yet.
    pub fn add_stopped(&mut self, extra: &[&str]) -> usize {
        let join: Vec<String> = self.nodes.iter().map(|node| node.peers.clone()).collect();
        self.nodes.push(Node::new(self.directory.path(), self.nodes.len(), join, extra));
        self.nodes.len() - 1
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.api.clone()).collect()
    }

    /// Waits until every running node sees `count` nodes ONLINE.
    pub async fn until_members(&self, count: usize) {
        for node in &self.nodes {
            let client = node.client();
            until(&format!("{} sees {count} nodes ONLINE", node.name), async || {
                let cluster = client.try_send(reqwest::Method::GET, "/v1/cluster", &[], "").await.ok()?.json();
                let online = cluster["nodes"].as_array()?.iter().filter(|node| node["status"] == "ONLINE").count();
                (online == count).then_some(()).ok_or(cluster).map_err(|state| remember(&state)).ok()
            })
            .await;
        }
    }

    /// Waits until the cluster's own database has `count` voters and no change under way, as the nodes' logs say.
    pub async fn until_settled(&self, count: usize) {
        let settled = |line: &str| {
            let voters = line.split("voters=[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
            line.contains("database=_system")
                && line.contains("learners=[] joint=false")
                && voters.split(',').count() == count
        };
        until(&format!("{count} voters of the system database"), async || {
            let found = count == 1 || self.nodes.iter().any(|node| node.log().lines().any(settled));
            found.then_some(())
        })
        .await;
    }

    /// Waits until `database` is ONLINE and voting on every running node.
    pub async fn until_online(&self, database: &str) {
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            self.until_status(node, database, "ONLINE").await;
        }
        let count = self.nodes.len();
        let client = self.nodes.iter().find(|node| node.process.is_some()).expect("a running node").client();
        until("all voting", async || {
            let replication = replication(&client, database).await?;
            let voters = replication["nodes"].as_array()?.iter().filter(|node| node["role"] == "voter").count();
            remember(&replication);
            (voters == count && replication["changing"] == false).then_some(())
        })
        .await;
    }

    pub async fn until_status(&self, node: &Node, database: &str, status: &str) {
        let client = node.client();
        until(&format!("{database} on {} is {status}", node.name), async || {
            let description =
                client.try_send(reqwest::Method::GET, &format!("/v1/databases/{database}"), &[], "").await.ok()?;
            if !description.status.is_success() {
                return None;
            }
            let description = description.json();
            remember(&description);
            (description["status"] == status).then_some(())
        })
        .await;
    }

    /// The export of one node.
    pub async fn export(&self, index: usize, collection: &str) -> String {
        let answer =
            self.nodes[index].client().get(&format!("/v1/databases/orders/collections/{collection}/export")).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.body
    }

    /// Waits until the exports of all nodes are equal byte for byte, and gives one.
    pub async fn until_equal(&self, collection: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut exports = Vec::new();
            for node in &self.nodes {
                let path = format!("/v1/databases/orders/collections/{collection}/export");
                let answer = node.client().get(&path).await;
                // A node that is aligning, or has not heard of the collection yet, answers later.
                exports.push(if answer.status.is_success() {
                    answer.body
                } else {
                    format!("{} {}", node.name, answer.status)
                });
            }
            if exports.windows(2).all(|pair| pair[0] == pair[1]) {
                return exports.swap_remove(0);
            }
            let lines: Vec<usize> = exports.iter().map(|export| export.lines().count()).collect();
            assert!(Instant::now() < deadline, "exports still differ: lines {lines:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// `GET …/replication`, if it answers.
pub async fn replication(client: &Client, database: &str) -> Option<Value> {
    let path = format!("/v1/databases/{database}/replication");
    let answer = client.try_send(reqwest::Method::GET, &path, &[], "").await.ok()?;
    answer.status.is_success().then(|| answer.json())
}

thread_local! {
    static LAST_SEEN: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Keeps what was seen last, for the message of a wait that fails.
pub fn remember(state: &Value) {
    LAST_SEEN.with(|last| *last.borrow_mut() = state.to_string());
}

/// Asks again and again until there is an answer, for [`PATIENCE`] at most.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        if Instant::now() >= deadline {
            let last = LAST_SEEN.with(|last| last.borrow().clone());
            panic!("not within {PATIENCE:?}: {what}; seen last: {last}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
