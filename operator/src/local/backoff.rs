//! How long a replica that ended by itself waits for its next start.

use std::time::Duration;

/// Health that lets earlier failures be forgotten.
pub const HEALTHY_FOR: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 1 s to 30 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure: how long to wait now.
    pub fn after_failure(&mut self) -> Duration {
        let seconds = 1u64 << self.failures.min(5);
        self.failures = self.failures.saturating_add(1);
        Duration::from_secs(seconds).min(LONGEST)
    }

    /// Forgets the failures of a replica that has been healthy for long enough.
    pub fn note_healthy(&mut self, healthy_for: Duration) {
        if healthy_for >= HEALTHY_FOR {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_half_a_minute_and_health_resets_it() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.after_failure().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        backoff.note_healthy(Duration::from_secs(59));
        assert_eq!(backoff.after_failure().as_secs(), 30);
        backoff.note_healthy(HEALTHY_FOR);
        assert_eq!(backoff.after_failure().as_secs(), 1);
    }
}
