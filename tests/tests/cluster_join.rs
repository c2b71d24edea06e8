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
