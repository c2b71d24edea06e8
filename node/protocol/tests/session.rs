//! What a session token asks of the local store.

#![allow(clippy::unwrap_used)]

mod common;

use coequal_protocol::session::may_answer;
use coequal_protocol::{Ballot, Held};
use common::{ballot, held};

#[test]
fn without_a_token_the_local_store_answers_whatever_it_holds() {
    assert!(may_answer(None, None) && may_answer(Some(&held(ballot(5, 1), "{}")), None));
}

#[test]
fn a_document_older_than_the_token_is_not_answered_from_the_local_store() {
    let local = held(ballot(5, 1), "{}");
    assert!(!may_answer(Some(&local), Some(ballot(5, 2))));
    assert!(!may_answer(Some(&local), Some(ballot(6, 1))));
    assert!(may_answer(Some(&local), Some(ballot(5, 1))) && may_answer(Some(&local), Some(ballot(4, 9))));
}

#[test]
fn nothing_at_all_is_older_than_any_token() {
    assert!(!may_answer(None, Some(ballot(1, 1))));
    assert!(may_answer(None, Some(Ballot::NONE)));
}

#[test]
fn a_value_that_was_taken_up_again_at_a_higher_ballot_is_as_new_as_that_ballot() {
    let first = held(ballot(5, 1), "{}");
    let again = Held { ballot: ballot(8, 2), ..first };
    assert!(may_answer(Some(&again), Some(ballot(8, 2))) && !may_answer(Some(&again), Some(ballot(9, 1))));
}
