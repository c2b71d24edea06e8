//! How much one pull of a feed asks for: what comes within the time after which it would be asked for again.

const FIRST: u32 = 128 << 10;
const LEAST: u32 = 16 << 10;
const MOST: u32 = 1 << 20;
/// An answer that came as fast as this could have been twice as long.
const FAST_MS: u64 = 500;

/// Bytes that the next pull of one source asks for. A pull that was not answered in time is halved, so that a way of any
/// speed carries answers that are still waited for; one whose answer was fast is doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullSize(u32);

impl Default for PullSize {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl PullSize {
    /// Bytes, roughly; one entry is answered however long it is.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// Entries whose bodies are asked for at once, where bodies are asked for by key.
    pub fn keys(self) -> usize {
        self.0 as usize / 256
    }

    /// An answer came after `took_ms`; `more` when it was as long as it might be.
    pub fn answered(&mut self, took_ms: u64, more: bool) {
        if more && took_ms <= FAST_MS {
            self.0 = (self.0 * 2).min(MOST);
        }
    }

    /// No answer came in time.
    pub fn unanswered(&mut self) {
        self.0 = (self.0 / 2).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pulls over a way that carries so many bytes a second, after which the last of 30 took so long.
    fn last_of_thirty(bytes_per_second: u64, patience_ms: u64, latency_ms: u64) -> (PullSize, u64) {
        let (mut size, mut last_ms) = (PullSize::default(), 0);
        for _ in 0..30 {
            last_ms = latency_ms + u64::from(size.bytes()) * 1000 / bytes_per_second;
            if last_ms <= patience_ms {
                size.answered(last_ms, true);
            } else {
                size.unanswered();
            }
        }
        (size, last_ms)
    }

    #[test]
    fn over_a_fast_way_pulls_are_as_long_as_can_be_however_late_answers_begin() {
        for latency_ms in [0, 100, 400] {
            assert_eq!(last_of_thirty(100 << 20, 2000, latency_ms).0.bytes(), MOST);
        }
        // Late, but answered: asking for less would only be slower.
        assert_eq!(last_of_thirty(100 << 20, 2000, 1500).0.bytes(), FIRST);
    }

    #[test]
    fn over_a_slow_way_pulls_are_answered_in_time() {
        for bytes_per_second in [20 << 10, 64 << 10, 250 << 10, 1 << 20] {
            let (size, took_ms) = last_of_thirty(bytes_per_second, 2000, 50);
            assert!(took_ms <= 2000, "{bytes_per_second}: {took_ms} ms with {size:?}");
        }
    }

    #[test]
    fn a_pull_without_more_to_come_says_nothing_about_the_way() {
        let mut size = PullSize::default();
        size.answered(1, false);
        assert_eq!(size, PullSize::default());
        (0..40).for_each(|_| size.unanswered());
        assert_eq!(size.bytes(), LEAST);
    }
}
