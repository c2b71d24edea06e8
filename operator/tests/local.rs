//! Local mode with a fake replica: a shell script that takes a node's arguments and answers nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const MANIFEST: &str = "apiVersion: coequal.dev/v1alpha1\nkind: ReplicatedDatabase\nmetadata: {name: orders}\n";

struct Local {
    directory: tempfile::TempDir,
}

struct Running {
    child: Child,
    out: PathBuf,
}

impl Local {
    fn new(spec: &str, replica: &str) -> Self {
        let local = Self { directory: tempfile::tempdir().unwrap() };
        local.write_manifest(spec);
        let script = local.path("replica.sh");
        std::fs::write(&script, format!("#!/bin/sh\n{replica}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        local
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_manifest(&self, spec: &str) {
        std::fs::write(self.path("m.yaml"), format!("{MANIFEST}spec: {spec}\n")).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coequal-operator"));
        command.arg("local").arg("-f").arg(self.path("m.yaml")).arg("--data").arg(self.path("data"));
        command.arg("--node-exe").arg(self.path("replica.sh")).args(more).stdin(Stdio::null());
        command
    }

    fn start(&self, more: &[&str]) -> Running {
        let out = self.path("out");
        let file = std::fs::File::create(&out).unwrap();
        let child = self.command(more).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child, out }
    }

    fn fails(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }
}

impl Running {
    fn text(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// Waits until the output holds every part.
    fn wait_for(&self, parts: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.text();
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            assert!(Instant::now() < deadline, "waited for {parts:?} in:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn stop(mut self) -> (i32, String) {
        self.signal("-INT");
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.text())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Notes its process id, and stops when it is asked to, or when nobody is left who could ask.
const PATIENT: &str =
    "echo $$ >> \"$(dirname \"$0\")/pids\"; trap 'exit 0' TERM; while kill -0 $PPID; do sleep 0.1; done";

#[test]
fn a_replica_that_ends_is_started_again_with_growing_waits_and_its_last_lines_are_shown() {
    let local = Local::new("{replicas: 1}", "echo opening the store; echo 'port 7600 is taken' >&2; exit 3");
    let running = local.start(&[]);
    let text = running.wait_for(&["next start in 1 s", "next start in 2 s", "next start in 4 s"]);
    assert!(text.contains("orders-0 failed to start (exit code 3)"), "{text}");
    assert!(text.contains("  port 7600 is taken") && text.contains("logs/orders-0.log"), "{text}");
    assert!(text.contains("orders-0 OFFLINE (ended by itself, waits for its next start)"), "{text}");
    let (code, text) = running.stop();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("stopped; the data is kept"), "{text}");
}

#[test]
fn replicas_have_ports_of_their_own_and_the_same_ones_the_next_time() {
    let local = Local::new("{replicas: 3}", PATIENT);
    let urls = |text: &str| -> Vec<String> {
        let starts = text.lines().filter(|line| line.contains(" starts at "));
        starts.map(|line| line.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned()).collect()
    };
    let running = local.start(&[]);
    let first = urls(&running.wait_for(&["orders-0 starts at", "orders-1 starts at", "orders-2 starts at"]));
    assert_eq!(running.stop().0, 0);
    assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    let running = local.start(&[]);
    let second = urls(&running.wait_for(&["orders-0 starts at", "orders-1 starts at", "orders-2 starts at"]));
    assert_eq!(first, second);
    assert_eq!(running.stop().0, 0);
}

#[test]
fn a_second_supervisor_on_the_same_data_is_refused_with_the_process_id_of_the_first() {
    let local = Local::new("{replicas: 1}", PATIENT);
    let running = local.start(&[]);
    running.wait_for(&["orders-0 starts at"]);
    let refused = local.fails(&[]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("is in use by process {}", running.child.id())), "{text}");
}

#[test]
fn replicas_end_when_their_supervisor_is_killed() {
    // The hidden subcommand watches standard input; a shell does it with `read`.
    let local = Local::new("{replicas: 2}", "echo $$ >> \"$(dirname \"$0\")/pids\"; read nothing; exit 0");
    let mut running = local.start(&[]);
    running.wait_for(&["orders-1 starts at"]);
    let pids = || std::fs::read_to_string(local.path("pids")).unwrap_or_default();
    wait_until("both run", || pids().lines().count() == 2);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wait_until("both have ended", || !pids().lines().any(is_alive));
}

#[test]
fn a_replica_process_of_this_program_ends_with_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_coequal-operator"))
        .args(["replica", "--name", "a-0", "--listen", "127.0.0.1:0", "--listen-peers", "127.0.0.1:0", "--data"])
        .arg(directory.path().join("a-0"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    wait_until("the replica has ended", || child.try_wait().unwrap().is_some());
}

#[test]
fn a_replica_that_cannot_be_started_at_all_is_tried_again() {
    let local = Local::new("{replicas: 1}", PATIENT);
    std::fs::remove_file(local.path("replica.sh")).unwrap();
    let running = local.start(&[]);
    let text = running.wait_for(&["next try in 2 s"]);
    assert!(text.contains("orders-0 cannot start: cannot start") && text.contains("replica.sh"), "{text}");
}

#[test]
fn a_port_that_is_taken_is_named_when_it_was_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let local = Local::new("{replicas: 1}", PATIENT);
    let running = local.start(&["--port", &port.min(65_336).to_string()]);
    running.wait_for(&[&format!("port {port} (for node 0) is in use"), "next try in 1 s"]);
}

#[test]
fn an_invalid_manifest_shows_every_fault_and_exits_with_2() {
    let local = Local::new("{replicas: 300, databases: []}", PATIENT);
    let output = local.fails(&[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains("spec.replicas: is the number 300") && text.contains("spec.databases: is an empty"),
        "{text}"
    );
    assert!(!local.path("data").exists(), "nothing was made");
}

#[test]
fn an_invalid_edit_changes_nothing_and_hibernation_keeps_the_data() {
    let local = Local::new("{replicas: 2}", &format!("mkdir -p \"$4\"; {PATIENT}"));
    let running = local.start(&[]);
    running.wait_for(&["orders-1 starts at"]);
    local.write_manifest("{replicas: many}");
    running.wait_for(&["the manifest is refused, everything stays as it is", "spec.replicas: is the text \"many\""]);
    let renamed = MANIFEST.replace("orders", "shop");
    std::fs::write(local.path("m.yaml"), format!("{renamed}spec: {{}}\n")).unwrap();
    running.wait_for(&["metadata.name: is \"shop\" and was \"orders\""]);
    std::fs::remove_file(local.path("m.yaml")).unwrap();
    running.wait_for(&["m.yaml does not exist"]);
    assert!(!running.text().contains("stopped"), "{}", running.text());
    local.write_manifest("{replicas: 0}");
    running.wait_for(&["replicas 2 -> 0", "orders-0 stopped (exit code 0)", "orders-1 stopped (exit code 0)"]);
    assert!(local.path("data/orders-0").is_dir() && local.path("data/orders-1").is_dir());
    local.write_manifest("{replicas: 2}");
    wait_until("both run again", || running.text().matches("orders-1 starts at").count() == 2);
    assert_eq!(running.stop().0, 0);
}

#[test]
fn a_replica_that_is_suspended_holds_nothing_up_and_the_second_signal_kills() {
    let local = Local::new(
        "{replicas: 1}",
        "echo $$ >> \"$(dirname \"$0\")/pids\"; trap '' TERM; while kill -0 $PPID; do sleep 0.1; done",
    );
    let mut running = local.start(&[]);
    running.wait_for(&["orders-0 starts at"]);
    let pid = || std::fs::read_to_string(local.path("pids")).unwrap_or_default();
    wait_until("it runs", || !pid().is_empty());
    assert!(Command::new("kill").args(["-STOP", pid().trim()]).status().unwrap().success());
    running.signal("-INT");
    running.wait_for(&["stopping all replicas"]);
    let begun = Instant::now();
    running.signal("-INT");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!is_alive(pid().trim()));
}

#[test]
fn wrong_usage_exits_with_2_and_a_missing_cluster_with_the_way_out() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let program = Path::new(env!("CARGO_BIN_EXE_coequal-operator"));
        let mut command = Command::new(program);
        command.args(arguments).env("HOME", home.path()).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
        command.output().unwrap()
    };
    for arguments in [&[][..], &["run"][..]] {
        let none = run(arguments);
        let said = String::from_utf8(none.stderr).unwrap();
        assert_eq!(none.status.code(), Some(1), "{said}");
        assert!(said.contains("set KUBECONFIG") && said.contains("coequal-operator local -f"), "{said}");
    }
    assert_eq!(run(&["run", "--listen", "x"]).status.code(), Some(2));
    assert_eq!(run(&["local"]).status.code(), Some(2));
    let mut help = String::new();
    run(&["--help"]).stdout.as_slice().read_to_string(&mut help).unwrap();
    assert!(help.contains("Exit codes") && help.contains("Examples") && !help.contains("\n  replica"), "{help}");
}
