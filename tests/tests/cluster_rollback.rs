//! Disks that are replaced by an older image of themselves, as a restored volume snapshot is.

use coequal_tests::cluster::{Cluster, until};
use coequal_tests::writers::{Writer, check_acknowledged};
use reqwest::Method;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENTS: &str = "/v1/databases/orders/collections/notes/documents";

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} is copied to {}", from.display(), to.display());
}

/// Stops a node, copies its directory and starts it again.
async fn image(cluster: &mut Cluster, node: usize) -> PathBuf {
    cluster.nodes[node].kill();
    let image = cluster.nodes[node].directory.with_extension("image");
    copy(&cluster.nodes[node].directory, &image);
    cluster.nodes[node].start();
    cluster.until_online("orders").await;
    image
}

/// Puts the image in the place of the directory of a node that was killed, and starts it until its starts are more than
/// the others have seen: until then they take it for a second process.
async fn restore(cluster: &mut Cluster, node: usize, image: &Path) {
    let directory = cluster.nodes[node].directory.clone();
    std::fs::remove_dir_all(&directory).expect("the disk is gone");
    copy(image, &directory);
    for _ in 0..2 {
        cluster.nodes[node].start();
        let client = cluster.nodes[node].client();
        until("it answers", async || client.try_send(Method::GET, "/livez", &[], "").await.ok()).await;
        cluster.nodes[node].kill();
    }
    cluster.nodes[node].start();
}

async fn write(cluster: &Cluster, through: usize, documents: std::ops::Range<u32>) {
    for n in documents {
        let answer = cluster.nodes[through].client().put(&format!("{DOCUMENTS}/k{n}"), &format!("{{\"n\":{n}}}")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_older_disk_never_hides_an_acknowledged_write() {
    let mut cluster = Cluster::with_orders(3).await;
    let image = image(&mut cluster, 2).await;
    write(&cluster, 0, 0..100).await;
    cluster.until_equal("notes").await;
    // Acknowledged by 0 and 2 alone; then 0 is gone and 2 has forgotten.
    cluster.nodes[1].signal(libc::SIGSTOP);
    write(&cluster, 0, 100..150).await;
    cluster.nodes[0].kill();
    cluster.nodes[2].kill();
    restore(&mut cluster, 2, &image).await;
    cluster.nodes[1].signal(libc::SIGCONT);
    let reader = cluster.nodes[1].client();
    until("the older disk is found", async || {
        cluster.nodes[2].log().contains("the store is older than what this node has told others").then_some(())
    })
    .await;
    for _ in 0..20 {
        let headers = [("coequal-deadline-ms", "200")];
        let path = format!("{DOCUMENTS}/k120?consistency=linearizable");
        let read = reader.send(Method::GET, &path, &headers, "").await;
        assert_eq!(read.status, 503, "a quorum with a disk that forgot says nothing: {read:?}");
    }
    cluster.nodes[0].start();
    cluster.until_online("orders").await;
    let export = cluster.until_equal("notes").await;
    assert_eq!(export.lines().count(), 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_older_disk_is_deployed_anew_while_writers_go_on() {
    let mut cluster = Cluster::with_orders(3).await;
    let image = image(&mut cluster, 1).await;
    let writers = [0, 2].map(|at| Writer::start(cluster.nodes[at].client(), "notes", &format!("w{at}"), 100));
    let under_way = async |more: u64| {
        let from = writers[0].writes();
        until("the writer goes on", async || (writers[0].writes() > from + more).then_some(())).await;
    };
    under_way(200).await;
    cluster.nodes[1].kill();
    restore(&mut cluster, 1, &image).await;
    under_way(50).await;
    cluster.until_online("orders").await;
    under_way(50).await;
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.stop().await);
    }
    let export = cluster.until_equal("notes").await;
    for writer in &seen {
        assert!(writer.errors.is_empty() && writer.unknown.is_empty(), "{:?}", writer.errors);
        check_acknowledged(&export, writer);
    }
    let log = cluster.nodes[1].log();
    assert!(log.contains("the store is older than what this node has told others"), "{log}");
}
