//! Peers that are dead, frozen or no nodes at all.

use super::samples::accept;
use super::*;
use coequal_protocol::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Sends bytes to the node's port and returns when the node has closed the connection.
async fn pester(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _broken = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    let _reset = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the node closes");
}

#[tokio::test]
async fn garbage_on_the_port_closes_only_that_connection() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    let address = b.address();
    let noise: Vec<u8> = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    pester(&address, &noise).await;
    pester(&address, b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await;
    pester(&address, &[0xff; 8]).await;
    pester(&address, &[0, 0, 0, 4, 1, 2, 3, 4, 9, 9, 9, 9]).await;
    pester(&address, &[]).await;
    assert!(a.network.send(b.id, database(1), ping(1)));
    assert_eq!(b.received().await.2.messages, [ping(1)]);
    assert_eq!(a.stats().reconnects, 0);
}

#[tokio::test]
async fn a_node_that_is_full_takes_no_more_connections_and_then_some_again() {
    let mut settings = settings(1, 1);
    settings.limits.inbound_connections_max = 1;
    settings.limits.hello_timeout = DEADLINE;
    let a = start(settings).await;
    let first = TcpStream::connect(a.address()).await.unwrap();
    let mut second = TcpStream::connect(a.address()).await.unwrap();
    assert_eq!(timeout(DEADLINE, second.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    drop(first);
    let mut b = node(2, 1).await;
    b.dials(&[&a]);
    b.connected().await;
}

#[tokio::test]
async fn a_peer_whose_application_takes_nothing_never_blocks_send_nor_grows_memory() {
    let mut settings = settings(1, 1);
    settings.limits.protocol_queue =
        QueueLimits { bytes_max: 1 << 20, messages_max: 1000, ..settings.limits.protocol_queue };
    settings.limits.stall_timeout = Duration::from_millis(500);
    let mut a = start(settings).await;
    let frozen = node(2, 1).await;
    a.dials(&[&frozen]);
    a.connected().await;
    // Far more than the buffers of both systems hold. A first drop is not the end: these buffers may grow once more and
    // take all that waits, so sending goes on until the connection is given up.
    let message = accept(1, 100_000);
    let begin = std::time::Instant::now();
    let mut taken = 0_usize;
    let given_up = loop {
        let stats = a.stats();
        if !stats.connected {
            break stats;
        }
        assert!(stats.queued_bytes <= 1 << 20, "{stats:?}");
        assert!(begin.elapsed() < DEADLINE, "{taken} messages were taken, {stats:?}");
        taken += usize::from(a.network.send(frozen.id, database(1), message.clone()));
        tokio::task::yield_now().await;
    };
    // The stalled connection is given up, and what waited with it.
    assert!(given_up.dropped_messages > 0 && given_up.queued_bytes == 0, "{given_up:?}");
    assert!(!a.disconnected().await.is_empty());
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_says_hello_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(1, 1);
    settings.limits.hello_timeout = Duration::from_millis(50);
    let a = start(settings).await;
    a.network.set_peers(vec![(NodeId(2), silent.local_addr().unwrap().to_string())]);
    // Both connections are dialed, given up, and dialed again.
    for _ in 0..5 {
        let (mut stream, _) = timeout(DEADLINE, silent.accept()).await.unwrap().unwrap();
        let mut hello = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut hello)).await.expect("the dialer gives up").unwrap();
        assert!(!hello.is_empty());
    }
    assert!(!a.network.send(NodeId(2), database(1), ping(1)));
    let begin = std::time::Instant::now();
    a.network.shutdown().await;
    assert!(begin.elapsed() < SHUTDOWN_TIMEOUT);
}

#[tokio::test]
async fn a_full_inbox_holds_up_only_who_fills_it() {
    let (mut a, mut b, mut c) = (node(1, 1).await, node(2, 1).await, node(3, 1).await);
    a.dials(&[&b, &c]);
    assert_eq!(a.connected().await.1, 1);
    assert_eq!(a.connected().await.1, 1);
    // Each message has a database of its own, so more envelopes come than the inbox of b has places.
    for number in 0..100 {
        assert!(a.network.send(b.id, database(u128::from(number)), ping(number)));
    }
    a.network.send(c.id, database(1), ping(1));
    assert_eq!(c.received().await.2.messages, [ping(1)]);
    for _ in 0..100 {
        b.received().await;
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let a = node(1, 1).await;
    let mut taken = settings(2, 1);
    taken.listen = a.network.local_address();
    let (sender, _inbox) = mpsc::channel(1);
    let error = Network::start(taken, sender).await.unwrap_err().to_string();
    assert!(error.contains(&a.address()) && error.contains("taken") && error.contains("--listen-peers"), "{error}");
}

#[tokio::test]
async fn bulk_is_throttled_and_the_protocol_is_not() {
    let mut settings = settings(1, 1);
    settings.limits.bulk_bytes_per_second = 1000;
    let mut a = start(settings).await;
    let mut b = node(2, 1).await;
    a.dials(&[&b]);
    a.connected().await;
    a.bulk_connected().await;
    let kilobyte = Key::of("c", &"k".repeat(1000));
    let range = |request| Message::RangeRequest { request, after: Some(kilobyte.clone()), bytes_max: 1 };
    let begin = std::time::Instant::now();
    assert!(a.network.send(b.id, database(1), range(1)));
    assert_eq!(b.received().await.2.messages, [range(1)]);
    // The second one waits until the first is paid for, about a second; a message to the protocol does not.
    assert!(a.network.send(b.id, database(1), range(2)));
    assert!(a.network.send(b.id, database(1), ping(1)));
    assert_eq!(b.received().await.2.messages, [ping(1)]);
    assert_eq!(b.received().await.2.messages, [range(2)]);
    assert!(begin.elapsed() >= Duration::from_millis(800), "{:?}", begin.elapsed());
}
