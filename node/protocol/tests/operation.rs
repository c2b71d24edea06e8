//! What each write makes of a document, and what it refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::message::{Condition, Operation, OperationKind, Rejection};
use coequal_protocol::operation::{
    Applied, apply, invariant_history_ends_with_own_stamp, invariant_successor_extends_history,
};
use coequal_protocol::revision::{Effect, HISTORY_DEPTH, RECENT_DEPTH};
use coequal_protocol::{Ballot, RequestId, Revision};
use coequal_types::NodeId;
use common::{ballot, create, delete, operation, patch, put, requested, settle, when};
use proptest::prelude::*;

/// Applies a write that must change the document.
fn change(current: Option<&Revision>, operation: &Operation, time: u64) -> Revision {
    match apply(current, operation, ballot(time, 1)) {
        Applied::Changed(next) => {
            assert!(invariant_history_ends_with_own_stamp(&next), "{next:?}");
            assert!(invariant_successor_extends_history(current, &next), "{current:?} became {next:?}");
            next
        }
        other => panic!("{operation:?} on {current:?} gave {other:?}"),
    }
}

fn refusal(current: Option<&Revision>, operation: &Operation) -> Rejection {
    match apply(current, operation, ballot(99, 1)) {
        Applied::Rejected(rejection) => rejection,
        other => panic!("{operation:?} on {current:?} gave {other:?}"),
    }
}

fn text(revision: &Revision) -> Option<&str> {
    revision.body.as_ref().map(|body| std::str::from_utf8(body).unwrap())
}

fn effect(revision: &Revision) -> Effect {
    revision.history.last().unwrap().effect
}

#[test]
fn versions_count_up_through_create_replace_patch_delete_and_create_again() {
    let one = change(None, &create(r#"{"a":1,"b":2}"#), 1);
    let two = change(Some(&one), &put(r#"{"a":2,"b":2}"#), 2);
    let three = change(Some(&two), &patch(r#"{"b":null}"#), 3);
    let four = change(Some(&three), &delete(), 4);
    let five = change(Some(&four), &create(r#"{"c":1}"#), 5);
    let told: Vec<_> = [&one, &two, &three, &four, &five].map(|r| (r.version, text(r), effect(r))).into();
    assert_eq!(
        told,
        vec![
            (1, Some(r#"{"a":1,"b":2}"#), Effect::Created),
            (2, Some(r#"{"a":2,"b":2}"#), Effect::Replaced),
            (3, Some(r#"{"a":2}"#), Effect::Replaced),
            (4, None, Effect::Deleted),
            (5, Some(r#"{"c":1}"#), Effect::Created),
        ]
    );
    assert!(five.descends_from(one.stamp) && five.descends_from(five.stamp) && !one.descends_from(five.stamp));
}

#[test]
fn each_refusal_says_what_it_found() {
    let live = change(None, &put(r#"{"a":1}"#), 1);
    let gone = change(Some(&live), &delete(), 2);
    let found = Some((1, live.stamp));
    let failed = |current| Rejection::PreconditionFailed { current };
    let put = || put("{}");
    let at = |version, stamp| Condition::Revision { version, stamp };
    for (case, current, operation, expected) in [
        ("create of what exists", Some(&live), create("{}"), Rejection::Exists { version: 1, stamp: live.stamp }),
        ("patch of nothing", None, patch("{}"), Rejection::NotFound),
        ("patch of a tombstone", Some(&gone), patch("{}"), Rejection::NotFound),
        ("delete of nothing", None, delete(), Rejection::NotFound),
        ("delete of a tombstone", Some(&gone), delete(), Rejection::NotFound),
        ("absent, but it exists", Some(&live), when(Condition::Absent, put()), failed(found)),
        ("present, but nothing", None, when(Condition::Present, put()), failed(None)),
        ("present, but deleted", Some(&gone), when(Condition::Present, put()), failed(None)),
        ("another stamp", Some(&live), when(Condition::Stamp(ballot(9, 9)), put()), failed(found)),
        ("another version of its stamp", Some(&live), when(at(0, live.stamp), put()), failed(found)),
        ("the tombstone's stamp", Some(&gone), when(Condition::Stamp(gone.stamp), put()), failed(None)),
        ("another version", Some(&live), when(Condition::Version(2), delete()), failed(found)),
        ("version of nothing", None, when(Condition::Version(0), put()), failed(None)),
    ] {
        assert_eq!(refusal(current, &operation), expected, "{case}");
    }
}

#[test]
fn each_condition_that_holds_lets_the_write_through() {
    let live = change(None, &put(r#"{"a":1}"#), 1);
    let gone = change(Some(&live), &delete(), 2);
    change(None, &when(Condition::Absent, put("{}")), 5);
    change(Some(&gone), &when(Condition::Absent, put("{}")), 5);
    change(Some(&live), &when(Condition::Present, patch("{}")), 5);
    change(Some(&live), &when(Condition::Stamp(live.stamp), delete()), 5);
    change(Some(&live), &when(Condition::Revision { version: 1, stamp: live.stamp }, delete()), 5);
    change(Some(&live), &when(Condition::Version(1), put("{}")), 5);
}

#[test]
fn settling_changes_nothing_whatever_is_there() {
    let live = change(None, &put("{}"), 1);
    assert_eq!(apply(None, &settle(), ballot(9, 1)), Applied::Unchanged);
    assert_eq!(apply(Some(&live), &settle(), ballot(9, 1)), Applied::Unchanged);
}

#[test]
fn a_repeated_request_gets_its_first_result_whatever_came_between() {
    let mut current = change(None, &requested(7, create(r#"{"a":1}"#)), 1);
    let first = current.history[0].clone();
    for time in 2..=HISTORY_DEPTH as u64 {
        current = change(Some(&current), &put("{}"), time);
        // A create that is repeated after others wrote is no conflict: it was done.
        assert_eq!(
            apply(Some(&current), &requested(7, create(r#"{"a":1}"#)), ballot(99, 1)),
            Applied::Already(first.clone())
        );
    }
}

#[test]
fn a_repeated_delete_is_told_that_it_deleted() {
    let live = change(None, &put("{}"), 1);
    let gone = change(Some(&live), &requested(8, delete()), 2);
    let Applied::Already(entry) = apply(Some(&gone), &requested(8, delete()), ballot(9, 1)) else { panic!() };
    assert_eq!((entry.version, entry.effect, entry.stamp), (2, Effect::Deleted, gone.stamp));
}

#[test]
fn a_request_id_that_comes_back_with_another_request_is_refused() {
    let current = change(None, &requested(7, put("{}")), 1);
    let other = Operation { request: Some((RequestId(7), 1_234)), ..put("{}") };
    let Rejection::NotAcceptable(words) = refusal(Some(&current), &other) else { panic!() };
    assert!(words.contains("Idempotency-Key"), "{words}");
}

#[test]
fn the_history_forgets_the_oldest_beyond_its_depth() {
    let mut current = change(None, &requested(7, put("{}")), 1);
    for time in 2..=(HISTORY_DEPTH as u64 + 1) {
        assert!(current.find_request(RequestId(7)).is_some());
        current = change(Some(&current), &put("{}"), time);
    }
    assert_eq!(current.history.len(), HISTORY_DEPTH);
    assert!(current.find_request(RequestId(7)).is_none() && !current.descends_from(ballot(1, 1)));
}

/// Every start of a node is a coordinator of its own. A document that 24 of them had written once each used to keep the
/// last write of every one and to forget, of the one that writes now, all but the last: a retry after a single other
/// write was done twice. Found by Porcupine in histories of nodes that were killed many times.
#[test]
fn a_document_that_many_starts_of_nodes_have_written_remembers_its_last_writes_all_the_same() {
    for recent_coordinators in [1, 2, 3] {
        let mut current: Option<Revision> = None;
        for start in 1..=60u32 {
            let stamp = Ballot::ordinary(u64::from(start), NodeId(1), start);
            let Applied::Changed(next) = apply(current.as_ref(), &put("{}"), stamp) else { panic!() };
            current = Some(next);
        }
        let stamp = |time: u64| Ballot::ordinary(time, NodeId(2 + time % recent_coordinators), 1);
        let Applied::Changed(mut now) = apply(current.as_ref(), &requested(7, put("{}")), stamp(100)) else { panic!() };
        for time in 101..100 + RECENT_DEPTH as u64 {
            let Applied::Changed(next) = apply(Some(&now), &put("{}"), stamp(time)) else { panic!() };
            now = next;
            let again = apply(Some(&now), &requested(7, put("{}")), stamp(time + 1));
            assert!(matches!(again, Applied::Already(entry) if entry.version == 61), "after {} writes", time - 100);
            assert!(invariant_history_ends_with_own_stamp(&now));
        }
    }
}

/// What a document says of a write that it does not remember is right, whoever wrote how often.
#[test]
fn a_write_that_is_ruled_out_was_never_applied() {
    let (mut ruled_out, mut forgotten) = (0, 0);
    for seed in 0..3_000 {
        let mut rng = common::Rng::new(seed);
        let coordinators = 1 + rng.below(30);
        let mut current: Option<Revision> = None;
        // Of each coordinator its last write, which is the one it may not know about.
        let mut last = std::collections::BTreeMap::new();
        for time in 1..=(10 + rng.below(90) as u64) {
            let node = rng.below(coordinators) as u64;
            let stamp = Ballot::ordinary(time, NodeId(node), 1);
            let base = current.as_ref().map_or(0, |revision| revision.version);
            let Applied::Changed(next) = apply(current.as_ref(), &put("{}"), stamp) else { panic!() };
            current = Some(next);
            last.insert(node, (stamp, base));
        }
        let now = current.unwrap();
        for (stamp, base) in last.into_values().filter(|(stamp, _)| !now.descends_from(*stamp)) {
            assert!(!now.excludes(stamp, base), "seed {seed}: {stamp} was applied and is ruled out by {now:?}");
            forgotten += 1;
        }
        let stranger = Ballot::ordinary(1, NodeId(999), 1);
        ruled_out += u64::from(now.excludes(stranger, now.version));
    }
    assert!(ruled_out > 1_000 && forgotten > 1_000, "{ruled_out} {forgotten}");
}

#[test]
fn a_patch_that_makes_no_object_is_refused_and_changes_nothing() {
    let live = change(None, &put(r#"{"a":1}"#), 1);
    assert!(matches!(refusal(Some(&live), &patch("[1,2")), Rejection::NotAcceptable(_)));
}

#[test]
fn a_patch_makes_no_document_larger_than_the_limit_that_travels_with_it() {
    let limited = |text: &str, bytes_max| {
        operation(OperationKind::Patch { patch: bytes::Bytes::copy_from_slice(text.as_bytes()), bytes_max })
    };
    let live = change(None, &put(r#"{"a":"123456789"}"#), 1);
    let grows = r#"{"b":1}"#;
    assert_eq!(refusal(Some(&live), &limited(grows, 22)), Rejection::TooLarge { bytes: 23, bytes_max: 22 });
    assert_eq!(change(Some(&live), &limited(grows, 23), 2).body.unwrap().len(), 23);
    // Already beyond a limit that was lowered since: it may shrink, and need not shrink enough at once.
    let shrinks = limited(r#"{"a":"12345678"}"#, 5);
    assert_eq!(change(Some(&live), &shrinks, 2).body.unwrap().len(), 16);
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![
        Just(put(r#"{"p":1}"#)),
        Just(create(r#"{"c":1}"#)),
        Just(patch(r#"{"m":1}"#)),
        Just(delete()),
        Just(settle()),
    ];
    let condition = prop_oneof![
        4 => Just(Condition::Any),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => (1u64..6).prop_map(Condition::Version),
    ];
    (kind, condition, prop::option::of(0u128..5)).prop_map(|(operation, condition, id)| {
        let operation = when(condition, operation);
        match id {
            Some(id) => requested(id, operation),
            None => operation,
        }
    })
}

proptest! {
    #[test]
    fn any_run_of_writes_keeps_versions_and_history_in_order_and_does_each_request_once(
        operations in prop::collection::vec(any_operation(), 0..60),
    ) {
        let mut current: Option<Revision> = None;
        let mut seen: Vec<(RequestId, u64)> = Vec::new();
        for (time, operation) in (1u64..).zip(&operations) {
            match apply(current.as_ref(), operation, ballot(time, 1)) {
                Applied::Changed(next) => {
                    prop_assert!(invariant_history_ends_with_own_stamp(&next), "{:?}", next);
                    prop_assert!(invariant_successor_extends_history(current.as_ref(), &next), "{:?}", next);
                    if let Some((id, _)) = operation.request {
                        let version = next.version;
                        let recent = |(known, at): &(RequestId, u64)| *known == id && at + HISTORY_DEPTH as u64 > version - 1;
                        prop_assert!(!seen.iter().any(recent), "{:?} applied twice", id);
                        seen.push((id, version));
                    }
                    current = Some(next);
                }
                Applied::Already(entry) => {
                    let (id, _) = operation.request.unwrap();
                    prop_assert!(seen.contains(&(id, entry.version)));
                }
                Applied::Unchanged | Applied::Rejected(_) => {}
            }
        }
    }
}
