//! `coequal-operator local` as a person starts it, with its output in a file.

use crate::binaries::program;
use crate::client::Client;
use crate::cluster::PATIENCE;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A manifest, a data directory and, mostly, a running program.
pub struct Local {
    pub directory: tempfile::TempDir,
    pub name: String,
    child: Option<Child>,
    runs: usize,
}

impl Local {
    /// A manifest with this name and spec; nothing runs yet.
    pub fn new(name: &str, spec: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let local = Self { directory, name: name.to_owned(), child: None, runs: 0 };
        local.save(spec);
        local
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Saves the manifest with another spec.
    pub fn save(&self, spec: &str) {
        let head = "apiVersion: coequal.dev/v1alpha1\nkind: ReplicatedDatabase\n";
        let text = format!("{head}metadata:\n  name: {}\nspec: {spec}\n", self.name);
        std::fs::write(self.path("manifest.yaml"), text).expect("saved");
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(program("coequal-operator"));
        command.arg("local").arg("-f").arg(self.path("manifest.yaml")).arg("--data").arg(self.path("data"));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end: for what is refused.
    pub fn output(&self) -> Output {
        self.command().output().expect("coequal-operator runs")
    }

    pub fn start(&mut self) {
        self.runs += 1;
        let out = std::fs::File::create(self.out()).expect("output");
        let mut command = self.command();
        command.stdout(out.try_clone().expect("output")).stderr(out);
        self.child = Some(command.spawn().expect("coequal-operator starts"));
    }

    fn out(&self) -> PathBuf {
        self.path(&format!("output-{}", self.runs))
    }

    /// What it has printed since its start.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.out()).unwrap_or_default()
    }

    /// Waits until the output of this run holds every part `times` times or more.
    pub async fn said(&mut self, times: usize, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if parts.iter().all(|part| text.matches(part).count() >= times) {
                return text;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "ended ({ended:?}) before it said {parts:?}:\n{text}");
            assert!(Instant::now() < deadline, "did not say {parts:?} {times} times:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Client of node `ordinal`, at the URL that was printed for it last.
    pub fn client(&self, ordinal: usize) -> Client {
        let start = format!("{}-{ordinal} starts at http://", self.name);
        let text = self.text();
        let line = text.lines().rfind(|line| line.contains(&start));
        let address = line.and_then(|line| line.split(&start).nth(1)?.split_whitespace().next());
        Client::new(address.unwrap_or_else(|| panic!("no address of node {ordinal} in:\n{text}")))
    }

    /// Process id of a replica, as its data directory says.
    pub fn pid(&self, ordinal: usize) -> i32 {
        let path = self.path(&format!("data/{}-{ordinal}/lock", self.name));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().parse().unwrap_or_else(|e| panic!("{}: {text:?}: {e}", path.display()))
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.as_ref().expect("running").id()).expect("pid");
        // SAFETY: kill only takes numbers; the process is our child and has not been waited for.
        unsafe { libc::kill(pid, signal) };
    }

    /// Ctrl-C; its exit code.
    pub fn interrupt(&mut self) -> Option<i32> {
        self.signal(libc::SIGINT);
        let mut child = self.child.take().expect("running");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = (child.kill(), child.wait());
        panic!("did not stop within 30 s of Ctrl-C:\n{}", self.text());
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.text());
            for entry in std::fs::read_dir(self.path("data/logs")).into_iter().flatten().flatten() {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                eprintln!("--- {}", entry.file_name().to_string_lossy());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        // Replicas watch their supervisor and end with it.
        if let Some(child) = &mut self.child {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// Local addresses on which a process listens, as `/proc` has them (`0100007F:1E14` is 127.0.0.1).
pub fn listening(pid: i32) -> Vec<String> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        sockets.extend(std::fs::read_link(entry.path()).map(|target| target.to_string_lossy().into_owned()));
    }
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let row: Vec<&str> = line.split_whitespace().collect();
            if row.len() > 9 && row[3] == "0A" && sockets.contains(&format!("socket:[{}]", row[9])) {
                found.push(row[1].to_owned());
            }
        }
    }
    found
}
