//! Voters whose own copy is gone while the node's identity is there: folders lost or overwritten under a node.

use coequal_tests::cluster::{Cluster, Node, until};
use coequal_tests::disks::copy;
use reqwest::Method;
use std::path::Path;

const DOCUMENTS: &str = "/v1/databases/orders/collections/notes/documents";

async fn write(cluster: &Cluster, through: usize, documents: std::ops::Range<u32>) {
    for n in documents {
        let answer = cluster.nodes[through].client().put(&format!("{DOCUMENTS}/k{n}"), &format!("{{\"n\":{n}}}")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("the folder is gone");
}

/// Writes are acknowledged by nodes 0 and 2 alone. Then 0 is away, and `harm` comes over the databases of 2: with 1 it
/// would be a quorum that knows nothing of them.
async fn nothing_acknowledged_is_hidden(cluster: &mut Cluster, harm: impl FnOnce(&Path, &[Node])) {
    write(cluster, 0, 0..20).await;
    cluster.until_equal("notes").await;
    cluster.nodes[1].signal(libc::SIGSTOP);
    write(cluster, 0, 20..70).await;
    cluster.nodes[0].kill();
    cluster.nodes[2].kill();
    harm(&cluster.nodes[2].directory.join("databases"), &cluster.nodes);
    cluster.nodes[2].start();
    cluster.nodes[1].signal(libc::SIGCONT);
    let said = "what this node has promised is gone with its copy";
    until("the loss is found", async || cluster.nodes[2].log().contains(said).then_some(())).await;
    let reader = cluster.nodes[1].client();
    for n in 20..70 {
        let headers = [("coequal-deadline-ms", "100")];
        let path = format!("{DOCUMENTS}/k{n}?consistency=linearizable");
        let read = reader.send(Method::GET, &path, &headers, "").await;
        assert_eq!(read.status, 503, "a quorum with a voter that forgot says nothing: {read:?}");
    }
    cluster.nodes[0].start();
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("notes").await.lines().count(), 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_joined_later_and_lost_its_folder_does_not_vote_on() {
    let mut cluster = Cluster::with_orders(2).await;
    cluster.add(&[]);
    cluster.until_members(3).await;
    cluster.until_online("orders").await;
    nothing_acknowledged_is_hidden(&mut cluster, |databases, _| remove(&databases.join("orders"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_over_whose_folder_another_ones_was_copied_does_not_vote_on() {
    let mut cluster = Cluster::with_orders(3).await;
    nothing_acknowledged_is_hidden(&mut cluster, |databases, nodes| {
        remove(&databases.join("orders"));
        copy(&nodes[1].directory.join("databases/orders"), &databases.join("orders"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_all_its_databases_does_not_vote_on() {
    let mut cluster = Cluster::with_orders(3).await;
    nothing_acknowledged_is_hidden(&mut cluster, |databases, _| remove(databases)).await;
}

/// The system database is not like the others: it says which databases there are and who holds them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_the_system_database_alone_gets_it_anew() {
    let mut cluster = Cluster::with_orders(3).await;
    write(&cluster, 0, 0..20).await;
    cluster.nodes[2].kill();
    remove(&cluster.nodes[2].directory.join("databases/_system"));
    cluster.nodes[2].start();
    let said = "database=_system reason=what this node has promised";
    until("the loss is found", async || cluster.nodes[2].log().contains(said).then_some(())).await;
    until("the system database is open again", async || {
        let log = cluster.nodes[2].log();
        let (_, after) = log.rsplit_once(said)?;
        after.lines().any(|line| line.contains("open database=_system")).then_some(())
    })
    .await;
    write(&cluster, 2, 20..40).await;
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("notes").await.lines().count(), 40);
}
