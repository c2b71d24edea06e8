//! The very beginning of a cluster, interrupted: whoever asked for it goes away, or the process ends in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use coequal_types::NodeStatus;
use common::{TestNode, soon, start, until};
use std::future::{Future, poll_fn};
use std::path::Path;
use std::task::Poll;

/// A node that waits to be told.
async fn waiting(path: &Path) -> TestNode {
    start(path, "n0", "127.0.0.1:0", vec!["127.0.0.1:1".to_owned()]).await
}

/// Polls `asking` so often and lets it go, as a server does with the request of a client that closed its connection.
async fn interrupted_after(polls: usize, asking: impl Future) {
    let mut asking = Box::pin(asking);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 || asking.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_for_a_cluster_may_go_away_at_any_moment() {
    for polls in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let node = waiting(directory.path()).await;
        let service = &node.running.service;
        interrupted_after(polls, service.initialize_cluster(soon())).await;
        // Nobody asks again where the node says already that it has a cluster.
        if polls > 0 {
            until("the node has a cluster", || service.describe_node().cluster_id.is_some()).await;
            until("the node is ONLINE", || service.describe_node().status == NodeStatus::Online).await;
        }
        let (cluster, made) = service.initialize_cluster(soon()).await.unwrap();
        assert_eq!(made, polls == 0, "after {polls} polls");
        assert_eq!(cluster.nodes.len(), 1);
        node.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_many_times_at_once_a_node_makes_one_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let node = waiting(directory.path()).await;
    let answers = futures::future::join_all((0..20).map(|_| node.running.service.initialize_cluster(soon()))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    assert_eq!(answers.iter().filter(|(_, made)| *made).count(), 1);
    assert!(answers.iter().all(|(cluster, _)| cluster.id == answers[0].0.id));
    node.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ended_before_its_identity_named_the_cluster_finishes_it() {
    let directory = tempfile::tempdir().unwrap();
    let identity = directory.path().join("identity.json");
    let node = waiting(directory.path()).await;
    let before = std::fs::read(&identity).unwrap();
    let (made, _) = node.running.service.initialize_cluster(soon()).await.unwrap();
    node.running.stop().await;
    std::fs::write(&identity, before).unwrap();

    let node = waiting(directory.path()).await;
    assert_eq!(node.running.service.describe_node().cluster_id, None);
    let (finished, _) = node.running.service.initialize_cluster(soon()).await.unwrap();
    assert_eq!(finished.id, made.id, "the cluster whose system database is here already");
    assert_eq!(node.running.service.describe_node().status, NodeStatus::Online);
    node.running.stop().await;
}
