//! Hybrid logical clock (Kulkarni et al., 2014): close to physical time, never back, unique per node.
//!
//! Safety never depends on it; it makes ballots grow and gives them a time that people can read.

use crate::faults::{Fault, broken};

/// A peer ahead by no more than this is followed without a word.
pub const AHEAD_TOLERATED_MS: u64 = 500;
/// A peer ahead by more than this is not followed.
pub const AHEAD_REFUSED_MS: u64 = 3_600_000;

const COUNTER_BITS: u32 = 16;

/// What came of observing a peer's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Within tolerance.
    Fine,
    /// Followed, and worth a report: the peer is this many milliseconds ahead.
    Ahead(u64),
    /// Not followed: the peer is this many milliseconds ahead.
    Refused(u64),
}

/// The clock of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HybridClock {
    last: u64,
    last_jump: u64,
}

impl HybridClock {
    /// A clock that never gives a time at or below `floor` (what the node had reached before its restart).
    pub fn starting_above(floor: u64) -> Self {
        let last = if broken(Fault::ClockBackAfterRestart) { 0 } else { floor };
        Self { last, last_jump: 0 }
    }

    /// The highest time given so far.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A new time, above all given before, at or above the physical time.
    pub fn next(&mut self, physical_ms: u64) -> u64 {
        let step = u64::from(!broken(Fault::BallotReused));
        self.last = (self.last + step).max(physical_ms << COUNTER_BITS);
        self.last
    }

    /// A new time above `floor`. When `floor` is too far ahead to be followed, only this one time jumps: jumped
    /// times are unique among themselves, and the clock stays where it is.
    pub fn next_above(&mut self, floor: u64, physical_ms: u64) -> u64 {
        if self.observe(floor, physical_ms) == Observation::Refused(ahead_ms(floor, physical_ms)) {
            self.last_jump = self.last_jump.max(floor) + 1;
            return self.last_jump;
        }
        self.next(physical_ms)
    }

    /// Never gives a time at or below `floor` from now on. Only for a bound that the members agreed on: it is behind all of
    /// their clocks.
    pub fn raise(&mut self, floor: u64) {
        self.last = self.last.max(floor);
    }

    /// Follows a time seen elsewhere, within bounds.
    pub fn observe(&mut self, time: u64, physical_ms: u64) -> Observation {
        let ahead = ahead_ms(time, physical_ms);
        if ahead > AHEAD_REFUSED_MS && !broken(Fault::AbsurdClockFollowed) {
            return Observation::Refused(ahead);
        }
        self.last = self.last.max(time);
        if ahead > AHEAD_TOLERATED_MS { Observation::Ahead(ahead) } else { Observation::Fine }
    }
}

fn ahead_ms(time: u64, physical_ms: u64) -> u64 {
    (time >> COUNTER_BITS).saturating_sub(physical_ms)
}

/// Unix milliseconds of a hybrid time.
pub fn physical_ms(time: u64) -> u64 {
    time >> COUNTER_BITS
}

/// I1: times given by one clock grow.
pub fn invariant_times_grow(times: &[u64]) -> bool {
    times.windows(2).all(|pair| pair[0] < pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_while_the_physical_clock_stands_or_goes_back() {
        let mut clock = HybridClock::default();
        let times: Vec<u64> = [5, 5, 3, 9, 1].iter().map(|ms| clock.next(*ms)).collect();
        assert!(invariant_times_grow(&times), "{times:?}");
    }

    #[test]
    fn a_peer_far_ahead_is_reported_and_one_hours_ahead_is_not_followed() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.observe(1_400 << 16, 1_000), Observation::Fine);
        assert_eq!(clock.observe(2_000 << 16, 1_000), Observation::Ahead(1_000));
        let absurd = (1_000 + AHEAD_REFUSED_MS + 1) << 16;
        assert_eq!(clock.observe(absurd, 1_000), Observation::Refused(AHEAD_REFUSED_MS + 1));
        assert!(clock.next(1_000) < absurd);
    }

    #[test]
    fn going_above_an_absurd_ballot_gives_unique_times_and_leaves_the_clock() {
        let mut clock = HybridClock::default();
        let absurd = (AHEAD_REFUSED_MS * 9) << 16;
        let (first, second) = (clock.next_above(absurd, 1), clock.next_above(absurd, 1));
        assert!(absurd < first && first < second);
        assert!(clock.next(1) < absurd);
    }
}
