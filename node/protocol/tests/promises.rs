//! Where promises are kept, and what a restarted acceptor still refuses.

use bytes::Bytes;
use coequal_protocol::promises::{HELD_MAX, Keep, Promises, invariant_held_promises_are_bounded};
use coequal_protocol::record::Change;
use coequal_protocol::register::Answer;
use coequal_protocol::tombstone_collection::Guard;
use coequal_protocol::{Ballot, Effect, HistoryEntry, Key, Register, Revision};
use coequal_types::{LowBound, NodeId};
use std::sync::Arc;

fn ballot(time: u64, node: u64) -> Ballot {
    Ballot::ordinary(time, NodeId(node), 1)
}

fn revision(stamp: Ballot) -> Arc<Revision> {
    let entry = HistoryEntry { stamp, version: 1, effect: Effect::Created, request: None };
    Arc::new(Revision { version: 1, stamp, body: Some(Bytes::from_static(b"{}")), history: vec![entry] })
}

fn of_a_client() -> Key {
    Key::of("things", "k")
}

fn made_up() -> Key {
    Key::of("things", "01890a5d-ac96-774b-bcce-b302099a8057")
}

fn taken(register: &mut Register, promises: &Promises, key: &Key, at: Ballot) -> bool {
    let (answer, change) = promises.accept(&Guard::default(), key, register, at, &revision(at));
    change.iter().for_each(|change| register.apply(change));
    answer == Answer::Accepted
}

fn promised(answer: &Answer) -> bool {
    matches!(answer, Answer::Promised { .. })
}

#[test]
fn a_promise_below_the_bound_on_disk_stays_in_memory_and_one_above_is_written_down() {
    let (mut promises, register, guard) = (Promises::default(), Register::default(), Guard::default());
    let prepare = |promises: &Promises, at| promises.prepare(&guard, &of_a_client(), &register, at);
    let on_disk = |at| Keep::OnDisk(Change::Promise { ballot: at });
    assert_eq!(prepare(&promises, ballot(5, 1)).1, on_disk(ballot(5, 1)), "nothing is noted yet");
    promises.raise_bound(10);
    assert_eq!(prepare(&promises, ballot(10, 9)).1, Keep::InMemory);
    assert_eq!(prepare(&promises, ballot(11, 1)).1, on_disk(ballot(11, 1)));
    promises.hold(&of_a_client(), ballot(10, 2));
    assert!(invariant_held_promises_are_bounded(&promises));
    assert_eq!(prepare(&promises, ballot(10, 1)), (Answer::Refused { promised: ballot(10, 2) }, Keep::Nothing));
    assert!(promised(&prepare(&promises, ballot(10, 2)).0), "the same once more");
    assert_eq!(prepare(&promises, ballot(10, 2)).1, Keep::Nothing);
}

#[test]
fn a_promise_in_memory_refuses_an_accept_and_goes_when_its_own_arrives() {
    let (mut promises, mut register) = (Promises::default(), Register::default());
    promises.raise_bound(10);
    promises.hold(&of_a_client(), ballot(7, 2));
    assert!(!taken(&mut register, &promises, &of_a_client(), ballot(7, 1)));
    assert!(taken(&mut register, &promises, &of_a_client(), ballot(7, 2)));
    promises.release(&of_a_client(), ballot(7, 1));
    assert_eq!(promises.held(), 1, "something older says less than the promise");
    promises.release(&of_a_client(), ballot(7, 2));
    assert_eq!(promises.held(), 0);
    assert!(!taken(&mut register, &promises, &of_a_client(), ballot(7, 3)), "accepting promises the next ballot");
}

#[test]
fn after_a_restart_whatever_may_have_been_promised_is_refused_and_the_refusal_says_how_to_go_on() {
    let (promises, mut register, guard) = (Promises::after_start(10), Register::default(), Guard::default());
    let (answer, keep) = promises.prepare(&guard, &of_a_client(), &register, ballot(10, 1));
    let Answer::Refused { promised: beyond } = answer else { panic!("{answer:?}") };
    assert_eq!((keep, beyond.time), (Keep::Nothing, 10));
    assert!(beyond > ballot(10, u64::MAX - 1));
    assert!(!taken(&mut register, &promises, &of_a_client(), ballot(10, 1)));
    assert!(promised(&promises.prepare(&guard, &of_a_client(), &register, ballot(11, 1)).0));
    assert!(taken(&mut register, &promises, &of_a_client(), ballot(11, 1)));
}

#[test]
fn a_promise_for_a_key_that_a_node_may_make_up_is_written_down_until_something_is_accepted() {
    let (mut promises, mut register, guard) = (Promises::default(), Register::default(), Guard::default());
    promises.raise_bound(100);
    let kept = |promises: &Promises, register: &Register, at| promises.prepare(&guard, &made_up(), register, at).1;
    let Keep::OnDisk(promise) = kept(&promises, &register, ballot(50, 1)) else { panic!("kept in memory") };
    register.apply(&promise);
    let creation = Ballot::creation(60, NodeId(3), 1);
    assert!(!taken(&mut register.clone(), &promises, &made_up(), creation), "somebody guessed the key first");
    assert!(taken(&mut Register::default(), &Promises::after_start(100), &made_up(), creation));
    assert!(taken(&mut register, &promises, &made_up(), ballot(50, 1)));
    assert_eq!(kept(&promises, &register, ballot(70, 1)), Keep::InMemory);
}

#[test]
fn no_other_key_is_created_without_a_prepare() {
    let creation = Ballot::creation(60, NodeId(3), 1);
    assert!(!taken(&mut Register::default(), &Promises::default(), &of_a_client(), creation));
    for key in ["01890a5d-ac96-474b-bcce-b302099a8057", "01890a5d_ac96-774b-bcce-b302099a8057", "7", "é7"] {
        assert!(!Key::of("things", key).may_be_made_up(), "{key}");
    }
    assert!(made_up().may_be_made_up());
}

#[test]
fn before_one_promise_more_than_fit_another_one_is_to_be_written_down() {
    let mut promises = Promises::default();
    promises.raise_bound(10);
    let key = |number: usize| Key::of("things", &format!("{number:06}"));
    for number in 0..HELD_MAX {
        assert_eq!(promises.to_write_down(&key(number)), None);
        promises.hold(&key(number), ballot(5, 1));
    }
    assert_eq!(promises.to_write_down(&key(0)), None, "a newer one takes the place of the older");
    promises.hold(&key(0), ballot(6, 1));
    assert_eq!(promises.to_write_down(&key(HELD_MAX)), Some((key(0), ballot(6, 1))));
    assert_eq!(promises.held(), HELD_MAX, "until it is written down it stays");
    promises.release(&key(0), ballot(6, 1));
    promises.hold(&key(HELD_MAX), ballot(5, 1));
    assert!(invariant_held_promises_are_bounded(&promises));
}

#[test]
fn what_the_low_bound_refuses_for_all_needs_no_promise() {
    let mut promises = Promises::after_start(10);
    promises.raise_bound(30);
    promises.hold(&of_a_client(), ballot(20, 1));
    let register = Register::default();
    let agreed = |agreed| Guard { bound: LowBound { agreed, collected: 0 }, complete: 0 };
    assert_eq!(promises.promised(&agreed(19), &of_a_client(), &register), ballot(20, 1));
    assert!(promises.promised(&agreed(20), &of_a_client(), &register).is_none());
}
