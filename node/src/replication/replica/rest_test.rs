//! How often a replica looks around: seldom at rest, and at once when something begins.

use super::driven_test::{Driven, EPOCH, OTHER, WALL_MS, configuration, key};
use super::{Now, TICK_MS};
use coequal_protocol::Message;
use coequal_types::DatabaseStatus;

/// The only voter, aligned, with nothing to do.
fn at_rest() -> Driven {
    let mut driven = Driven::voting(configuration(EPOCH, 1));
    driven.passes(1_000);
    assert_eq!(driven.replica.view_status(), DatabaseStatus::Online);
    driven.sends();
    driven
}

impl Driven {
    /// One turn of the loop; how long it may sleep then.
    fn may_sleep_ms(&mut self) -> u64 {
        self.replica.advance(Now { monotonic_ms: self.now_ms, unix_ms: WALL_MS + self.now_ms });
        self.replica.next_due_ms().saturating_sub(self.now_ms)
    }
}

#[test]
fn at_rest_it_looks_around_seldom_and_while_a_write_is_under_way_often() {
    let mut driven = at_rest();
    driven.now_ms += 1_000;
    assert!(driven.may_sleep_ms() > 5 * TICK_MS);
    driven.now_ms += 1;
    let outcome = driven.writes(key(), 5_000);
    assert!(driven.may_sleep_ms() <= TICK_MS);
    driven.commit();
    driven.passes(1_000);
    assert!(outcome.lock().unwrap().as_ref().is_some_and(Result::is_ok));
    driven.now_ms += 1_000;
    assert!(driven.may_sleep_ms() > 5 * TICK_MS, "at rest again");
}

#[test]
fn a_peer_that_comes_or_goes_is_no_rest() {
    let mut driven = at_rest();
    for reachable in [true, false] {
        driven.reaches(OTHER, reachable);
        assert!(driven.replica.next_due_ms() <= driven.now_ms, "contact is looked at now");
        driven.passes(500);
    }
}

#[test]
fn a_request_that_is_held_is_answered_in_time_at_rest_too() {
    let mut driven = at_rest();
    driven.may_sleep_ms();
    let (feed, after) = (driven.store.feed_id(), driven.store.feed_head());
    let (request, own_feed) = (7, 1);
    let (entries_max, bytes_max, bodies, durable) = (100, 1_000_000, false, 0);
    driven
        .hears(OTHER, Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies, own_feed, durable });
    let begun_ms = driven.now_ms;
    let answered = |driven: &mut Driven| driven.sends().iter().any(|(_, m)| matches!(m, Message::FeedBatch { .. }));
    while !answered(&mut driven) {
        let sleeps_ms = driven.may_sleep_ms();
        assert!(sleeps_ms > 0, "it must not keep its loop awake");
        driven.now_ms += sleeps_ms;
        driven.may_sleep_ms();
        assert!(driven.now_ms <= begun_ms + 500);
    }
    assert_eq!(driven.now_ms, begun_ms + 500);
}
