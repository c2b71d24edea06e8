//! What a replica says, and what it lets count, when epochs differ (I3, I5, I6).

use super::driven_test::{
    Driven, EPOCH, ME, OTHER, THIRD, ballot_of_other, configuration, is_answer_of, key, requests,
};
use coequal_protocol::message::Message;
use coequal_protocol::{Ballot, Register};
use coequal_types::{Configuration, LowBound, NodeId};

fn nothing_is_known_of_the_key(driven: &Driven) -> bool {
    driven.store.register(&key()).unwrap().0 == Register::default()
}

#[test]
fn an_acceptor_answers_only_requests_of_its_own_epoch() {
    for epoch in [EPOCH - 1, EPOCH + 1] {
        let mut driven = Driven::voting(configuration(EPOCH, 3));
        for request in requests(epoch) {
            driven.hears(OTHER, request.clone());
            let sent = driven.sends_durably();
            let refuses = |(to, message): &(NodeId, Message)| {
                *to == OTHER && matches!(message, Message::StaleEpoch { epoch: EPOCH, .. })
            };
            assert!(sent.len() == 1 && sent.iter().all(refuses), "{request:?}: {sent:?}");
        }
        assert!(nothing_is_known_of_the_key(&driven), "epoch {epoch}");
    }
}

#[test]
fn an_acceptor_answers_each_request_of_its_epoch() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    for request in requests(EPOCH) {
        driven.hears(OTHER, request.clone());
        let sent = driven.sends_durably();
        assert!(sent.len() == 1 && sent.iter().all(|(_, m)| is_answer_of(m, EPOCH)), "{request:?}: {sent:?}");
    }
}

#[test]
fn who_votes_no_more_answers_no_request() {
    let others = Configuration { voters: vec![OTHER, THIRD], ..configuration(EPOCH + 1, 3) };
    let learns = Configuration { learners: vec![ME], ..others.clone() };
    for after in [others, learns] {
        let mut driven = Driven::voting(configuration(EPOCH, 3));
        driven.adopts(after.clone());
        driven.sends_durably();
        for request in requests(EPOCH + 1) {
            driven.hears(OTHER, request.clone());
            let sent = driven.sends_durably();
            assert!(sent.is_empty(), "{request:?} under {after:?}: {sent:?}");
        }
        assert!(nothing_is_known_of_the_key(&driven), "{after:?}");
    }
}

/// The round that was begun with others.
fn prepared(sent: &[(NodeId, Message)]) -> Option<(u64, Ballot)> {
    sent.iter().find_map(|(_, message)| match message {
        Message::Prepare { epoch, ballot, .. } => Some((*epoch, *ballot)),
        _ => None,
    })
}

/// What the other node is asked to accept.
fn proposed(sent: &[(NodeId, Message)]) -> Option<(u64, Ballot)> {
    sent.iter().find_map(|(to, message)| match message {
        Message::Accept { epoch, ballot, .. } if *to == OTHER => Some((*epoch, *ballot)),
        _ => None,
    })
}

fn promised(epoch: u64, ballot: Ballot) -> Message {
    Message::Promised { epoch, key: key(), ballot, held: None, chosen: true }
}

fn accepted(epoch: u64, ballot: Ballot) -> Message {
    Message::Accepted { epoch, key: key(), ballot }
}

#[test]
fn a_coordinator_counts_only_answers_of_its_own_epoch() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    let outcome = driven.writes(key(), 60_000);
    let (_, ballot) = prepared(&driven.sends_durably()).unwrap();
    for epoch in [EPOCH - 1, EPOCH + 1] {
        driven.hears(OTHER, promised(epoch, ballot));
        driven.hears(THIRD, promised(epoch, ballot));
        assert_eq!(proposed(&driven.sends_durably()), None, "promises of epoch {epoch}");
    }
    driven.hears(OTHER, promised(EPOCH, ballot));
    assert_eq!(proposed(&driven.sends_durably()), Some((EPOCH, ballot)));
    for epoch in [EPOCH - 1, EPOCH + 1] {
        driven.hears(OTHER, accepted(epoch, ballot));
        driven.hears(THIRD, accepted(epoch, ballot));
        driven.commit();
        assert!(outcome.lock().unwrap().is_none(), "accepts of epoch {epoch}");
    }
    driven.hears(THIRD, accepted(EPOCH, ballot));
    driven.commit();
    assert!(matches!(*outcome.lock().unwrap(), Some(Ok(_))));
}

#[test]
fn promises_from_before_a_new_epoch_do_not_count_under_it() {
    let mut driven = Driven::voting(configuration(EPOCH, 5));
    driven.writes(key(), 60_000);
    let (_, before) = prepared(&driven.sends_durably()).unwrap();
    driven.hears(OTHER, promised(EPOCH, before));
    driven.adopts(configuration(EPOCH + 1, 5));
    let sent = driven.sends_durably();
    // With this node's own promise and the other's, one more makes a majority of five.
    driven.hears(THIRD, promised(EPOCH + 1, before));
    assert_eq!(proposed(&driven.sends_durably()), None);
    let (epoch, ballot) = prepared(&sent).expect("a round under the new epoch");
    assert!(epoch == EPOCH + 1 && ballot > before, "{epoch}: {ballot} after {before}");
    driven.hears(OTHER, promised(epoch, ballot));
    driven.hears(THIRD, promised(epoch, ballot));
    assert_eq!(proposed(&driven.sends_durably()), Some((epoch, ballot)));
}

#[test]
fn accepts_from_before_a_new_epoch_do_not_count_under_it() {
    let mut driven = Driven::voting(configuration(EPOCH, 5));
    let outcome = driven.writes(key(), 60_000);
    let (_, before) = prepared(&driven.sends_durably()).unwrap();
    driven.hears(OTHER, promised(EPOCH, before));
    driven.hears(THIRD, promised(EPOCH, before));
    assert_eq!(proposed(&driven.sends_durably()), Some((EPOCH, before)));
    driven.hears(OTHER, accepted(EPOCH, before));
    driven.adopts(configuration(EPOCH + 1, 5));
    driven.commit();
    driven.hears(THIRD, accepted(EPOCH + 1, before));
    driven.commit();
    assert!(outcome.lock().unwrap().is_none());
}

/// A forced recovery gave it up: what it began must not go on among the survivors, by a read or a write.
#[test]
fn who_was_given_up_drops_what_it_began() {
    for epoch in [1 << 32, (1 << 32) + 1] {
        let mut driven = Driven::voting(configuration(EPOCH, 3));
        let written = driven.writes(key(), 60_000);
        let read = driven.reads(key(), 60_000);
        assert!(prepared(&driven.sends_durably()).is_some());
        let survivors = Configuration { voters: vec![OTHER], excluded: vec![ME, THIRD], ..configuration(epoch, 3) };
        driven.adopts(survivors);
        driven.passes(1_000);
        let sent = driven.sends_durably();
        let has_a_part = |message: &Message| {
            matches!(message, Message::Prepare { .. } | Message::Accept { .. } | Message::Query { .. })
        };
        assert!(!sent.iter().any(|(_, message)| has_a_part(message)), "{sent:?}");
        assert!(matches!(*written.lock().unwrap(), Some(Err(_))));
        assert!(matches!(*read.lock().unwrap(), Some(Err(_))));
    }
}

#[test]
fn nothing_is_said_under_an_epoch_that_is_not_on_disk() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    // What is asked about is on disk already, so that its answers wait for the epoch alone.
    let [prepare, accept, _] = requests(EPOCH);
    driven.hears(OTHER, prepare);
    driven.hears(OTHER, accept);
    driven.sends_durably();
    driven.adopts(configuration(EPOCH + 1, 3));
    let [_, accept, query] = requests(EPOCH + 1);
    let sample = Message::Sample { alignment: 1, epoch: EPOCH + 1, feed: 0, after: 0 };
    for request in [accept, query, sample] {
        driven.hears(OTHER, request);
    }
    let early: Vec<_> = driven.sends().into_iter().filter(|(_, m)| is_answer_of(m, EPOCH + 1)).collect();
    assert!(early.is_empty(), "before the epoch is on disk: {early:?}");
    let late = driven.sends_durably().into_iter().filter(|(_, m)| is_answer_of(m, EPOCH + 1)).count();
    assert_eq!(late, 3);
    assert_eq!(driven.restarted().replica.epochs().0, EPOCH + 1, "what was told is known after a loss of power");
}

/// Section 10: nothing at or below the agreed bound is promised or taken, whatever happens to the node meanwhile.
#[test]
fn a_restarted_node_holds_itself_to_the_low_bound() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    let bound = ballot_of_other().time;
    let low_bound = LowBound { agreed: bound, collected: bound };
    driven.adopts(Configuration { low_bound, ..configuration(EPOCH + 1, 3) });
    driven.commit();
    let mut driven = driven.restarted();
    let [prepare, accept, _] = requests(EPOCH + 1);
    for request in [prepare, accept] {
        driven.hears(OTHER, request.clone());
        let sent = driven.sends_durably();
        let refuses = |(_, message): &(NodeId, Message)| matches!(message, Message::Refused { promised, .. } if promised.time >= bound);
        assert!(sent.len() == 1 && sent.iter().all(refuses), "{request:?}: {sent:?}");
    }
    assert!(nothing_is_known_of_the_key(&driven));
    let outcome = driven.writes(key(), 60_000);
    let (_, ballot) = prepared(&driven.sends_durably()).unwrap();
    assert!(ballot.time > bound && outcome.lock().unwrap().is_none(), "its own rounds begin above the bound");
}
