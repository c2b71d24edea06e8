//! The one place of this room that looks at a clock.

use super::replica::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The node's clocks.
#[derive(Debug, Clone, Copy)]
pub struct NodeClock {
    started: Instant,
}

impl Default for NodeClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl NodeClock {
    /// Both clocks now.
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: millis(self.started.elapsed()), unix_ms: millis(since_epoch) }
    }

    /// A deadline in the replica's monotonic milliseconds.
    pub fn deadline_ms(&self, deadline: Instant) -> u64 {
        millis(deadline.saturating_duration_since(self.started))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
