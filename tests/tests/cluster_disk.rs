//! Disks that are in use, read-only, newer, damaged or full.

use coequal_tests::cluster::{Cluster, Node, free_port, until};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_directory_is_refused_with_the_pid_of_the_first() {
    let cluster = Cluster::start(1, &[]).await;
    let pid = cluster.nodes[0].pid().to_string();
    let mut command = std::process::Command::new(coequal_tests::binaries::program("coequal-node"));
    command.args(["--name", "n0", "--initialize"]).arg("--data").arg(&cluster.nodes[0].directory);
    command.args([
        "--listen",
        &format!("127.0.0.1:{}", free_port()),
        "--listen-peers",
        &format!("127.0.0.1:{}", free_port()),
    ]);
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {pid}")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused_clearly() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.nodes[0].terminate();
    let identity = cluster.nodes[0].directory.join("identity.json");
    let text = std::fs::read_to_string(&identity).expect("identity");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("json");
    json["format"] = 99.into();
    std::fs::write(&identity, json.to_string()).expect("written");
    let mut command = cluster.nodes[0].command();
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("format 99") && said.contains("newer program"), "{said}");
}

/// The files of a node's copy are not what was written.
fn damage(node: &Node) {
    for file in ["documents.redb", "log.redb"] {
        let path = node.directory.join("databases/orders").join(file);
        let mut bytes = std::fs::read(&path).expect("file");
        let middle = bytes.len() / 2;
        bytes.truncate(middle.max(4096));
        bytes[100..2_000].fill(0xA5);
        std::fs::write(&path, bytes).expect("damaged");
    }
}

/// Where nobody deploys by himself, a damaged copy stays in quarantine for everybody to see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_in_quarantine_stands_in_status_and_metrics_and_serves_nothing() {
    let mut cluster = Cluster::with_database(3, "orders", "{\"autoDeploy\":false}", &[]).await;
    let path = "/v1/databases/orders/collections/things/documents/a";
    assert_eq!(cluster.nodes[0].client().put(path, "{}").await.status, 201);
    cluster.until_equal("things").await;
    cluster.nodes[2].terminate();
    damage(&cluster.nodes[2]);
    cluster.nodes[2].start();
    let client = cluster.nodes[2].client();
    until("it is FAULTY, by its own word and by a peer's", async || {
        let peer = cluster.nodes[0].client().get("/v1/databases/orders/replication").await.json();
        let seen = peer["nodes"].as_array()?.iter().any(|node| node["status"] == "FAULTY");
        let metrics = client.try_send(Method::GET, "/metrics", &[], "").await.ok()?.body;
        let counted = metrics.contains("coequal_database_status{database=\"orders\",status=\"FAULTY\"} 1");
        (seen && counted).then_some(())
    })
    .await;
    let ready = client.get("/readyz?verbose").await;
    assert!(ready.status == 503 && ready.body.contains("FAULTY"), "{ready:?}");
    assert!(client.get("/v1/databases/orders").await.json()["message"].is_string(), "it says what is wrong");
    assert!(client.get(path).await.status.is_server_error(), "it serves nothing");
    assert_eq!(cluster.nodes[1].client().put(path, "{\"n\":2}").await.status, 200, "the others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_is_quarantined_and_deployed_anew() {
    let mut cluster = Cluster::with_orders(3).await;
    let body: String = (0..2_000).map(|i| format!("{{\"_key\":\"k{i:05}\",\"n\":{i}}}\n")).collect();
    let headers = [("content-type", "application/x-ndjson")];
    cluster.nodes[0]
        .client()
        .send(Method::POST, "/v1/databases/orders/collections/things/documents:batch", &headers, body)
        .await;
    cluster.until_equal("things").await;
    cluster.nodes[2].terminate();
    damage(&cluster.nodes[2]);
    cluster.nodes[2].start();
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("things").await.lines().count(), 2_000);
}

/// Mounts a small file system of its own, or says why the test is skipped.
fn small_disk(test: &str, megabytes: u32) -> Option<tempfile::TempDir> {
    let mount = tempfile::tempdir().expect("directory");
    let size = format!("size={megabytes}m");
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(mount.path()).status();
    if mounted.is_ok_and(|status| status.success()) {
        return Some(mount);
    }
    println!("SKIPPED {test}: a small tmpfs cannot be mounted here (needs root)");
    None
}

fn unmount(mount: &tempfile::TempDir) {
    let _ = std::process::Command::new("umount").arg("-l").arg(mount.path()).status();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_directory_is_named_and_nothing_starts() {
    let Some(mount) = small_disk("a_read_only_directory_is_named_and_nothing_starts", 64) else { return };
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.nodes[0].terminate();
    for directory in ["used", "new"] {
        cluster.nodes[0].directory = mount.path().join(directory);
        if directory == "used" {
            cluster.nodes[0].start();
            cluster.until_members(1).await;
            cluster.nodes[0].terminate();
            let again = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(mount.path()).status();
            assert!(again.is_ok_and(|status| status.success()), "remounted read-only");
        }
        let output = cluster.nodes[0].command().output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(directory) && last.contains("is not writable"), "{said}");
    }
    drop(cluster);
    unmount(&mount);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_with_507_and_recovers_when_there_is_space() {
    const NAME: &str = "a_full_disk_refuses_writes_with_507_and_recovers_when_there_is_space";
    let Some(mount) = small_disk(NAME, 48) else { return };
    let mut cluster = Cluster::with_database(1, "other", "{}", &[]).await;
    cluster.nodes[0].terminate();
    cluster.nodes[0].directory = mount.path().join("n0");
    cluster.nodes[0].start();
    cluster.until_members(1).await;
    let client = cluster.nodes[0].client();
    assert!(client.put("/v1/databases/orders", "{}").await.status.is_success());
    cluster.until_status(&cluster.nodes[0], "orders", "ONLINE").await;
    let path = "/v1/databases/orders/collections/things/documents";
    let ballast = mount.path().join("ballast");
    let mut acknowledged = Vec::new();
    let value = "x".repeat(200_000);
    let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "3000")];
    let mut refused = None;
    let room = 200;
    std::fs::write(&ballast, vec![1u8; 12 << 20]).expect("ballast");
    for i in 0..room {
        let answer =
            client.send(Method::PUT, &format!("{path}/k{i}"), &headers, format!("{{\"v\":\"{value}\"}}")).await;
        match answer.status.as_u16() {
            201 => acknowledged.push(i),
            507 => {
                refused = Some(answer);
                break;
            }
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
    assert!(refused.is_some(), "507 was not seen; {} writes acknowledged", acknowledged.len());
    assert_eq!(client.get(&format!("{path}/k0")).await.status, 200, "reads go on");
    std::fs::remove_file(&ballast).expect("space");
    until("writes succeed again by themselves", async || {
        let answer = client.send(Method::PUT, &format!("{path}/after"), &headers, "{}").await;
        answer.status.is_success().then_some(())
    })
    .await;
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.until_status(&cluster.nodes[0], "orders", "ONLINE").await;
    for i in acknowledged {
        assert_eq!(client.get(&format!("{path}/k{i}")).await.status, 200, "k{i} was acknowledged");
    }
    drop(cluster);
    unmount(&mount);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let cluster = Cluster::start(1, &[]).await;
    let taken = cluster.nodes[0].api.clone();
    let directory = tempfile::tempdir().expect("directory");
    let mut command = std::process::Command::new(coequal_tests::binaries::program("coequal-node"));
    command
        .args(["--name", "x", "--listen", &taken, "--listen-peers", &format!("127.0.0.1:{}", free_port())])
        .arg("--data")
        .arg(directory.path());
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&taken) && said.contains("--listen"), "{said}");
}
