//! What is sent arrives, in order, in few frames.

use super::samples::{accept, one_of_each};
use super::*;
use std::collections::HashSet;
use std::time::Instant;

#[tokio::test]
async fn every_kind_of_message_arrives_in_both_directions() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    b.dials(&[&a]);
    assert_eq!(a.connected().await, (b.id, 1));
    assert_eq!(b.connected().await, (a.id, 1));
    a.bulk_connected().await;
    b.bulk_connected().await;
    for (from, to) in [(&mut a, &mut b)] {
        exchange(from, to).await;
        exchange(to, from).await;
    }
}

async fn exchange(from: &mut Node, to: &mut Node) {
    let messages = one_of_each();
    for message in &messages {
        assert!(from.network.send(to.id, database(9), message.clone()));
    }
    let (mut bulk, mut protocol) = (Vec::new(), Vec::new());
    while bulk.len() + protocol.len() < messages.len() {
        let (sender, incarnation, envelope) = to.received().await;
        assert_eq!((sender, incarnation, envelope.database), (from.id, 1, database(9)));
        for message in envelope.messages {
            if message.is_bulk() { &mut bulk } else { &mut protocol }.push(message);
        }
    }
    let (expected_bulk, expected): (Vec<_>, Vec<_>) = messages.into_iter().partition(Message::is_bulk);
    assert_eq!(bulk, expected_bulk);
    assert_eq!(protocol, expected);
}

#[tokio::test]
async fn three_nodes_reach_each_other_and_a_node_never_dials_itself() {
    let mut nodes = [node(1, 1).await, node(2, 1).await, node(3, 1).await];
    let all: Vec<_> = nodes.iter().map(|node| (node.id, node.address())).collect();
    for node in &mut nodes {
        node.network.set_peers(all.clone());
        let reached: HashSet<_> = [node.connected().await.0, node.connected().await.0].into();
        assert_eq!(reached.len(), 2);
        assert!(!reached.contains(&node.id));
    }
    for from in 0..3 {
        for to in 0..3 {
            let (sender, receiver) = (nodes[from].id, nodes[to].id);
            let sent = nodes[from].network.send(receiver, database(1), ping(from as u64));
            assert_eq!(sent, from != to);
            if sent {
                let (source, _, envelope) = nodes[to].received().await;
                assert_eq!((source, envelope.messages), (sender, vec![ping(from as u64)]));
            }
        }
    }
}

#[tokio::test]
async fn messages_that_wait_together_travel_together() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    // This test's runtime has one thread: the sender sees nothing before all are queued.
    for number in 0..1000 {
        assert!(a.network.send(b.id, database(u128::from(number % 2)), ping(number)));
    }
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    while even.len() + odd.len() < 1000 {
        let (_, _, envelope) = b.received().await;
        let list = if envelope.database == database(0) { &mut even } else { &mut odd };
        list.extend(envelope.messages);
    }
    assert_eq!(even, (0..1000).step_by(2).map(ping).collect::<Vec<_>>());
    assert_eq!(odd, (1..1000).step_by(2).map(ping).collect::<Vec<_>>());
    assert!(a.stats().sent_frames <= 3, "{:?}", a.stats());
}

#[tokio::test]
async fn a_document_of_16_mib_gets_through() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    let message = accept(1, 16 << 20);
    assert!(a.network.send(b.id, database(1), message.clone()));
    assert!(b.received().await.2.messages == [message]);
}

#[tokio::test]
async fn a_message_beyond_any_frame_is_dropped_and_the_next_one_arrives() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    a.network.send(b.id, database(1), accept(1, 33 << 20));
    a.network.send(b.id, database(1), ping(2));
    assert_eq!(b.received().await.2.messages, [ping(2)]);
    assert_eq!(a.stats().dropped_messages, 1);
}

#[tokio::test]
async fn nothing_is_sent_to_who_is_no_peer_or_not_connected() {
    let (mut a, b) = (node(1, 1).await, node(2, 1).await);
    assert!(!a.network.send(b.id, database(1), ping(1)));
    a.dials(&[&b]);
    assert_eq!(a.connected().await.0, b.id);
    assert!(a.network.send(b.id, database(1), ping(1)));
    a.dials(&[]);
    assert!(a.disconnected().await.contains("not at all"));
    assert!(!a.network.send(b.id, database(1), ping(1)));
    assert!(a.network.stats().is_empty());
    a.dials(&[&b]);
    assert_eq!(a.connected().await.0, b.id);
}

#[tokio::test]
async fn a_shut_down_network_gives_its_port_back() {
    let (mut a, b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    b.network.shutdown().await;
    a.disconnected().await;
    let mut again = settings(2, 2);
    again.listen = b.network.local_address();
    let again = start(again).await;
    assert_eq!(a.connected().await, (again.id, 2));
}

/// Figures: `cargo test --release -p coequal-node --lib -- --ignored --nocapture accepts_per_second`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn accepts_per_second() {
    const COUNT: u64 = 500_000;
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    let (network, to) = (a.network.clone(), b.id);
    let begin = Instant::now();
    let sender = tokio::spawn(async move {
        let samples: Vec<_> = (0..1000).map(|number| accept(number, 300)).collect();
        for message in samples.iter().cycle().take(COUNT as usize) {
            while !network.send(to, database(1), message.clone()) {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut received = 0;
    while received < COUNT {
        received += b.received().await.2.messages.len() as u64;
    }
    sender.await.unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let stats = a.stats();
    println!("{:.0} accepts/s, {:.0} MB/s, {stats:?}", COUNT as f64 / seconds, stats.sent_bytes as f64 / 1e6 / seconds);
}
