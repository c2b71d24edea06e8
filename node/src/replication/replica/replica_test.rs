//! What a replica does by its clock, without peers that answer.

use super::{ClientWrite, Event, Now, Replica, ReplicaStart, driven_test};
use crate::storage::{MemoryDisk, Store, StoreIdentity, StoreSettings};
use coequal_protocol::Key;
use coequal_protocol::message::{Condition, Message, Operation, OperationKind};
use coequal_types::{Configuration, DatabaseStatus, NodeId};
use std::sync::Arc;

/// Two voters that were taken in with `epoch`.
fn configuration(epoch: u64) -> Configuration {
    let joined = [NodeId(1), NodeId(2)].map(|voter| (voter, epoch)).into();
    Configuration { joined, ..driven_test::configuration(epoch, 2) }
}

fn now(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, unix_ms: 1_750_000_000_000 + monotonic_ms }
}

fn replica() -> Replica {
    replica_of(configuration(1), false)
}

fn replica_of(configuration: Configuration, new_disk: bool) -> Replica {
    let identity = StoreIdentity { database: configuration.uuid, name: configuration.name.clone() };
    let settings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 };
    let store = Store::create_with(Arc::new(MemoryDisk::default()), &identity, &settings).unwrap();
    let (me, store) = (NodeId(1), Arc::new(store));
    Replica::new(ReplicaStart { me, incarnation: 1, store, configuration, new_disk, seed: 1 }, now(1_000))
}

fn ends_with(event: Event, status: DatabaseStatus) {
    let mut replica = replica();
    replica.advance(now(1_000));
    replica.handle(now(1_500), event);
    assert_eq!(replica.view_status(), status);
    for at_ms in [1_500, 2_000, 60_000] {
        replica.advance(now(at_ms));
        assert!(replica.next_due_ms() > at_ms, "{} at {at_ms}", replica.next_due_ms());
    }
}

#[test]
fn a_copy_whose_store_failed_does_not_keep_its_loop_awake() {
    ends_with(Event::StorageFailed("the sync failed".to_owned()), DatabaseStatus::Faulty);
}

/// It does not try its disk again, so nobody would ever hear that there is space.
#[test]
fn a_copy_whose_store_failed_says_that_and_not_that_its_disk_is_full() {
    let mut replica = replica();
    replica.handle(now(1_500), Event::DiskFull(true));
    assert!(replica.view().disk_full);
    replica.handle(now(1_600), Event::StorageFailed("the sync failed".to_owned()));
    let view = replica.view();
    assert!(!view.disk_full && view.message.as_deref() == Some("the sync failed"), "{:?}", view.message);
}

#[test]
fn a_copy_that_a_configuration_made_void_does_not_keep_its_loop_awake() {
    ends_with(Event::Configuration(Box::new(configuration(5))), DatabaseStatus::NotAvailable);
}

/// A learner that was copied and has never aligned cannot be the one that became a voter (I7).
#[test]
fn a_copy_that_never_aligned_does_not_vote() {
    let learns = Configuration { voters: vec![NodeId(2)], learners: vec![NodeId(1)], ..configuration(1) };
    let promoted = Configuration { epoch: 2, joint_with: Some(learns.voters.clone()), ..configuration(1) };
    for (new_disk, status) in [(true, DatabaseStatus::Faulty), (false, DatabaseStatus::Synchronizing)] {
        let mut replica = replica_of(learns.clone(), new_disk);
        replica.handle(now(1_500), Event::Configuration(Box::new(promoted.clone())));
        assert_eq!(replica.view_status(), status);
    }
}

fn write(deadline_ms: u64) -> Event {
    let kind = OperationKind::Put(bytes::Bytes::from_static(b"{}"));
    let operation = Operation { kind, condition: Condition::Any, request: None };
    let key = Key::of("things", "a");
    Event::Write(ClientWrite { key, operation, generated: false, deadline_ms, reply: Box::new(|_| {}) })
}

fn prepares(replica: &mut Replica) -> usize {
    let sent = replica.take_effects().sends;
    sent.iter().filter(|(to, message)| *to == NodeId(2) && matches!(message, Message::Prepare { .. })).count()
}

/// What a client waits for must not stand behind a proposal that has met silence for long and asks seldom.
#[test]
fn a_voter_that_was_silent_is_asked_at_once_when_somebody_new_waits() {
    let mut replica = replica();
    replica.handle(now(1_000), write(60_000));
    assert_eq!(prepares(&mut replica), 1);
    (1_000..5_000).step_by(10).for_each(|at_ms| replica.advance(now(at_ms)));
    let seldom = prepares(&mut replica);
    assert!((3..9).contains(&seldom), "{seldom}");
    replica.handle(now(5_000), write(60_000));
    assert_eq!(prepares(&mut replica), 1, "at once");
    (0..20).for_each(|_| replica.handle(now(5_010), write(60_000)));
    assert_eq!(prepares(&mut replica), 0, "and not with every write");
    replica.advance(now(5_110));
    assert_eq!(prepares(&mut replica), 1, "soon again");
}
