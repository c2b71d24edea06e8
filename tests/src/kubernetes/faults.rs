//! What is done to single nodes: their processes are killed or stopped, their network is cut.

use super::place::Place;
use super::testcluster::run;
use super::wait::until;
use std::process::Command;

/// Which traffic of a pod is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All of it: the node hears nobody and nobody hears it.
    Everything,
    /// The port between nodes: clients and the operator still reach it.
    BetweenNodes,
}

/// A process in a pod, as this machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeProcess(i32);

impl NodeProcess {
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
    }

    pub fn stop(self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn go_on(self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(self, signal: i32) {
        // SAFETY: a plain system call; the process was found by its program and environment.
        unsafe { libc::kill(self.0, signal) };
    }
}

/// The process of this program whose environment has this line.
fn find(program: &str, line: &str) -> Option<NodeProcess> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found = pids.filter(|pid: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let is_program = read("cmdline").split(|byte| *byte == 0).next() == Some(program.as_bytes());
        is_program && read("environ").split(|byte| *byte == 0).any(|entry| entry == line.as_bytes())
    });
    found.next().map(NodeProcess)
}

impl Place {
    /// The process of a node of `orders`; waits until it runs.
    pub async fn process(&self, pod: &str) -> NodeProcess {
        let line = format!("COEQUAL_ADVERTISE={pod}.orders-nodes.{}.svc:7700", self.namespace);
        let program = "/usr/local/bin/coequal-node";
        until(&format!("the process of {pod}"), async || find(program, &line).ok_or_else(|| line.clone())).await.0
    }

    /// The process of an operator; waits until it runs.
    pub async fn operator_process(&self, pod: &str) -> NodeProcess {
        let line = format!("POD_NAME={pod}");
        let program = "/usr/local/bin/coequal-operator";
        until(&format!("the process of {pod}"), async || find(program, &line).ok_or_else(|| line.clone())).await.0
    }

    /// Cuts a pod's network; [`Place::heal`] takes this very cut away again.
    pub async fn cut(&self, pod: &str, direction: Direction) {
        self.rules("-I", pod, direction).await;
    }

    /// Takes a cut away.
    pub async fn heal(&self, pod: &str, direction: Direction) {
        self.rules("-D", pod, direction).await;
    }

    /// In the pod's own network namespace, which outlives its process: pods of one machine meet without its rules.
    async fn rules(&self, action: &str, pod: &str, direction: Direction) {
        let NodeProcess(pid) = self.process(pod).await;
        let net = format!("--net=/proc/{pid}/ns/net");
        let port: &[&str] = match direction {
            Direction::Everything => &[],
            Direction::BetweenNodes => &["-p", "tcp", "-m", "multiport", "--ports", "7700"],
        };
        for chain in ["INPUT", "OUTPUT"] {
            let head = [net.as_str(), "iptables", "-w", action, chain];
            run(Command::new("nsenter").args(head).args(port).args(["-j", "DROP"]));
        }
    }
}
