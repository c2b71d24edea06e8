//! Who may talk to whom.

use super::super::codec::append_frame;
use super::super::connection::Connection;
use super::super::hello::Greeting;
use super::super::wire::append_parcel;
use super::samples::{accept, range_answer};
use super::*;
use bytes::{Bytes, BytesMut};
use tokio::net::TcpListener;

/// A hello as some node would say it.
fn hello(id: u64, incarnation: Incarnation, process: u64) -> Hello {
    Hello {
        versions: PROTOCOL_VERSIONS,
        node: NodeId(id),
        incarnation,
        process,
        name: "stranger".parse().unwrap(),
        cluster: None,
        channel: ChannelKind::Protocol,
        wanted: None,
    }
}

/// Dials by hand and says `hello`.
async fn dial(to: &Node, hello: &Hello) -> Result<Connection, Refusal> {
    let (stream, remote) = transport::connect(&to.address(), DEADLINE, None).await.unwrap();
    let mut connection = Connection::new(stream, remote, DEADLINE);
    match timeout(DEADLINE, connection.introduce(hello)).await.unwrap() {
        Ok(_) => Ok(connection),
        Err(ConnectionError::Refused(refusal) | ConnectionError::TurnedAway(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// The same where nobody answers at all.
async fn is_closed(to: &Node, hello: &Hello) -> bool {
    let (stream, remote) = transport::connect(&to.address(), DEADLINE, None).await.unwrap();
    timeout(DEADLINE, Connection::new(stream, remote, DEADLINE).introduce(hello)).await.unwrap().is_err()
}

async fn send_ping(connection: &mut Connection, time: u64) -> Result<(), ConnectionError> {
    let mut out = BytesMut::new();
    append_frame(&mut out, |out| append_parcel(database(1), &ping(time), *PROTOCOL_VERSIONS.end(), out));
    connection.writer.write(&out).await
}

async fn closed(connection: &mut Connection) {
    assert!(timeout(DEADLINE, connection.reader.read()).await.unwrap().is_err());
}

#[tokio::test]
async fn another_cluster_is_refused_on_both_sides_in_clear_words() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.network.set_cluster(Uuid::from_u128(1));
    b.network.set_cluster(Uuid::from_u128(2));
    a.dials(&[&b]);
    for reason in [a.refused().await, b.refused().await] {
        assert!(reason.starts_with("other cluster: node-1 belongs to cluster 00000000"), "{reason}");
    }
}

#[tokio::test]
async fn connections_of_nodes_that_join_different_clusters_end() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    a.dials(&[&b]);
    a.connected().await;
    a.network.set_cluster(Uuid::from_u128(1));
    assert!(a.disconnected().await.contains("joined a cluster"));
    a.connected().await;
    b.network.set_cluster(Uuid::from_u128(2));
    a.disconnected().await;
    assert!(a.refused().await.starts_with("other cluster"));
    assert!(b.refused().await.starts_with("other cluster"));
}

#[tokio::test]
async fn nodes_that_join_the_same_cluster_stay_together() {
    let (mut a, mut b) = (node(1, 1).await, node(2, 1).await);
    b.network.set_cluster(Uuid::from_u128(1));
    a.dials(&[&b]);
    a.connected().await;
    a.network.set_cluster(Uuid::from_u128(1));
    assert!(a.network.send(b.id, database(1), ping(1)));
    assert_eq!(b.received().await.2.messages, [ping(1)]);
    assert_eq!(a.stats().reconnects, 0);
}

#[tokio::test]
async fn a_version_that_is_not_understood_is_refused() {
    let mut a = node(1, 1).await;
    let future = Hello { versions: 7..=9, ..hello(2, 1, 1) };
    let refusal = dial(&a, &future).await.map(|_| ()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Version);
    assert!(refusal.detail.contains("versions 7 to 9"), "{refusal}");
    assert!(a.refused().await.starts_with("version:"));
    assert!(dial(&a, &Hello { versions: 1..=9, ..hello(2, 1, 1) }).await.is_ok());
}

#[tokio::test]
async fn another_node_at_the_address_is_not_the_node_wanted() {
    let (mut a, b) = (node(1, 1).await, node(2, 1).await);
    a.network.set_peers(vec![(NodeId(3), b.address())]);
    let reason = a.refused().await;
    assert!(reason.starts_with("not the node you wanted: wanted node 0000000000000003"), "{reason}");
}

#[tokio::test]
async fn an_address_change_is_followed() {
    let (mut a, b) = (node(1, 1).await, node(2, 1).await);
    a.network.set_peers(vec![(NodeId(3), b.address())]);
    a.refused().await;
    let c = node(3, 1).await;
    a.dials(&[&c]);
    assert_eq!(a.connected().await.0, c.id);
}

#[tokio::test]
async fn a_newer_start_replaces_the_older_which_is_not_heard_any_more() {
    let mut a = node(1, 1).await;
    let mut old = dial(&a, &hello(2, 4, 40)).await.ok().unwrap();
    send_ping(&mut old, 4).await.unwrap();
    assert_eq!(a.received().await.1, 4);
    let mut new = dial(&a, &hello(2, 5, 50)).await.ok().unwrap();
    closed(&mut old).await;
    let _broken = send_ping(&mut old, 44).await;
    send_ping(&mut new, 5).await.unwrap();
    let (_, incarnation, envelope) = a.received().await;
    assert_eq!((incarnation, envelope.messages), (5, vec![ping(5)]));
    let refusal = dial(&a, &hello(2, 4, 40)).await.map(|_| ()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::OldIncarnation);
    assert!(a.refused().await.contains("two live processes"));
}

#[tokio::test]
async fn two_processes_with_one_identity_and_incarnation_are_told_apart() {
    let mut a = node(1, 1).await;
    let _first = dial(&a, &hello(2, 4, 40)).await.ok().unwrap();
    let refusal = dial(&a, &hello(2, 4, 41)).await.map(|_| ()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::DuplicateIdentity);
    assert!(a.refused().await.contains("two live processes"));
    let refusal = dial(&a, &hello(1, 9, 41)).await.map(|_| ()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::SameNode);
    assert!(refusal.detail.contains("two processes are node 0000000000000001"), "{refusal}");
}

/// Whoever is started later knows of neither, and would let in the one that the others turned away.
#[tokio::test]
async fn a_process_that_was_turned_away_as_the_second_of_its_identity_is_silent_from_then_on() {
    for (first, second) in [((5, 50), (4, 40)), ((5, 50), (5, 51))] {
        let (older, mut newer, mut copy) = (node(1, 1).await, node(2, 1).await, node(3, second.0).await);
        let _original = dial(&older, &hello(3, first.0, first.1)).await.ok().unwrap();
        copy.dials(&[&newer]);
        copy.connected().await;
        newer.dials(&[&copy]);
        newer.connected().await;
        assert!(copy.network.send(newer.id, database(1), ping(1)));
        newer.received().await;

        copy.dials(&[&newer, &older]);
        let reason = copy
            .until("silence", |event| match event {
                NetworkEvent::Silenced { reason } => Some(reason),
                _ => None,
            })
            .await;
        assert!(reason.contains("two live processes"), "{reason}");
        // Both ways, and for good.
        newer.disconnected().await;
        assert!(!copy.network.send(newer.id, database(1), ping(2)));
        assert!(is_closed(&copy, &hello(4, 1, 1)).await);
    }
}

#[tokio::test]
async fn a_second_connection_of_a_kind_replaces_the_first() {
    let a = node(1, 1).await;
    let mut first = dial(&a, &hello(2, 4, 40)).await.ok().unwrap();
    let bulk = Hello { channel: ChannelKind::Bulk, ..hello(2, 4, 40) };
    let mut beside = dial(&a, &bulk).await.ok().unwrap();
    let _second = dial(&a, &hello(2, 4, 40)).await.ok().unwrap();
    closed(&mut first).await;
    assert!(send_ping(&mut beside, 1).await.is_ok());
}

#[test]
fn greetings_are_read_back_as_they_were() {
    let full = Hello { cluster: Some(Uuid::from_u128(5)), wanted: Some(NodeId(7)), ..hello(2, 3, 4) };
    let refusal = Refusal { kind: RefusalKind::Busy, detail: "too many".to_owned() };
    for greeting in [Greeting::Hello(full), Greeting::Hello(hello(1, 2, 3)), Greeting::Refusal(refusal)] {
        let payload = greeting.frame().split_off(8).freeze();
        assert_eq!(Greeting::decode(payload.clone()).unwrap(), greeting);
        for cut in 1..payload.len() {
            let _either = Greeting::decode(payload.slice(..cut));
        }
    }
}

/// The payload that reaches a node which understands these versions, of a message that it is sent.
async fn payload_for(versions: std::ops::RangeInclusive<u32>, message: &Message) -> Bytes {
    let channel = if message.is_bulk() { ChannelKind::Bulk } else { ChannelKind::Protocol };
    let a = node(1, 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.network.set_peers([(NodeId(2), listener.local_addr().unwrap().to_string())].into());
    loop {
        let (stream, remote) = transport::accept(&listener, DEADLINE).await.unwrap();
        let stream = transport::receive(stream, None).await.unwrap();
        let mut connection = Connection::new(stream, remote, DEADLINE);
        let theirs = timeout(DEADLINE, connection.hear()).await.unwrap().unwrap();
        let own = Hello { versions: versions.clone(), channel: theirs.channel, ..hello(2, 1, 9) };
        connection.writer.write(&Greeting::Hello(own).frame()).await.unwrap();
        if theirs.channel != channel {
            continue;
        }
        let sending = async {
            while !a.network.send(NodeId(2), database(1), message.clone()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, sending).await.expect("the other side hears the hello");
        return timeout(DEADLINE, connection.reader.read()).await.unwrap().unwrap();
    }
}

/// Nodes are upgraded one at a time: one that only knows the first version understands every byte that it is sent.
#[tokio::test]
async fn each_node_is_sent_what_the_newest_version_says_that_both_understand() {
    for (theirs, common) in [(1..=1, 1), (1..=2, 2), (2..=9, 2)] {
        for message in [accept(1, 10), range_answer(1, 10)] {
            let mut expected = BytesMut::new();
            append_parcel(database(1), &message, common, &mut expected);
            assert_eq!(payload_for(theirs.clone(), &message).await, expected, "{theirs:?} {message:?}");
        }
    }
}
