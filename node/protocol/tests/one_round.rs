//! Refusals that go with a write that skips its prepare: told when that write is chosen, and of nothing else.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::message::{Condition, Operation, Rejection};
use coequal_protocol::operation::{Applied, apply, names_the_past};
use coequal_protocol::proposal::{OperationResult, Proposal, Step};
use coequal_protocol::revision::Effect;
use coequal_protocol::{Ballot, Held, Revision};
use coequal_types::NodeId;
use common::{ballot, configuration, put, requested, when};
use std::sync::Arc;

fn written_over(current: Option<&Revision>, at: Ballot) -> Held {
    match apply(current, &put("{}"), at) {
        Applied::Changed(revision) => Held { ballot: at, revision: Arc::new(revision) },
        other => panic!("{other:?}"),
    }
}

fn refused_by(version: u64, stamp: Ballot) -> OperationResult {
    OperationResult::Rejected(Rejection::PreconditionFailed { current: Some((version, stamp)) })
}

fn at_version(version: u64) -> Operation {
    when(Condition::Version(version), put("{}"))
}

#[test]
fn a_refusal_that_goes_with_a_write_is_told_when_that_is_chosen() {
    let configuration = configuration(&[1, 2, 3], None);
    let base = written_over(None, ballot(4, 1));
    let mut proposal = Proposal::new(vec![at_version(9), at_version(1), at_version(1)]);
    let at = base.ballot.successor();
    assert!(matches!(proposal.accept_directly(at, Some(&base)), Some(Step::Accept { .. })));
    assert_eq!(proposal.on_accepted(&configuration, NodeId(1), at), Step::Wait, "one voter says nothing of the newest");
    let Step::Done { results, .. } = proposal.on_accepted(&configuration, NodeId(3), at) else {
        panic!("{proposal:?}")
    };
    let written = OperationResult::Written { version: 2, stamp: at, effect: Effect::Replaced };
    assert_eq!(results, [refused_by(1, ballot(4, 1)), written, refused_by(2, at)]);
}

#[test]
fn a_refusal_by_what_somebody_else_has_replaced_is_never_told() {
    let configuration = configuration(&[1, 2, 3], None);
    let base = written_over(None, ballot(4, 1));
    let theirs = written_over(Some(&base.revision), ballot(7, 2));
    let mut proposal = Proposal::new(vec![at_version(2), put("{}")]);
    let directly = base.ballot.successor();
    assert!(proposal.accept_directly(directly, Some(&base)).is_some(), "the first is refused by what is known here");
    assert_eq!(proposal.on_refused(directly, theirs.ballot), Step::Lost { promised: theirs.ballot });
    let at = ballot(8, 1);
    proposal.prepare(at);
    proposal.on_promised(&configuration, NodeId(2), at, Some(theirs.clone()), true);
    let step = proposal.on_promised(&configuration, NodeId(3), at, Some(theirs), true);
    assert!(matches!(&step, Step::Accept { revision, .. } if revision.version == 4), "{step:?}");
    proposal.on_accepted(&configuration, NodeId(2), at);
    let Step::Done { results, .. } = proposal.on_accepted(&configuration, NodeId(3), at) else {
        panic!("{proposal:?}")
    };
    let written = |version| OperationResult::Written { version, stamp: at, effect: Effect::Replaced };
    assert_eq!(results, [written(3), written(4)]);
}

#[test]
fn what_names_the_past_is_refused_whatever_is_written_before_it() {
    let live = written_over(None, ballot(4, 1)).revision;
    let Applied::Changed(second) = apply(Some(&live), &requested(7, put("{}")), ballot(5, 1)) else {
        panic!("no write")
    };
    let Applied::Changed(deleted) = apply(Some(&second), &common::delete(), ballot(6, 1)) else { panic!("no delete") };
    let named = |revision: &Revision| {
        let (version, stamp) = (revision.version, revision.stamp);
        [Condition::Stamp(stamp), Condition::Revision { version, stamp }, Condition::Version(version)]
    };
    let states = [&*live, &second, &deleted];
    for (at, current) in states.iter().enumerate() {
        for (of, condition) in states.iter().enumerate().flat_map(|(of, state)| named(state).map(|c| (of, c))) {
            let operation = when(condition, put("{}"));
            assert_eq!(names_the_past(current, &operation), of < at, "{operation:?} on {current:?}");
            // A request that was done is answered with what it did.
            let is_done = at > 0;
            assert_eq!(names_the_past(current, &requested(7, operation.clone())), of < at && !is_done, "{operation:?}");
            for later in states[at..].iter().filter(|_| of < at) {
                let again = apply(Some(later), &operation, ballot(9, 1));
                assert!(
                    matches!(again, Applied::Rejected(Rejection::PreconditionFailed { .. })),
                    "{operation:?} on {later:?}"
                );
            }
        }
        for condition in [Condition::Any, Condition::Absent, Condition::Present] {
            assert!(!names_the_past(current, &when(condition, put("{}"))));
        }
    }
}
