//! A token bucket for bytes, paid behind: whoever finds the bucket in debt waits until it is paid.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// So much of a second may go out at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Bounds a rate of bytes. A message larger than the burst goes through and the next one waits for it.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: u64,
    /// When everything let through so far is paid for.
    paid_at: Mutex<Instant>,
}

impl Throttle {
    /// 0 is unlimited.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: Mutex::new(Instant::now()) }
    }

    /// Returns when `bytes` may go out.
    pub async fn pass(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        sleep_until(self.reserve(bytes, Instant::now())).await;
    }

    /// When `bytes` that come now may go out.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Time in which nothing was sent counts for a burst at most.
        let goes_at = (*paid_at).max(now.checked_sub(BURST).unwrap_or(now));
        *paid_at = goes_at + price;
        goes_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_lets_its_rate_through_and_one_burst_more() {
        let throttle = Throttle::new(1_000_000);
        let start = Instant::now() + Duration::from_secs(1);
        let last = (0..101).map(|_| throttle.reserve(10_000, start)).last();
        let waited = last.map(|at| at.saturating_duration_since(start));
        assert_eq!(waited, Some(Duration::from_millis(900)));
    }

    #[test]
    fn a_message_beyond_the_burst_goes_at_once_and_is_paid_by_the_next() {
        let throttle = Throttle::new(1_000_000);
        let start = Instant::now() + Duration::from_secs(1);
        assert!(throttle.reserve(5_000_000, start) <= start);
        assert!(throttle.reserve(1, start) >= start + Duration::from_millis(4_900));
    }
}
