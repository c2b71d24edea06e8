//! A proposer's steps, and what it may tell the client at each.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use coequal_protocol::message::{Condition, Operation, Rejection};
use coequal_protocol::proposal::{
    OperationResult, Proposal, Step, invariant_answers_follow_sent_accepts, invariant_sent_accepts_are_remembered,
};
use coequal_protocol::revision::{Effect, HISTORY_DEPTH, HistoryEntry};
use coequal_protocol::{Ballot, Held, Revision};
use coequal_types::{Configuration, NodeId, WriteQuorum};
use common::{ballot, configuration, create, delete, patch, put, requested, revision, settle, when, with_write_quorum};
use std::sync::Arc;

/// A proposal under test with the configuration that it runs in.
struct Run {
    proposal: Proposal,
    configuration: Configuration,
}

impl Run {
    fn new(operations: Vec<Operation>) -> Self {
        Self::within(configuration(&[1, 2, 3], None), operations)
    }
    fn within(configuration: Configuration, operations: Vec<Operation>) -> Self {
        Self { proposal: Proposal::new(operations), configuration }
    }
    fn prepare(&mut self, time: u64) -> &mut Self {
        self.proposal.prepare(ballot(time, 1));
        self
    }
    fn promised(&mut self, from: u64, held: Option<&Held>, chosen: bool) -> Step {
        let at = self.proposal.ballot();
        self.promised_at(from, at, held, chosen)
    }
    fn promised_at(&mut self, from: u64, at: Ballot, held: Option<&Held>, chosen: bool) -> Step {
        let step = self.proposal.on_promised(&self.configuration, NodeId(from), at, held.cloned(), chosen);
        self.checked(step)
    }
    fn accepted(&mut self, from: u64) -> Step {
        let at = self.proposal.ballot();
        self.accepted_at(from, at)
    }
    fn accepted_at(&mut self, from: u64, at: Ballot) -> Step {
        let step = self.proposal.on_accepted(&self.configuration, NodeId(from), at);
        self.checked(step)
    }
    fn refused(&mut self, promised: Ballot) -> Step {
        let at = self.proposal.ballot();
        let step = self.proposal.on_refused(at, promised);
        self.checked(step)
    }
    fn checked(&self, step: Step) -> Step {
        assert!(invariant_sent_accepts_are_remembered(&self.proposal), "{:?}", self.proposal);
        assert!(invariant_answers_follow_sent_accepts(&self.proposal, &step), "{step:?} of {:?}", self.proposal);
        step
    }
}

fn accept_of(step: Step) -> (Ballot, Arc<Revision>) {
    match step {
        Step::Accept { ballot, revision } => (ballot, revision),
        other => panic!("no accept: {other:?}"),
    }
}

fn done(step: Step) -> (Vec<OperationResult>, Option<Held>, bool) {
    match step {
        Step::Done { results, chosen, own_round } => (results, chosen, own_round),
        other => panic!("not done: {other:?}"),
    }
}

fn written(version: u64, stamp: Ballot, effect: Effect) -> OperationResult {
    OperationResult::Written { version, stamp, effect }
}

/// A document at `version`, held at `at`, whose history is written by node 9.
fn document(version: u64, at: Ballot) -> Held {
    let mut run = Proposal::new(vec![]);
    let mut current: Option<Held> = None;
    for number in 1..=version {
        run = Proposal::new(vec![put(&format!("{{\"v\":{number}}}"))]);
        let stamp = if number == version { at } else { ballot(number, 9) };
        let (_, revision) = accept_of(run.accept_directly(stamp, current.as_ref()).unwrap());
        current = Some(Held { ballot: stamp, revision });
    }
    assert!(run.may_be_applied());
    current.unwrap()
}

#[test]
fn a_write_goes_through_promises_and_accepts_of_a_majority() {
    let mut run = Run::new(vec![put("{}")]);
    assert!(!run.prepare(5).proposal.may_be_applied());
    assert_eq!(run.promised(1, None, true), Step::Wait);
    let (at, revision) = accept_of(run.promised(3, None, true));
    assert_eq!((at, revision.version, revision.stamp), (ballot(5, 1), 1, ballot(5, 1)));
    assert!(run.proposal.may_be_applied());
    assert_eq!(run.accepted(2), Step::Wait);
    let (results, chosen, own_round) = done(run.accepted(1));
    assert_eq!(results, vec![written(1, at, Effect::Created)]);
    assert_eq!((chosen, own_round), (Some(Held { ballot: at, revision }), true));
    assert_eq!(run.accepted(3), Step::Wait, "a late answer after the end");
}

#[test]
fn the_value_of_the_highest_ballot_is_the_one_that_is_changed() {
    let (low, high) = (document(1, ballot(3, 2)), document(2, ballot(4, 3)));
    for (first, second) in [(&low, &high), (&high, &low)] {
        let mut run = Run::new(vec![put("{}")]);
        run.prepare(9).promised(1, Some(first), false);
        let (_, revision) = accept_of(run.promised(2, Some(second), false));
        assert_eq!(revision.version, 3);
    }
}

#[test]
fn the_same_voter_twice_and_strangers_never_make_a_majority() {
    let mut run = Run::new(vec![put("{}")]);
    run.prepare(5);
    for from in [1, 1, 8, 9] {
        assert_eq!(run.promised(from, None, true), Step::Wait, "promise of {from}");
    }
    accept_of(run.promised(2, None, true));
    for from in [1, 1, 8, 9] {
        assert_eq!(run.accepted(from), Step::Wait, "accept of {from}");
    }
    done(run.accepted(3));
}

#[test]
fn answers_to_an_older_round_never_count() {
    let mut run = Run::new(vec![put("{}")]);
    run.prepare(5).promised(1, None, true);
    run.proposal.abandon_round();
    assert_eq!(run.promised(2, None, true), Step::Wait, "nothing is under way");
    run.prepare(7);
    assert_eq!(run.promised_at(2, ballot(5, 1), None, true), Step::Wait);
    assert_eq!(run.promised(1, None, true), Step::Wait);
    let (at, _) = accept_of(run.promised(3, None, true));
    assert_eq!(run.accepted_at(1, ballot(5, 1)), Step::Wait);
    assert_eq!(run.accepted_at(2, ballot(5, 1)), Step::Wait);
    assert_eq!(run.proposal.on_refused(ballot(5, 1), ballot(6, 3)), Step::Wait);
    assert_eq!(at, ballot(7, 1));
    run.accepted(1);
    done(run.accepted(2));
    assert_eq!(run.proposal.on_refused(ballot(7, 1), ballot(8, 3)), Step::Wait, "it is over");
}

#[test]
fn a_promise_that_comes_after_the_majority_changes_nothing() {
    let mut run = Run::new(vec![put("{}")]);
    run.prepare(5).promised(1, None, true);
    accept_of(run.promised(2, None, true));
    assert_eq!(run.promised(3, Some(&document(4, ballot(4, 3))), true), Step::Wait);
}

#[test]
fn a_refused_round_is_lost_and_names_what_to_go_beyond() {
    let mut run = Run::new(vec![put("{}")]);
    run.prepare(5);
    assert_eq!(run.refused(ballot(8, 3)), Step::Lost { promised: ballot(8, 3) });
    assert_eq!(run.refused(ballot(8, 2)), Step::Wait, "one loss for one round");
    assert_eq!((run.proposal.lost_rounds(), run.proposal.may_be_applied()), (1, false));
}

#[test]
fn what_is_under_way_can_be_sent_again_to_those_who_have_not_answered() {
    let mut run = Run::new(vec![put("{}")]);
    assert!(run.proposal.prepare_under_way().is_none() && run.proposal.accept_under_way().is_none());
    run.prepare(5).promised(2, None, true);
    assert!(run.proposal.prepare_under_way().unwrap().contains(&NodeId(2)));
    assert_eq!(run.proposal.answered(), 1);
    let (_, revision) = accept_of(run.promised(1, None, true));
    run.accepted(3);
    let (again, answered) = run.proposal.accept_under_way().unwrap();
    assert_eq!((again, answered.iter().copied().collect::<Vec<_>>()), (revision, vec![NodeId(3)]));
    run.proposal.abandon_round();
    assert!(run.proposal.accept_under_way().is_none() && run.proposal.answered() == 0);
}

// I8: a refusal is an answer about a chosen state.

#[test]
fn a_refusal_about_a_state_known_to_be_chosen_is_told_at_once() {
    let current = document(2, ballot(4, 9));
    for (case, answers) in [
        ("one voter knows", [(Some(&current), true), (None, true)]),
        ("a write quorum holds the same ballot", [(Some(&current), false), (Some(&current), false)]),
    ] {
        let mut run = Run::new(vec![create("{}")]);
        run.prepare(9).promised(1, answers[0].0, answers[0].1);
        let (results, chosen, own_round) = done(run.promised(2, answers[1].0, answers[1].1));
        let exists = Rejection::Exists { version: 2, stamp: ballot(4, 9) };
        assert_eq!(results, vec![OperationResult::Rejected(exists)], "{case}");
        assert_eq!((chosen.as_ref(), own_round), (Some(&current), false), "{case}");
    }
}

#[test]
fn a_refusal_about_a_merely_accepted_state_waits_until_it_is_chosen() {
    let pending = document(2, ballot(4, 9));
    let mut run = Run::new(vec![create("{}")]);
    run.prepare(9).promised(1, Some(&pending), false);
    let (at, revision) = accept_of(run.promised(2, None, true));
    assert_eq!((at, &revision), (ballot(9, 1), &pending.revision), "the value as it was, at the round's own ballot");
    assert!(!run.proposal.may_be_applied(), "nothing of its own was sent");
    run.accepted(2);
    let (results, chosen, own_round) = done(run.accepted(3));
    assert!(matches!(results[..], [OperationResult::Rejected(Rejection::Exists { version: 2, .. })]));
    assert_eq!((chosen.unwrap().ballot, own_round), (at, true));
}

#[test]
fn a_lower_ballot_known_to_be_chosen_says_nothing_about_a_higher_accepted_one() {
    let (chosen, pending) = (document(1, ballot(3, 9)), document(2, ballot(4, 9)));
    let mut run = Run::new(vec![create("{}")]);
    run.prepare(9).promised(1, Some(&chosen), true);
    let (_, revision) = accept_of(run.promised(2, Some(&pending), false));
    assert_eq!(revision, pending.revision);
}

#[test]
fn nothing_anywhere_is_a_chosen_state_too() {
    for (operation, expected) in [
        (delete(), OperationResult::Rejected(Rejection::NotFound)),
        (patch("{}"), OperationResult::Rejected(Rejection::NotFound)),
        (
            when(Condition::Present, put("{}")),
            OperationResult::Rejected(Rejection::PreconditionFailed { current: None }),
        ),
        (settle(), OperationResult::Settled),
    ] {
        let mut run = Run::new(vec![operation]);
        run.prepare(5).promised(1, None, true);
        assert_eq!(done(run.promised(2, None, true)), (vec![expected], None, false));
    }
}

#[test]
fn under_write_quorum_all_a_majority_with_the_same_ballot_is_not_yet_chosen() {
    let pending = document(1, ballot(4, 9));
    let mut run = Run::within(with_write_quorum(&[1, 2, 3], WriteQuorum::All), vec![create("{}")]);
    run.prepare(9).promised(1, Some(&pending), false);
    accept_of(run.promised(2, Some(&pending), false));
    run.accepted(1);
    assert_eq!(run.accepted(2), Step::Wait);
    done(run.accepted(3));
}

#[test]
fn under_write_quorum_all_settling_needs_a_majority_and_an_acknowledgement_everybody() {
    let all = || with_write_quorum(&[1, 2, 3], WriteQuorum::All);
    let mut first = Proposal::new(vec![requested(7, create("{}"))]);
    let (at, revision) = accept_of(first.accept_directly(ballot(4, 2), None).unwrap());
    let pending = Held { ballot: at, revision };
    let mut run = Run::within(all(), vec![settle()]);
    run.prepare(9).promised(1, Some(&pending), false);
    accept_of(run.promised(2, None, true));
    assert_eq!(run.accepted(1), Step::Wait);
    let (_, chosen, _) = done(run.accepted(2));
    // Voter 3 need not have it: whoever wrote it learns of its success only when it has.
    let mut run = Run::within(all(), vec![requested(7, create("{}"))]);
    run.prepare(11).promised(1, chosen.as_ref(), true);
    accept_of(run.promised(2, chosen.as_ref(), true));
    run.accepted(1);
    assert_eq!(run.accepted(2), Step::Wait);
    assert_eq!(done(run.accepted(3)).0, vec![written(1, at, Effect::Created)]);
    // A refusal is about a chosen state, wherever it lies.
    let mut run = Run::within(all(), vec![create("{}")]);
    run.prepare(13).promised(1, chosen.as_ref(), true);
    assert!(matches!(done(run.promised(2, chosen.as_ref(), true)).0[..], [OperationResult::Rejected(_)]));
}

// I9: what became of an accept that was sent.

/// A proposal whose first accept was sent at ballot 5 (on `base`) and lost.
fn lost_after_accept(operation: Operation, base: Option<&Held>) -> (Run, Arc<Revision>) {
    let mut run = Run::new(vec![operation]);
    run.prepare(5).promised(1, base, base.is_some());
    let (_, revision) = accept_of(run.promised(2, base, base.is_some()));
    assert_eq!(run.refused(ballot(8, 3)), Step::Lost { promised: ballot(8, 3) });
    run.prepare(9);
    (run, revision)
}

#[test]
fn a_lost_write_that_was_chosen_after_all_succeeds_with_its_first_result() {
    let (mut run, sent) = lost_after_accept(put("{}"), None);
    run.promised(1, Some(&Held { ballot: ballot(5, 1), revision: sent }), true);
    let (results, _, own_round) = done(run.promised(3, None, true));
    assert_eq!((results, own_round), (vec![written(1, ballot(5, 1), Effect::Created)], false));
}

#[test]
fn a_lost_write_that_a_minority_holds_is_chosen_first_and_told_then() {
    let (mut run, sent) = lost_after_accept(put("{}"), None);
    run.promised(1, Some(&Held { ballot: ballot(5, 1), revision: Arc::clone(&sent) }), false);
    let (at, revision) = accept_of(run.promised(3, None, true));
    assert_eq!((at, revision), (ballot(9, 1), sent));
    run.accepted(1);
    assert_eq!(done(run.accepted(3)).0, vec![written(1, ballot(5, 1), Effect::Created)]);
}

#[test]
fn a_lost_write_is_found_below_the_writes_of_others() {
    let (mut run, sent) = lost_after_accept(put(r#"{"a":1}"#), None);
    let mut other = Proposal::new(vec![patch(r#"{"b":1}"#)]);
    let base = Held { ballot: ballot(5, 1), revision: sent };
    let (_, next) = accept_of(other.accept_directly(ballot(7, 2), Some(&base)).unwrap());
    let now = Held { ballot: ballot(7, 2), revision: next };
    run.promised(2, Some(&now), true);
    let (results, chosen, _) = done(run.promised(3, Some(&now), true));
    assert_eq!((results, chosen), (vec![written(1, ballot(5, 1), Effect::Created)], Some(now)));
}

#[test]
fn a_lost_write_that_is_not_in_the_past_is_applied_again() {
    let base = document(3, ballot(4, 9));
    let (mut run, _) = lost_after_accept(put("{}"), Some(&base));
    run.promised(1, Some(&base), true);
    let (at, revision) = accept_of(run.promised(2, Some(&base), true));
    assert_eq!((at, revision.version, revision.stamp), (ballot(9, 1), 4, ballot(9, 1)));
    run.accepted(1);
    assert_eq!(done(run.accepted(2)).0, vec![written(4, ballot(9, 1), Effect::Replaced)]);
}

#[test]
fn a_conditional_write_that_lost_to_another_is_refused_only_about_what_is_chosen_above_its_accept() {
    let base = document(1, ballot(4, 9));
    for (case, theirs, confirmed_first) in
        [("chosen above the accept", ballot(7, 3), false), ("chosen below the accept", ballot(4, 10), true)]
    {
        let operation = when(Condition::Version(1), put(r#"{"mine":1}"#));
        let (mut run, _) = lost_after_accept(operation, Some(&base));
        let mut other = Proposal::new(vec![put("{}")]);
        let (_, next) = accept_of(other.accept_directly(theirs, Some(&base)).unwrap());
        let now = Held { ballot: theirs, revision: next };
        run.promised(2, Some(&now), true);
        let step = run.promised(3, Some(&now), true);
        let refused = if confirmed_first {
            let (at, revision) = accept_of(step);
            assert_eq!((at, &revision), (ballot(9, 1), &now.revision), "{case}");
            run.accepted(2);
            run.accepted(3)
        } else {
            step
        };
        let failed = Rejection::PreconditionFailed { current: Some((2, theirs)) };
        assert_eq!(done(refused).0, vec![OperationResult::Rejected(failed)], "{case}");
    }
}

/// The fault: document 1 was accepted by node 1 alone; a patch of it was sent as an accept and reached node 1
/// alone; the next round met only nodes that know nothing, and "404" was told at once. Any later coordinator
/// that meets node 1 takes up the patched document: a write that "failed" appears.
#[test]
fn a_write_sent_on_a_minority_s_value_is_never_called_refused_by_nodes_that_know_nothing() {
    let base = document(1, ballot(4, 9));
    for operation in [
        patch(r#"{"a":1}"#),
        delete(),
        when(Condition::Present, put("{}")),
        when(Condition::Version(1), put("{}")),
        when(Condition::Stamp(ballot(4, 9)), put("{}")),
    ] {
        let mut run = Run::new(vec![operation.clone()]);
        run.prepare(5).promised(1, Some(&base), false);
        accept_of(run.promised(2, None, true));
        run.refused(ballot(8, 3));
        run.prepare(9).promised(2, None, true);
        assert_eq!(run.promised(3, None, true), Step::Unknown, "{operation:?}");
    }
}

#[test]
fn an_unconditional_write_goes_on_where_nodes_know_nothing_of_its_first_try() {
    let base = document(1, ballot(4, 9));
    let mut run = Run::new(vec![put("{}")]);
    run.prepare(5).promised(1, Some(&base), false);
    accept_of(run.promised(2, None, true));
    run.refused(ballot(8, 3));
    run.prepare(9).promised(2, None, true);
    let (at, revision) = accept_of(run.promised(3, None, true));
    assert_eq!((at, revision.version), (ballot(9, 1), 1));
}

/// A revision at `version` whose history names `coordinators` different ones, the newest versions of all.
fn written_by_many(version: u64, coordinators: u64) -> Held {
    let stamp = |back: u64| Ballot::ordinary(1_000 - back, NodeId(100 + back % coordinators), 1);
    let history = (0..HISTORY_DEPTH as u64)
        .rev()
        .map(|back| HistoryEntry {
            stamp: stamp(back),
            version: version - back,
            effect: Effect::Replaced,
            request: None,
        })
        .collect();
    let revision = Revision { version, stamp: stamp(0), body: Some("{}".into()), history };
    Held { ballot: stamp(0), revision: Arc::new(revision) }
}

#[test]
fn a_lost_write_is_unknown_only_once_a_document_may_have_forgotten_its_coordinator() {
    let depth = HISTORY_DEPTH as u64;
    for (coordinators, version, certain) in
        [(2, 3 + 10 * depth, true), (depth, 3 + 10 * depth, false), (depth, 2 + depth, true)]
    {
        let base = document(3, ballot(4, 9));
        let (mut run, _) = lost_after_accept(put("{}"), Some(&base));
        let now = written_by_many(version, coordinators);
        run.promised(2, Some(&now), true);
        match run.promised(3, Some(&now), true) {
            Step::Accept { revision, .. } => assert!(certain && revision.version == version + 1),
            Step::Unknown => assert!(!certain, "{coordinators} coordinators, version {version}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_of_several_lost_tries_is_found_too() {
    let (mut run, first) = lost_after_accept(put("{}"), None);
    run.promised(2, None, true);
    accept_of(run.promised(3, None, true));
    run.refused(ballot(10, 3));
    run.prepare(11).promised(1, Some(&Held { ballot: ballot(10, 3), revision: Arc::clone(&first) }), true);
    let (results, _, _) = done(run.promised(2, None, true));
    assert_eq!(results, vec![written(1, ballot(5, 1), Effect::Created)]);
}

#[test]
fn a_repeated_request_is_answered_from_the_document_s_history() {
    let mut first = Proposal::new(vec![requested(7, create("{}"))]);
    let (at, revision) = accept_of(first.accept_directly(ballot(4, 2), None).unwrap());
    let now = Held { ballot: at, revision };
    let mut run = Run::new(vec![requested(7, create("{}"))]);
    run.prepare(9).promised(1, Some(&now), true);
    let (results, chosen, _) = done(run.promised(2, None, true));
    assert_eq!((results, chosen), (vec![written(1, at, Effect::Created)], Some(now)));
}

// Fewer round trips.

#[test]
fn a_coordinator_writes_what_it_has_just_written_in_one_round() {
    let base = document(1, ballot(4, 1));
    let mut run = Run::new(vec![when(Condition::Stamp(ballot(4, 1)), put("{}"))]);
    let step = run.proposal.accept_directly(base.ballot.successor(), Some(&base)).unwrap();
    let (at, revision) = accept_of(step);
    assert_eq!((at, revision.version), (ballot(5, 1), 2));
    assert!(run.proposal.may_be_applied());
    run.accepted(1);
    assert_eq!(done(run.accepted(2)).0, vec![written(2, at, Effect::Replaced)]);
}

#[test]
fn what_changes_nothing_never_skips_its_prepare() {
    let base = document(1, ballot(4, 1));
    let refused = [create("{}"), when(Condition::Absent, put("{}")), when(Condition::Version(9), delete()), settle()];
    for operation in refused.iter().cloned().chain([create("{}")]) {
        let mut proposal = Proposal::new(vec![operation.clone(), settle()]);
        assert_eq!(proposal.accept_directly(ballot(5, 1), Some(&base)), None, "{operation:?}");
        assert!(!proposal.may_be_applied());
        // Nothing is known of what came before, so nothing can be told of it.
        let mut proposal = Proposal::new(vec![put("{}"), operation.clone()]);
        assert_eq!(proposal.accept_directly(ballot(5, 1), None), None, "{operation:?}");
    }
    assert_eq!(Proposal::new(vec![delete()]).accept_directly(ballot(5, 1), None), None);
}

#[test]
fn a_refused_creation_goes_on_by_an_ordinary_prepare_and_finds_itself() {
    let mut run = Run::new(vec![create("{}")]);
    let creation = Ballot::creation(1_000, NodeId(1), 1);
    let (at, revision) = accept_of(run.proposal.accept_directly(creation, None).unwrap());
    assert_eq!(at, creation);
    assert_eq!(run.refused(ballot(3, 3)), Step::Lost { promised: ballot(3, 3) });
    run.prepare(4).promised(1, Some(&Held { ballot: creation, revision: Arc::clone(&revision) }), false);
    let (again, same) = accept_of(run.promised(3, None, true));
    assert_eq!((again, same), (ballot(4, 1), revision));
    run.accepted(1);
    assert_eq!(done(run.accepted(3)).0, vec![written(1, creation, Effect::Created)]);
}

#[test]
fn a_creation_of_a_key_that_somebody_guessed_is_a_conflict() {
    let theirs = document(1, ballot(3, 9));
    let mut run = Run::new(vec![create("{}")]);
    run.proposal.accept_directly(Ballot::creation(1_000, NodeId(1), 1), None).unwrap();
    run.refused(ballot(4, 9));
    run.prepare(5).promised(2, Some(&theirs), true);
    let (results, _, _) = done(run.promised(3, Some(&theirs), true));
    assert!(matches!(results[..], [OperationResult::Rejected(Rejection::Exists { version: 1, .. })]));
}

// Quorums.

#[test]
fn a_joint_epoch_needs_a_majority_of_both_sets_in_both_phases() {
    let mut run = Run::within(configuration(&[4, 5, 6], Some(&[1, 2, 3])), vec![put("{}")]);
    run.prepare(5);
    for from in [1, 2, 3, 4] {
        assert_eq!(run.promised(from, None, true), Step::Wait, "promise of {from}");
    }
    accept_of(run.promised(5, None, true));
    for from in [4, 5, 6, 1] {
        assert_eq!(run.accepted(from), Step::Wait, "accept of {from}");
    }
    done(run.accepted(3));
}

#[test]
fn write_quorum_all_waits_for_everybody_s_accept_but_not_for_everybody_s_promise() {
    let mut run = Run::within(with_write_quorum(&[1, 2, 3], WriteQuorum::All), vec![put("{}")]);
    run.prepare(5).promised(1, None, true);
    accept_of(run.promised(2, None, true));
    run.accepted(1);
    assert_eq!(run.accepted(2), Step::Wait);
    done(run.accepted(3));
}

#[test]
fn a_single_voter_is_its_own_majority() {
    let mut run = Run::within(configuration(&[1], None), vec![put("{}")]);
    run.prepare(5);
    accept_of(run.promised(1, None, true));
    done(run.accepted(1));
}

// Several operations in one proposal.

#[test]
fn combined_operations_are_applied_one_after_the_other_and_chosen_together() {
    let mut run = Run::new(vec![
        create(r#"{"a":1}"#),
        create("{}"),
        when(Condition::Version(1), patch(r#"{"b":2}"#)),
        requested(3, delete()),
        requested(3, delete()),
        delete(),
    ]);
    run.prepare(5).promised(1, None, true);
    let (at, revision) = accept_of(run.promised(2, None, true));
    assert_eq!((revision.version, revision.is_tombstone(), revision.history.len()), (3, true, 3));
    run.accepted(1);
    let (results, _, _) = done(run.accepted(2));
    let deleted = written(3, at, Effect::Deleted);
    assert_eq!(
        results,
        vec![
            written(1, at, Effect::Created),
            OperationResult::Rejected(Rejection::Exists { version: 1, stamp: at }),
            written(2, at, Effect::Replaced),
            deleted.clone(),
            deleted,
            OperationResult::Rejected(Rejection::NotFound),
        ]
    );
}

#[test]
fn combined_operations_that_were_lost_and_found_keep_all_their_results() {
    let mut run = Run::new(vec![create("{}"), create("{}"), put("{}")]);
    run.prepare(5).promised(1, None, true);
    let (at, sent) = accept_of(run.promised(2, None, true));
    run.refused(ballot(8, 3));
    run.prepare(9).promised(1, Some(&Held { ballot: at, revision: sent }), true);
    let (results, _, _) = done(run.promised(2, None, true));
    assert!(matches!(
        results[..],
        [
            OperationResult::Written { version: 1, .. },
            OperationResult::Rejected(Rejection::Exists { .. }),
            OperationResult::Written { version: 2, .. }
        ]
    ));
}

#[test]
fn settling_together_with_a_refused_write_answers_both_about_the_chosen_state() {
    let current = document(2, ballot(4, 9));
    let mut run = Run::new(vec![settle(), create("{}")]);
    run.prepare(9).promised(1, Some(&current), true);
    let (results, chosen, _) = done(run.promised(2, None, true));
    assert!(matches!(results[..], [OperationResult::Settled, OperationResult::Rejected(_)]));
    assert_eq!(chosen, Some(current));
}

#[test]
fn operations_come_back_out_as_they_went_in() {
    let operations = vec![create("{}"), delete()];
    assert_eq!(Proposal::new(operations.clone()).into_operations(), operations);
    assert_eq!(revision(ballot(1, 1), "{}").version, 1);
}
