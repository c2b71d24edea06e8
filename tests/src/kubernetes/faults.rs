//! What is done to single nodes: their processes are killed or stopped, their network is cut.

use super::operator::OPERATOR_NAMESPACE;
use super::place::Place;
use super::testcluster::run;
use super::wait::until;
use std::process::Command;

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

    /// Kills an operator if it runs, and its pod, so that the next one starts at once and not after kubelet's growing
    /// pauses. Whether there was one.
    pub fn kill_operator(&self, pod: &str) -> bool {
        let Some(process) = find("/usr/local/bin/coequal-operator", &format!("POD_NAME={pod}")) else { return false };
        process.kill();
        let delete = ["delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"];
        self.cluster.kubectl(&[&["-n", OPERATOR_NAMESPACE], &delete[..]].concat());
        true
    }

    /// Cuts a pod's network: the node hears nobody and nobody hears it.
    pub async fn cut(&self, pod: &str) {
        self.rules("-I", pod).await;
    }

    /// Takes the cut away.
    pub async fn heal(&self, pod: &str) {
        self.rules("-D", pod).await;
    }

    /// What comes to a pod comes slowly from now on.
    pub async fn slow_down(&self, pod: &str) {
        let (machine, interface) = self.interface(pod).await;
        let tc = ["tc", "qdisc", "add", "dev", &interface, "root", "tbf", "rate", "2mbit", "burst", "32kb"];
        self.cluster.on_machine(machine, &[&tc[..], &["latency", "5s"]].concat());
    }

    /// And as fast as ever again.
    pub async fn speed_up(&self, pod: &str) {
        let (machine, interface) = self.interface(pod).await;
        self.cluster.on_machine(machine, &["tc", "qdisc", "del", "dev", &interface, "root"]);
    }

    /// The machine's end of a pod's network.
    async fn interface(&self, pod: &str) -> (u32, String) {
        let (machine, NodeProcess(pid)) = (self.machine(pod).await, self.process(pod).await);
        let net = format!("--net=/proc/{pid}/ns/net");
        // `2: eth0@if7: …`: the other end has the index 7.
        let own = run(Command::new("nsenter").args([&net, "ip", "-o", "link", "show", "eth0"]));
        let index = own.split("@if").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("").to_owned();
        let all = self.cluster.on_machine(machine, &["ip", "-o", "link"]);
        let line = all.lines().find(|line| line.starts_with(&format!("{index}:")));
        let name = line.and_then(|line| line.split([' ', '@']).nth(1));
        (machine, name.unwrap_or_else(|| panic!("no interface {index} on node-{machine}: {all}")).to_owned())
    }

    /// In the pod's own network namespace, which outlives its process: pods of one machine meet without its rules.
    async fn rules(&self, action: &str, pod: &str) {
        let NodeProcess(pid) = self.process(pod).await;
        let net = format!("--net=/proc/{pid}/ns/net");
        for chain in ["INPUT", "OUTPUT"] {
            let head = [net.as_str(), "iptables", "-w", action, chain];
            run(Command::new("nsenter").args(head).args(["-j", "DROP"]));
        }
    }
}
