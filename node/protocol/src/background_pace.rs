//! How long work in the background stands back after each of its steps when others write meanwhile: a node that catches up,
//! a copy for a new node. Without a pause it takes all of a processor and of the disk that it can get, and writers wait.

/// So many times the length of a step is the pause behind it.
const PAUSE_FOR_STEP: u64 = 3;
/// However long a step took: with a pause longer than this nobody would see that anything goes on.
const PAUSE_MAX_MS: u64 = 250;

/// The least that was left at any step so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    least: Option<u64>,
    stands_back: bool,
}

impl Pace {
    /// Whether others wrote in the last step: then the next one had better be short.
    pub fn stands_back(&self) -> bool {
        self.stands_back
    }

    /// The pause after a step that took `took_ms`, with so much left. None when nobody wrote meanwhile, and none unless less is
    /// left than ever before: what others write in the pauses must not come faster than it is taken in.
    pub fn pause_ms(&mut self, took_ms: u64, others_wrote: bool, remaining: u64) -> u64 {
        self.stands_back = others_wrote && remaining > 0;
        if remaining == 0 {
            *self = Self::default();
            return 0;
        }
        if self.least.is_some_and(|least| least <= remaining) {
            return 0;
        }
        self.least = Some(remaining);
        if self.stands_back { took_ms.saturating_mul(PAUSE_FOR_STEP).min(PAUSE_MAX_MS) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_back_only_beside_writers_and_while_less_and_less_is_left() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause_ms(10, false, 1_000), 0, "nobody else is there");
        assert_eq!(pace.pause_ms(10, true, 900), 10 * PAUSE_FOR_STEP);
        assert_eq!(pace.pause_ms(10, true, 900), 0, "as much is left as before");
        assert_eq!(pace.pause_ms(10, true, 950), 0, "even more is left");
        assert_eq!(pace.pause_ms(10, true, 800), 10 * PAUSE_FOR_STEP);
        assert_eq!(pace.pause_ms(60_000, true, 700), PAUSE_MAX_MS);
        assert_eq!(pace.pause_ms(10, true, 0), 0, "it is done");
        assert_eq!(pace.pause_ms(10, true, 5_000), 10 * PAUSE_FOR_STEP, "and begins anew");
    }

    /// However fast others write, as long as a step takes in more than they write while it lasts, the end comes.
    #[test]
    fn a_backlog_shrinks_though_others_write() {
        for written_each_ms in [0, 1, 10, 40] {
            let (mut pace, mut left, mut at_ms) = (Pace::default(), 100_000_u64, 0);
            while left > 0 && at_ms < 3_600_000 {
                let step_ms = 10;
                left = (left + step_ms * written_each_ms).saturating_sub(512);
                let pause_ms = pace.pause_ms(step_ms, written_each_ms > 0, left);
                left += pause_ms * written_each_ms;
                at_ms += step_ms + pause_ms;
            }
            assert_eq!(left, 0, "{written_each_ms} entries a millisecond");
        }
    }
}
