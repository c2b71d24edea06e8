//! The folder of the running test cluster, and its scripts.

use crate::binaries::root;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the folder that was given to `tests/kubernetes/up`.
const VARIABLE: &str = "COEQUAL_TEST_CLUSTER";

/// A running cluster.
#[derive(Debug, Clone)]
pub struct TestCluster {
    /// Its folder.
    pub directory: PathBuf,
    /// The network namespace of the control plane and the tests.
    pub network: String,
}

impl TestCluster {
    /// The cluster that runs, or why there is none.
    pub fn find() -> Result<Self, String> {
        let Some(directory) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            return Err(std::env::var("COEQUAL_TEST_CLUSTER_MISSING")
                .unwrap_or_else(|_| format!("{VARIABLE} names no running test cluster; tests/run starts one")));
        };
        let network = std::fs::read_to_string(directory.join("netns"))
            .unwrap_or_else(|e| panic!("{VARIABLE}: {} is not a running test cluster: {e}", directory.display()));
        Ok(Self { directory, network: network.trim().to_owned() })
    }

    /// Moves the calling thread, and what it starts later, to where API server, Services and pods can be reached.
    pub fn enter(&self) {
        let path = Path::new("/run/netns").join(&self.network);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // SAFETY: an open file descriptor of a network namespace; it moves this thread and nothing else.
        let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "{}: {}", path.display(), std::io::Error::last_os_error());
    }

    /// A script of `tests/kubernetes`, with this cluster as its first argument.
    pub fn script(&self, name: &str, arguments: &[&str]) {
        let script = root().join("tests/kubernetes").join(name);
        run(Command::new(script).arg(&self.directory).args(arguments));
    }

    /// `kubectl` with these arguments, and what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(Command::new(self.directory.join("in")).arg("kubectl").args(arguments))
    }

    /// `kubectl` whose failure is part of its answer.
    pub fn kubectl_says(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|says| says)
    }

    /// `kubectl` with these arguments, and what it prints.
    ///
    /// # Errors
    ///
    /// What it printed, and its complaint, when it failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.directory.join("in")).arg("kubectl").args(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// A command in the network of machine `number`, and what it prints.
    pub fn on_machine(&self, number: u32, command: &[&str]) -> String {
        let net = format!("--net=/run/netns/{}-{number}", self.network);
        run(Command::new("nsenter").arg(net).args(command))
    }

    /// Whether a process of the cluster, such as `kubelet-node-1`, runs.
    pub fn is_running(&self, name: &str) -> bool {
        let pid = std::fs::read_to_string(self.directory.join("pid").join(name)).unwrap_or_default();
        !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).exists()
    }

    /// Cuts a machine off, or connects it again; its pods run on.
    pub fn link(&self, number: u32, state: &str) {
        run(Command::new("ip").args(["-n", &self.network, "link", "set", &format!("m{number}"), state]));
    }
}

/// Runs a command that has to succeed, and gives what it prints.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
