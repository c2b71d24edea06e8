//! The clocks of one machine: they drift, and the wall clock jumps; the monotonic one never goes back.

use coequal_node::replication::replica::Now;

/// The wall clock where the schedule begins, in Unix milliseconds.
const BEGIN_UNIX_MS: i64 = 1_750_000_000_000;

/// Both clocks of a machine, as a line through a point that moves whenever somebody touches them.
#[derive(Debug, Clone)]
pub struct SimClock {
    at_us: u64,
    monotonic_us: u64,
    unix_us: i64,
    drift_ppm: i64,
}

impl SimClock {
    /// Clocks that are `ahead_ms` off at the beginning.
    pub fn new(ahead_ms: i64) -> Self {
        Self { at_us: 0, monotonic_us: 1_000_000, unix_us: (BEGIN_UNIX_MS + ahead_ms) * 1000, drift_ppm: 0 }
    }

    /// What they show.
    pub fn now(&self, at_us: u64) -> Now {
        let passed = self.passed_us(at_us);
        let unix_ms = u64::try_from((self.unix_us + passed) / 1000).unwrap_or(0);
        Now { monotonic_ms: (self.monotonic_us + passed.unsigned_abs()) / 1000, unix_ms }
    }

    fn passed_us(&self, at_us: u64) -> i64 {
        let passed = i64::try_from(at_us.saturating_sub(self.at_us)).unwrap_or(i64::MAX);
        passed + passed / 1000 * self.drift_ppm / 1000
    }

    fn hold(&mut self, at_us: u64) {
        let passed = self.passed_us(at_us);
        self.monotonic_us += passed.unsigned_abs();
        self.unix_us += passed;
        self.at_us = at_us;
    }

    /// From now on they run faster or slower by so many millionths.
    pub fn drift(&mut self, at_us: u64, ppm: i64) {
        self.hold(at_us);
        self.drift_ppm = ppm;
    }

    /// Somebody sets the wall clock.
    pub fn jump(&mut self, at_us: u64, by_ms: i64) {
        self.hold(at_us);
        self.unix_us += by_ms * 1000;
    }

    /// How long it really takes until the monotonic clock shows `monotonic_ms`, in microseconds.
    pub fn until_us(&self, at_us: u64, monotonic_ms: u64) -> u64 {
        let now_ms = self.now(at_us).monotonic_ms;
        let left_us = monotonic_ms.saturating_sub(now_ms).min(3_600_000) * 1000;
        let slower = i64::try_from(left_us / 1000).unwrap_or(0) * self.drift_ppm / 1000;
        left_us.saturating_add_signed(-slower)
    }
}
