//! Joining, when it does not go smoothly: nodes that all come at once, and a node that dies in the middle of it.

use coequal_tests::cluster::{Cluster, until};

/// The steps of membership that the nodes' logs tell of for the cluster's own database.
fn epochs(cluster: &Cluster) -> Vec<u64> {
    let logs = cluster.nodes.iter().map(|node| node.log()).collect::<String>();
    let steps = logs.lines().filter(|line| line.contains("membership changes") && line.contains("database=_system"));
    steps.filter_map(|line| line.split("epoch=").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// A newcomer's question may be answered before the list of nodes has followed its own entry; once, such an answer
/// left it without anybody to talk to for good.
#[test]
fn clusters_begin_however_their_nodes_come() {
    let begin = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        drop(runtime.block_on(Cluster::start(3, &[])));
    };
    for _ in 0..3 {
        let beginning: Vec<_> = (0..4).map(|_| std::thread::spawn(begin)).collect();
        for cluster in beginning {
            cluster.join().expect("a cluster of three");
        }
    }
}

/// Two instances on one machine can come upon each other's ports; a node that was told its cluster joins no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_told_its_cluster_is_taken_in_by_no_other() {
    let mut cluster = Cluster::start(1, &[]).await;
    let stranger = cluster.add(&["--cluster", "0b0b0b0b-0000-4000-8000-000000000001"]);
    until("the refusal in the log of the first node", async || {
        cluster.nodes[0].log().contains("refused a connection").then_some(())
    })
    .await;
    let members = cluster.nodes[0].client().get("/v1/cluster").await.json();
    assert_eq!(members["nodes"].as_array().map(Vec::len), Some(1), "{members}");
    let own = members["id"].as_str().expect("id").to_owned();
    cluster.nodes[stranger].kill();
    cluster.nodes[stranger].extra = vec!["--cluster".to_owned(), own];
    cluster.nodes[stranger].start();
    cluster.until_members(2).await;
    // From now on its directory says where it belongs.
    cluster.nodes[stranger].kill();
    cluster.nodes[stranger].extra[1] = "0b0b0b0b-0000-4000-8000-000000000001".to_owned();
    cluster.nodes[stranger].start();
    until("the end of the process, with the reason", async || {
        let node = &mut cluster.nodes[stranger];
        (!node.is_running() && node.log().contains("--cluster says 0b0b0b0b")).then_some(())
    })
    .await;
}

/// Killed in each epoch of its join, a third node holds nobody up: the two others go on, and it joins when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_any_epoch_of_its_join_holds_nobody_up() {
    for step in 1..=4 {
        let mut cluster = Cluster::start(2, &[]).await;
        let before = epochs(&cluster).into_iter().max().unwrap_or(1);
        let third = cluster.add(&[]);
        // Learner, joint epoch, voter; with the first step it is killed as soon as it was taken in.
        until("the step of the join", async || {
            let newest = epochs(&cluster).into_iter().max().unwrap_or(1);
            let taken_in = cluster.nodes[..2]
                .iter()
                .any(|node| node.log().contains("node taken in") && node.log().contains("name=n2"));
            (taken_in && newest >= before + step - 1).then_some(())
        })
        .await;
        cluster.nodes[third].kill();
        let answer = cluster.nodes[0].client().put("/v1/databases/orders", "{}").await;
        let created = if answer.status.is_success() {
            true
        } else {
            // Its place may be lost to the moment in which the death is noticed; a second try must not fail.
            cluster.nodes[1].client().put("/v1/databases/orders", "{}").await.status.is_success()
        };
        assert!(created, "step {step}: {answer:?}");
        cluster.nodes[third].start();
        cluster.until_members(3).await;
        cluster.until_online("orders").await;
    }
}
