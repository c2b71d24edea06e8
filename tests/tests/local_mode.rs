//! `coequal-operator local`: the first command of the README, and its walk, as a newcomer would do it.

use coequal_tests::binaries::{program, root};
use coequal_tests::client::Client;
use coequal_tests::cluster::{free_port, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Local {
    process: Child,
    directory: tempfile::TempDir,
    manifest: PathBuf,
    port: u16,
}

fn free_block() -> u16 {
    // Ports above the block that the system hands out by itself; each test takes another block.
    let base = 20_000 + (free_port() % 50) * 200;
    (0..60u16)
        .map(|i| 20_000 + (base - 20_000 + i * 200) % 10_000)
        .find(|port| is_free(*port))
        .expect("a free block of ports")
}

fn is_free(port: u16) -> bool {
    [port, port + 1, port + 100].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

impl Local {
    fn start(port: u16) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let manifest = directory.path().join("orders.yaml");
        std::fs::copy(root().join("crds/examples/orders.yaml"), &manifest).expect("example");
        let process = Self::spawn(directory.path(), &manifest, port);
        Self { process, directory, manifest, port }
    }

    fn spawn(directory: &Path, manifest: &Path, port: u16) -> Child {
        let out = std::fs::File::options().create(true).append(true).open(directory.join("out")).expect("out");
        let mut command = Command::new(program("coequal-operator"));
        command.args(["local", "-f"]).arg(manifest).arg("--data").arg(directory.join("data"));
        command.args(["--port", &port.to_string()]);
        command.stdin(Stdio::null()).stderr(out.try_clone().expect("out")).stdout(out).spawn().expect("starts")
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("out")).unwrap_or_default()
    }

    fn client(&self, node: u16) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.port + node))
    }

    async fn until_ready(&self, nodes: u16) {
        for node in 0..nodes {
            let client = self.client(node);
            until(&format!("node {node} ready; output: {}", self.output()), async || {
                let ready = client.try_send(reqwest::Method::GET, "/readyz", &[], "").await.ok()?;
                let described = client.try_send(reqwest::Method::GET, "/v1/databases/orders", &[], "").await.ok()?;
                (ready.status == 200 && described.status == 200).then_some(())
            })
            .await;
        }
    }

    async fn until_nodes(&self, count: usize) {
        let client = self.client(0);
        until(&format!("{count} nodes"), async || {
            let cluster = client.try_send(reqwest::Method::GET, "/v1/cluster", &[], "").await.ok()?.json();
            coequal_tests::cluster::remember(&cluster);
            (cluster["nodes"].as_array()?.len() == count).then_some(())
        })
        .await;
    }

    fn set_replicas(&self, count: u32) {
        let text = std::fs::read_to_string(&self.manifest).expect("manifest");
        let changed: Vec<String> = text
            .lines()
            .map(|line| {
                if line.trim_start().starts_with("replicas:") {
                    format!("  replicas: {count}")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        std::fs::write(&self.manifest, changed.join("\n")).expect("manifest");
    }

    /// Ctrl-C; true when it ended in order.
    fn interrupt(&mut self) -> bool {
        let pid = i32::try_from(self.process.id()).expect("pid");
        // SAFETY: kill only takes numbers; the process is our child and has not been waited for.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of local mode\n{}", self.output());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const DOCUMENT: &str = "/v1/databases/orders/collections/things/documents/a";

/// What each replica of a supervisor was told of threads for HTTP and frames, and whether its databases have others.
fn threads(supervisor: u32) -> Vec<(String, bool)> {
    let children = std::fs::read_dir("/proc").expect("/proc").filter_map(|process| {
        let path = process.ok()?.path();
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()?;
        (parent == supervisor).then_some(path)
    });
    let told = children.filter_map(|path| {
        let command = std::fs::read(path.join("cmdline")).ok()?;
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let at = words.iter().position(|word| *word == b"--worker-threads")?;
        let workers = String::from_utf8_lossy(words.get(at + 1)?).into_owned();
        let tasks = std::fs::read_dir(path.join("task")).ok()?.flatten();
        let names: Vec<_> = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
        assert!(names.iter().any(|name| name.starts_with("log-orders")), "{names:?}");
        Some((workers, names.iter().any(|name| name.starts_with("db-orders"))))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_start_scale_out_and_in_and_find_their_data_again() {
    let started = Instant::now();
    let mut local = Local::start(free_block());
    local.until_ready(3).await;
    println!("three nodes ready after {:?}", started.elapsed());
    let each = std::thread::available_parallelism().map_or(1, |all| (all.get() / 3).max(1));
    let wanted = vec![(each.to_string(), each > 1); 3];
    let threads = threads(local.process.id());
    assert_eq!(threads, wanted, "they share the processors evenly, and one thread runs the databases too");
    assert_eq!(local.client(0).put(DOCUMENT, "{\"x\":1}").await.status, 201);
    println!("first document written after {:?}", started.elapsed());
    let started = Instant::now();
    local.set_replicas(5);
    local.until_ready(5).await;
    println!("3 to 5 after {:?}", started.elapsed());
    assert_eq!(local.client(4).get(&format!("{DOCUMENT}?consistency=linearizable")).await.status, 200);
    let started = Instant::now();
    local.set_replicas(3);
    local.until_nodes(3).await;
    println!("5 to 3 after {:?}", started.elapsed());
    assert_eq!(local.client(2).get(&format!("{DOCUMENT}?consistency=linearizable")).await.status, 200);
    // An edit with faults is told and changes nothing.
    let good = std::fs::read_to_string(&local.manifest).expect("manifest");
    std::fs::write(&local.manifest, good.replace("writeQuorum: majority", "writeQuorum: 1")).expect("manifest");
    until("the fault is told", async || local.output().contains("below a majority of 3 nodes").then_some(())).await;
    std::fs::write(&local.manifest, &good).expect("manifest");
    assert!(local.interrupt(), "Ctrl-C ends everything in order");
    local.process = Local::spawn(local.directory.path(), &local.manifest, local.port);
    local.until_ready(3).await;
    assert_eq!(local.client(1).get(&format!("{DOCUMENT}?consistency=linearizable")).await.status, 200);
    assert!(local.interrupt());
}

#[test]
fn a_manifest_with_faults_is_refused_with_one_line_for_each() {
    let directory = tempfile::tempdir().expect("directory");
    let manifest = directory.path().join("bad.yaml");
    std::fs::write(&manifest, "apiVersion: coequal.dev/v1\nkind: ReplicatedDatabase\nmetadata: {name: Orders}\nspec: {replica: 3, databases: [{name: orders, writeQuorum: 1}]}\n").expect("written");
    let output = Command::new(program("coequal-operator")).args(["local", "-f"]).arg(&manifest).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for path in ["apiVersion:", "metadata.name:", "spec.replica:", "spec.databases[0].writeQuorum:"] {
        assert!(said.contains(path), "{path} is missing in: {said}");
    }
}

/// The README's walk, exactly as printed but for ports, data and manifest, which every test has for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readme_walk_works_as_printed() {
    let mut local = Local::start(free_block());
    local.until_ready(3).await;
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README");
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 6, "the walk has {} blocks", blocks.len());
    let mut script = String::from("set -eu -o pipefail\n");
    for block in blocks {
        script += block;
    }
    for node in 0..5 {
        script = script.replace(&format!("127.0.0.1:760{node}"), &format!("127.0.0.1:{}", local.port + node));
    }
    let data = local.directory.path().join("data");
    script = script.replace("coequal-data/orders", &data.display().to_string());
    script = script.replace("crds/examples/orders.yaml", &local.manifest.display().to_string());
    let file = local.directory.path().join("walk.sh");
    std::fs::write(&file, script).expect("script");
    let output = tokio::task::spawn_blocking(move || Command::new("timeout").args(["90", "bash"]).arg(file).output())
        .await
        .expect("no panic")
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    for word in ["\"name\":\"Zürich\"", "city-1000", "backlogEntries", "\"name\":\"Bern\""] {
        assert!(said.contains(word), "{word} is missing in: {said}");
    }
    local.until_nodes(3).await;
    assert!(local.interrupt());
}
