//! The hybrid clock: times grow and ballots are never used twice, whatever the physical clock does (I1).

#![allow(clippy::unwrap_used)]

mod common;

use coequal_protocol::Ballot;
use coequal_protocol::clock::{
    AHEAD_REFUSED_MS, AHEAD_TOLERATED_MS, HybridClock, Observation, invariant_times_grow, physical_ms,
};
use coequal_types::NodeId;
use proptest::prelude::*;
use std::collections::HashSet;

/// What happens to a clock.
#[derive(Debug, Clone)]
enum Event {
    Next(u64),
    Observe(u64, u64),
    NextAbove(u64, u64),
    Restart(bool),
}

fn any_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..50, 1_000u64..5_000, Just(1_000_000u64)]
}

fn any_time() -> impl Strategy<Value = u64> {
    // Near, some way ahead, and absurdly far ahead.
    prop_oneof![0u64..5_000, 4_000_000u64..9_000_000_000].prop_map(|ms| ms << 16)
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any_ms().prop_map(Event::Next),
        2 => (any_time(), any_ms()).prop_map(|(time, ms)| Event::Observe(time, ms)),
        2 => (any_time(), any_ms()).prop_map(|(floor, ms)| Event::NextAbove(floor, ms)),
        1 => any::<bool>().prop_map(Event::Restart),
    ]
}

proptest! {
    #[test]
    fn ordinary_times_grow_within_one_start(events in prop::collection::vec((any_time(), any_ms()), 1..60)) {
        let mut clock = HybridClock::default();
        let mut times = Vec::new();
        for (seen, ms) in events {
            clock.observe(seen, ms);
            times.push(clock.next(ms));
        }
        prop_assert!(invariant_times_grow(&times), "{:?}", times);
    }

    #[test]
    fn no_ballot_is_made_twice_across_restarts_and_jumps(events in prop::collection::vec(any_event(), 1..80)) {
        let (mut clock, mut incarnation, mut seen) = (HybridClock::default(), 1, HashSet::new());
        for event in events {
            let time = match event {
                Event::Next(ms) => clock.next(ms),
                Event::NextAbove(floor, ms) => {
                    let time = clock.next_above(floor, ms);
                    prop_assert!(time > floor, "{time} is not above {floor}");
                    time
                }
                Event::Observe(time, ms) => {
                    clock.observe(time, ms);
                    continue;
                }
                Event::Restart(forgets) => {
                    incarnation += 1;
                    clock = HybridClock::starting_above(if forgets { 0 } else { clock.last() });
                    continue;
                }
            };
            // A jumped time and an ordinary one may only meet when the physical clock comes to the jump.
            prop_assert!(seen.insert(Ballot::ordinary(time, NodeId(1), incarnation)), "{time} again");
        }
    }

    #[test]
    fn a_clock_never_follows_a_peer_beyond_the_bound(time in any_time(), ms in any_ms()) {
        let mut clock = HybridClock::default();
        let ahead = physical_ms(time).saturating_sub(ms);
        let expected = match ahead {
            _ if ahead > AHEAD_REFUSED_MS => Observation::Refused(ahead),
            _ if ahead > AHEAD_TOLERATED_MS => Observation::Ahead(ahead),
            _ => Observation::Fine,
        };
        prop_assert_eq!(clock.observe(time, ms), expected);
        prop_assert!(physical_ms(clock.last()).saturating_sub(ms) <= AHEAD_REFUSED_MS);
        let next = clock.next(ms);
        prop_assert!(next > time || matches!(expected, Observation::Refused(_)));
    }

    #[test]
    fn a_restarted_clock_is_above_what_was_reached(floor in any_time(), ms in any_ms()) {
        prop_assert!(HybridClock::starting_above(floor).next(ms) > floor);
    }
}
