//! One replica process: started, asked to stop, killed after a deadline, and never left behind.

use super::error::LocalError;
use super::log_file::LogFile;
use super::ports::Ports;
use coequal_types::NodeName;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// How long a replica may take to stop before it is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Settings of a node that only the supervisor may choose.
const OWN_ENVIRONMENT: &[&str] = &[
    "COEQUAL_NAME",
    "COEQUAL_DATA",
    "COEQUAL_LISTEN",
    "COEQUAL_LISTEN_PEERS",
    "COEQUAL_ADVERTISE",
    "COEQUAL_ADVERTISE_API",
    "COEQUAL_JOIN",
    "COEQUAL_CLUSTER",
    "COEQUAL_TLS_DIRECTORY",
    "COEQUAL_TLS_NAME",
    "COEQUAL_TLS_API",
    "COEQUAL_TOKEN_DIRECTORY",
    "COEQUAL_INITIALIZE",
];

/// The program that is a replica.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    first_arguments: Vec<OsString>,
}

/// What differs between replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaArguments {
    /// Name of the node.
    pub name: NodeName,
    /// Its directory.
    pub data: PathBuf,
    /// Its ports.
    pub ports: Ports,
    /// Peer addresses of the others; empty for the node that makes the cluster.
    pub join: Vec<String>,
    /// The cluster that it belongs to, whoever answers.
    pub cluster: Option<uuid::Uuid>,
    /// Its part of the machine's processors.
    pub worker_threads: usize,
}

/// What a running process can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Stop,
    Kill,
}

/// A handle to a running replica. Dropping it kills the replica.
#[derive(Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    orders: mpsc::UnboundedSender<Order>,
    stop_ordered: bool,
}

impl Program {
    /// This program itself, or another one that takes a node's arguments.
    pub fn find(node_exe: Option<&Path>) -> Result<Self, LocalError> {
        match node_exe {
            Some(path) => Ok(Self { path: path.to_owned(), first_arguments: Vec::new() }),
            None => {
                let path = std::env::current_exe().map_err(|error| LocalError::setup("find this program", error))?;
                Ok(Self { path, first_arguments: vec!["replica".into()] })
            }
        }
    }

    fn command(&self, arguments: &ReplicaArguments) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.first_arguments);
        command.arg("--name").arg(arguments.name.as_str());
        command.arg("--data").arg(&arguments.data);
        command.arg("--listen").arg(arguments.ports.api_address().to_string());
        command.arg("--listen-peers").arg(arguments.ports.peer_address().to_string());
        if !arguments.join.is_empty() {
            command.arg("--join").arg(arguments.join.join(","));
        }
        if let Some(cluster) = arguments.cluster {
            command.arg("--cluster").arg(cluster.to_string());
        }
        command.arg("--worker-threads").arg(arguments.worker_threads.to_string());
        for variable in OWN_ENVIRONMENT {
            command.env_remove(variable);
        }
        command
    }

    /// Starts a replica; `ended` is called once, when it has ended.
    pub fn start(
        &self,
        arguments: &ReplicaArguments,
        log: &mut LogFile,
        ended: impl FnOnce(std::io::Result<ExitStatus>) + Send + 'static,
    ) -> Result<Process, LocalError> {
        let (out, errors) = log.open()?;
        let mut command = self.command(arguments);
        // Standard input stays open as long as this process lives: its end tells the replica to stop. A process
        // group of its own keeps Ctrl-C in the terminal away from it, so that it is stopped in order.
        command.stdin(Stdio::piped()).stdout(out).stderr(errors).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|error| LocalError::io("start", &self.path, error))?;
        let pid = child.id().ok_or_else(|| LocalError::setup("start a replica", "it has no process id"))?;
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(async move { ended(attend(child, inbox).await) });
        Ok(Process { pid, orders, stop_ordered: false })
    }
}

impl Process {
    /// Asks the replica to stop, and kills it after the deadline.
    pub fn stop(&mut self) {
        self.stop_ordered = true;
        let _ = self.orders.send(Order::Stop);
    }

    /// Kills the replica.
    pub fn kill(&mut self) {
        self.stop_ordered = true;
        let _ = self.orders.send(Order::Kill);
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop_ordered
    }
}

/// Owns the child until it has ended, so that a signal can never meet another process of the same number.
async fn attend(mut child: Child, mut inbox: mpsc::UnboundedReceiver<Order>) -> std::io::Result<ExitStatus> {
    // Waiting would close it, and the replica would take that for the end of the supervisor.
    let _stdin = child.stdin.take();
    let order = tokio::select! {
        status = child.wait() => return status,
        order = inbox.recv() => order,
    };
    if order == Some(Order::Stop) {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A failure means that it has ended just now; waiting tells.
            let _ = kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            status = child.wait() => return status,
            () = tokio::time::sleep(STOP_DEADLINE) => {}
            () = killed(&mut inbox) => {}
        }
    }
    child.kill().await?;
    child.wait().await
}

async fn killed(inbox: &mut mpsc::UnboundedReceiver<Order>) {
    while inbox.recv().await.is_some_and(|order| order != Order::Kill) {}
}

/// How a process ended, in words.
pub fn described(status: &std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown end".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::sync::oneshot;

    fn arguments(join: &[&str]) -> ReplicaArguments {
        ReplicaArguments {
            name: "orders-0".parse().unwrap(),
            data: "/tmp/x".into(),
            ports: Ports { api: 7600, peers: 7700 },
            join: join.iter().map(|peer| (*peer).to_owned()).collect(),
            cluster: None,
            worker_threads: 2,
        }
    }

    /// Runs a shell script as a replica and gives its handle and its end.
    fn run(script: &str) -> (tempfile::TempDir, Process, oneshot::Receiver<String>) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(directory.path().join("a.log"));
        let program = Program { path: "/bin/sh".into(), first_arguments: vec!["-c".into(), script.into()] };
        let (send, receive) = oneshot::channel();
        let ended = move |status| {
            let _ = send.send(described(&status));
        };
        let process = program.start(&arguments(&[]), &mut log, ended).unwrap();
        (directory, process, receive)
    }

    #[test]
    fn a_replica_is_told_its_name_data_ports_peers_and_threads_only() {
        let program = Program::find(Some(Path::new("/bin/node"))).unwrap();
        let command = program.command(&arguments(&["127.0.0.1:7701", "127.0.0.1:7702"]));
        let words: Vec<&str> = command.as_std().get_args().map(|word| word.to_str().unwrap()).collect();
        let expected = "--name orders-0 --data /tmp/x --listen 127.0.0.1:7600 --listen-peers 127.0.0.1:7700 \
                        --join 127.0.0.1:7701,127.0.0.1:7702 --worker-threads 2";
        assert_eq!(words.join(" "), expected);
        assert!(Program::find(None).unwrap().command(&arguments(&[])).as_std().get_args().eq([
            "replica",
            "--name",
            "orders-0",
            "--data",
            "/tmp/x",
            "--listen",
            "127.0.0.1:7600",
            "--listen-peers",
            "127.0.0.1:7700",
            "--worker-threads",
            "2"
        ]));
    }

    /// Waits until the script has set its traps and says so.
    async fn up(directory: &tempfile::TempDir) {
        while std::fs::read_to_string(directory.path().join("a.log")).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_replica_is_asked_to_stop_before_anything_else() {
        let (directory, mut process, ended) = run("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done");
        up(&directory).await;
        process.stop();
        assert_eq!(ended.await.unwrap(), "exit code 7");
    }

    #[tokio::test]
    async fn a_replica_that_does_not_listen_is_killed_at_once_when_told_so() {
        let (directory, mut process, ended) = run("trap '' TERM; echo up; while :; do sleep 0.05; done");
        up(&directory).await;
        let begun = Instant::now();
        process.stop();
        process.kill();
        assert_eq!(ended.await.unwrap(), "signal 9");
        assert!(begun.elapsed() < STOP_DEADLINE);
    }

    #[tokio::test]
    async fn the_end_of_the_supervisor_is_the_end_of_standard_input() {
        let (_directory, process, mut ended) = run("cat > /dev/null; exit 5");
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut ended).await.is_err());
        drop(process);
        assert!(ended.await.unwrap().contains("signal 9"), "a dropped handle kills");
    }
}
