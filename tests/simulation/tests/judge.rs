//! The judge bites: histories made by hand, each wrong in one way, are refused; right ones are not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use coequal_protocol::message::{Condition, Operation, OperationKind, Rejection};
use coequal_protocol::{Ballot, Effect, Held, HistoryEntry, Key, Register, RequestId, Revision};
use coequal_simulation::check::judge;
use coequal_simulation::history::{Answer, Call, Record};
use coequal_simulation::recovery::as_known_afterwards;
use coequal_simulation::watch::Watch;
use coequal_types::NodeId;
use std::sync::Arc;

fn key() -> Key {
    Key::of("things", "a")
}

fn stamp(version: u64) -> Ballot {
    Ballot::ordinary(version * 10, NodeId(1), 1)
}

/// A revision whose versions were made by these requests, the last of them deleted if `deleted`.
fn revision(requests: &[u128], deleted: bool) -> Arc<Revision> {
    let version = requests.len() as u64;
    let entry = |(at, request): (usize, &u128)| HistoryEntry {
        stamp: stamp(at as u64 + 1),
        version: at as u64 + 1,
        effect: Effect::Replaced,
        request: Some((RequestId(*request), 0)),
    };
    let history = requests.iter().enumerate().map(entry).collect();
    let body = (!deleted).then(|| Bytes::from_static(b"{}"));
    Arc::new(Revision { version, stamp: stamp(version), body, history })
}

/// The truth: each step in turn was seen chosen.
fn watch(steps: &[(&[u128], bool)]) -> Watch {
    let mut watch = Watch::default();
    for (requests, deleted) in steps {
        watch.look_at_chosen(&key(), &revision(requests, *deleted)).expect("one history");
    }
    watch
}

fn call(client: usize, call: Call, began_us: u64, ended: Option<(u64, Answer)>) -> Record {
    Record { client, key: key(), node: NodeId(1), call, retry_of: None, began_us, ended }
}

fn put(request: u128) -> Call {
    let kind = OperationKind::Put(Bytes::from_static(b"{}"));
    let operation = Operation { kind, condition: Condition::Any, request: Some((RequestId(request), 0)) };
    Call::Write { operation, generated: false }
}

fn written(version: u64) -> Answer {
    Answer::Written { version, stamp: stamp(version), effect: Effect::Replaced }
}

fn found(requests: &[u128]) -> Answer {
    Answer::Found(Some(Held { ballot: stamp(requests.len() as u64), revision: revision(requests, false) }))
}

fn refused_by(rule: &str, records: &[Record], steps: &[(&[u128], bool)]) {
    let violation = judge(records, &watch(steps)).expect_err(rule);
    assert_eq!(violation.rule, rule, "{violation}");
}

const TWO: &[(&[u128], bool)] = &[(&[7], false), (&[7, 8], false)];

#[test]
fn simulation_a_right_history_is_taken() {
    let records = [
        call(0, put(7), 0, Some((10, written(1)))),
        call(1, put(8), 5, Some((30, written(2)))),
        call(0, Call::Read, 20, Some((25, found(&[7])))),
        call(2, Call::Read, 21, Some((40, found(&[7, 8])))),
        call(2, put(9), 50, Some((60, Answer::NotDone("no quorum".to_owned())))),
        call(0, put(10), 50, Some((60, Answer::Unknown))),
    ];
    judge(&records, &watch(TWO)).unwrap();
}

#[test]
fn simulation_a_stale_read_is_refused() {
    let records = [
        call(0, put(7), 0, Some((10, written(1)))),
        call(1, put(8), 5, Some((30, written(2)))),
        call(2, Call::Read, 31, Some((40, found(&[7])))),
    ];
    refused_by("one order that agrees with real time", &records, TWO);
}

#[test]
fn simulation_a_read_of_nothing_after_a_write_is_refused() {
    let records =
        [call(0, put(7), 0, Some((10, written(1)))), call(2, Call::Read, 11, Some((40, Answer::Found(None))))];
    refused_by("one order that agrees with real time", &records, &TWO[..1]);
}

#[test]
fn simulation_writes_against_real_time_are_refused() {
    let records = [call(0, put(8), 0, Some((10, written(2)))), call(1, put(7), 20, Some((30, written(1))))];
    refused_by("one order that agrees with real time", &records, TWO);
}

#[test]
fn simulation_an_answer_that_was_never_chosen_is_refused() {
    let records = [call(0, put(9), 0, Some((10, written(3))))];
    refused_by("every answer is about a chosen state", &records, TWO);
    let other = Answer::Written { version: 2, stamp: stamp(5), effect: Effect::Replaced };
    refused_by("every answer is about a chosen state", &[call(0, put(8), 0, Some((10, other)))], TWO);
}

#[test]
fn simulation_a_request_that_is_carried_out_twice_is_refused() {
    refused_by(
        "a request is carried out once",
        &[call(0, put(7), 0, Some((10, written(1))))],
        &[(&[7], false), (&[7, 8], false), (&[7, 8, 7], false)],
    );
}

#[test]
fn simulation_one_version_for_two_writes_is_refused() {
    let records = [call(0, put(7), 0, Some((10, written(1)))), call(1, put(9), 0, Some((10, written(1))))];
    refused_by("a version comes from one write", &records, &TWO[..1]);
}

#[test]
fn simulation_not_done_and_yet_chosen_is_refused() {
    let records = [call(0, put(7), 0, Some((10, Answer::NotDone("no quorum".to_owned()))))];
    refused_by("what was called not done was not done", &records, TWO);
}

#[test]
fn simulation_a_refusal_that_was_never_true_is_refused() {
    let mut patch = call(1, put(9), 31, Some((40, Answer::Rejected(Rejection::NotFound))));
    let records = [call(0, put(7), 0, Some((30, written(1)))), patch.clone()];
    refused_by("a refusal is true at some moment of the call", &records, &TWO[..1]);
    // Begun before the write had ended, it may have come first.
    patch.began_us = 29;
    judge(&[records[0].clone(), patch], &watch(&TWO[..1])).unwrap();
}

#[test]
fn simulation_a_refusal_whose_precondition_holds_is_refused() {
    let mut record = call(1, put(9), 31, None);
    let current = Some((1, stamp(1)));
    record.ended = Some((40, Answer::Rejected(Rejection::PreconditionFailed { current })));
    let records = [call(0, put(7), 0, Some((30, written(1)))), record];
    refused_by("every answer is about a chosen state", &records, &TWO[..1]);
}

#[test]
fn simulation_a_session_that_goes_back_is_refused() {
    let local = Call::LocalRead { token: Some(stamp(2)) };
    let records = [call(0, Call::Read, 0, Some((10, found(&[7, 8])))), call(0, local, 20, Some((30, found(&[7]))))];
    refused_by("G3: a session never goes back", &records, TWO);
}

#[test]
fn simulation_two_histories_of_one_document_are_refused() {
    let mut watch = watch(TWO);
    let mut other = Revision::clone(&revision(&[7, 8], false));
    other.stamp = stamp(5);
    other.history[1].stamp = stamp(5);
    let violation = watch.look_at_chosen(&key(), &Arc::new(other)).expect_err("another version 2");
    assert_eq!(violation.rule, "one history for each document");
}

/// The document that was written again after its tombstone, version 2, was collected.
fn again() -> (Arc<Revision>, Answer) {
    let stamp = Ballot::ordinary(30, NodeId(1), 1);
    let entry = HistoryEntry { stamp, version: 1, effect: Effect::Created, request: Some((RequestId(9), 0)) };
    let revision = Revision { version: 1, stamp, body: Some(Bytes::from_static(b"{}")), history: vec![entry] };
    (Arc::new(revision), Answer::Written { version: 1, stamp, effect: Effect::Created })
}

/// Deleted, collected, and written again while nobody else did anything; then one call more.
fn judge_after_collection(last: Record) -> Result<(), coequal_simulation::history::Violation> {
    let mut watch = watch(&[(&[7], false), (&[7, 8], true)]);
    watch.collected = stamp(2).time;
    let (revision, answer) = again();
    watch.look_at_chosen(&key(), &revision).unwrap();
    let records = [
        call(0, put(7), 0, Some((10, written(1)))),
        call(1, put(8), 15, Some((30, written(2)))),
        call(2, Call::Read, 31, Some((40, Answer::Found(None)))),
        call(0, put(9), 50, Some((60, answer))),
        last,
    ];
    judge(&records, &watch)
}

#[test]
fn simulation_versions_begin_again_only_behind_a_collected_tombstone() {
    let mut kept = watch(&[(&[7], false), (&[7, 8], true)]);
    kept.collected = stamp(2).time - 1;
    assert_eq!(kept.look_at_chosen(&key(), &again().0).unwrap_err().rule, "one history for each document");
    let mut alive = watch(TWO);
    alive.collected = stamp(2).time;
    assert_eq!(alive.look_at_chosen(&key(), &again().0).unwrap_err().rule, "one history for each document");
}

#[test]
fn simulation_what_was_collected_does_not_come_back() {
    let refused = |answer| judge_after_collection(call(2, Call::Read, 61, Some((70, answer)))).unwrap_err().rule;
    let (revision, _) = again();
    let held = Held { ballot: revision.stamp, revision };
    judge_after_collection(call(2, Call::Read, 61, Some((70, Answer::Found(Some(held)))))).unwrap();
    assert_eq!(refused(found(&[7])), "one order that agrees with real time");
    assert_eq!(refused(Answer::Found(None)), "one order that agrees with real time");
}

/// A forced recovery of a node that has only the first version, chosen, and this as accepted; then one call more.
fn judge_after_recovery(accepted: &[u128], last: Record) -> Result<(), coequal_simulation::history::Violation> {
    let mut watch = watch(TWO);
    let held =
        |requests: &[u128]| Some(Held { ballot: stamp(requests.len() as u64), revision: revision(requests, false) });
    let register = Register { accepted: held(accepted), chosen: held(&[7]), ..Register::default() };
    let lost = watch.go_back(&key(), &[register], 45);
    assert_eq!(lost, if accepted.len() == 1 { vec![stamp(2)] } else { vec![] });
    let mut records = vec![
        call(0, put(7), 0, Some((10, written(1)))),
        call(1, put(8), 15, Some((30, written(2)))),
        call(2, Call::Read, 31, Some((40, found(&[7, 8])))),
    ];
    let stand: Vec<bool> = records.iter_mut().map(|record| as_known_afterwards(record, &watch)).collect();
    assert_eq!(stand, [true, accepted.len() > 1, accepted.len() > 1]);
    records.push(last);
    judge(&records, &watch)
}

#[test]
fn simulation_only_what_no_survivor_had_may_be_missing_after_a_recovery() {
    let read = |answer| call(3, Call::Read, 50, Some((60, answer)));
    let order = "one order that agrees with real time";
    judge_after_recovery(&[7], read(found(&[7]))).unwrap();
    assert_eq!(judge_after_recovery(&[7], read(Answer::Found(None))).unwrap_err().rule, order);
    // What was lost never comes back.
    let lost = judge_after_recovery(&[7], read(found(&[7, 8]))).unwrap_err();
    assert_eq!(lost.rule, "every answer is about a chosen state");
    // A survivor had accepted it, and it was chosen with the lost ones: it has to be there.
    judge_after_recovery(&[7, 8], read(found(&[7, 8]))).unwrap();
    assert_eq!(judge_after_recovery(&[7, 8], read(found(&[7]))).unwrap_err().rule, order);
}
