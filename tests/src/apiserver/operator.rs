//! The operator as a process, against the API server of the tests.

use super::gate::Gate;
use super::server::{kubeconfig, tail};
use crate::binaries::program;
use crate::client::Client;
use crate::cluster::free_port;
use crate::kubernetes::until;
use reqwest::Method;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// An operator that looks after one namespace.
pub struct Operator {
    /// Between it and the API server.
    pub gate: Gate,
    directory: tempfile::TempDir,
    namespace: String,
    client: Client,
    lives: u32,
    process: Option<Child>,
}

impl Operator {
    /// Not started yet.
    pub(super) fn new(namespace: &str, gate: Gate) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let client = Client::new(&format!("127.0.0.1:{}", free_port()));
        let kubeconfig = kubeconfig(&gate.url, "{}");
        std::fs::write(directory.path().join("kubeconfig"), kubeconfig).expect("kubeconfig");
        Self { gate, directory, namespace: namespace.to_owned(), client, lives: 0, process: None }
    }

    /// Starts it. Each life has a lease of its own: that a dead leader's lease runs out first is for another test.
    pub fn start(&mut self) {
        self.lives += 1;
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("log");
        let mut command = Command::new(program("coequal-operator"));
        command
            .args(["run", "--log-text", "--namespace", &self.namespace, "--lease-namespace", &self.namespace])
            .args(["--lease-name", &format!("operator-{}", self.lives)])
            .args(["--listen", self.client.url.trim_start_matches("http://")])
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("COEQUAL_NODE_IMAGE", "coequal-node:tests")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("coequal-operator starts");
        self.gate.serve(child.id());
        self.process = Some(child);
    }

    /// How often it was started.
    pub fn lives(&self) -> u32 {
        self.lives
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("running").id()
    }

    /// Whether it has ended; a process that was killed is waited for.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.process.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            self.process = None;
        }
        ended
    }

    /// Waits until it was killed by its gate.
    pub async fn until_killed(&mut self) {
        until("the operator is killed by its gate", async || match self.has_ended() {
            true => Ok(()),
            false => Err(format!("{} changes", self.gate.changes().len())),
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = (child.kill(), child.wait());
        }
    }

    /// Everything that it wrote, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("operator.log")
    }

    /// One of its counters.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let answer = self.client.try_send(Method::GET, "/metrics", &[], "").await.ok()?;
        let line = answer.body.lines().find_map(|line| line.strip_prefix(&format!("coequal_operator_{name} ")))?;
        line.trim().parse().ok()
    }

    /// Memory in use, in bytes, and processor time since its start, in seconds.
    pub fn usage(&self) -> (u64, f64) {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap_or_default();
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let resident: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        let stat = read("stat");
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        // utime and stime are the 14th and 15th fields of stat, the name is the second.
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u32>().ok());
        (resident * 1024, f64::from(ticks.sum::<u32>()) / 100.0)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- operator of {}\n{}", self.namespace, tail(&self.log_path()));
        }
        self.kill();
    }
}
