//! How long work in the background stands back after each of its steps when others write meanwhile: a node that catches up,
//! a copy for a new node. Without a pause it takes all of a processor and of the disk that it can get, and writers wait.

/// Writers are felt, and feel what goes on beside them, from so many writes a second on.
const WRITES_A_SECOND: u64 = 100;

/// How one kind of work stands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// So many times the length of a step is the pause behind it.
    pauses_for_step: u64,
    /// A step counts as no longer than this, in milliseconds.
    step_ms: u64,
}

/// Of a node that catches up. Measured on two processors that three nodes share, with 64 writers: their p99 rises to 1.4 to 1.9
/// times what it was, without pauses to 1.8 to 3.4 times; the backlog takes two to three times as long, or longer when it is large.
pub const ALIGNMENT: Manners = Manners { pauses_for_step: 6, step_ms: 40 };
/// Of a copy for a new node, whose steps are longer, and longer than this only by the way to the donor, where nobody is in anybody's
/// way. Measured on two processors that four nodes share, with 16 writers: their p99 rises to
/// 1.3 to 2.3 times what it was, by the hour and the size of the copy; without pauses to 2.8 times.
pub const DEPLOY: Manners = Manners { pauses_for_step: 3, step_ms: 25 };

/// A step that has just ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, in monotonic milliseconds.
    pub now_ms: u64,
    /// How long it took; as far as that can be told apart, the work on it alone.
    pub took_ms: u64,
    /// What others wrote since the step before ended.
    pub writes: u64,
    /// How much is left to do.
    pub remaining: u64,
}

/// What the steps so far were like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    least: Option<u64>,
    ended_ms: Option<u64>,
    short_steps: bool,
}

impl Pace {
    /// Whether the next step had better be short, for the sake of writers.
    pub fn short_steps(&self) -> bool {
        self.short_steps
    }

    /// The pause behind a step, in milliseconds. None behind the first, none when hardly anybody wrote meanwhile, and none unless less
    /// is left than ever before: what others write in the pauses must not come faster than it is taken in.
    pub fn pause_ms(&mut self, manners: Manners, step: Step) -> u64 {
        let before_ms = self.ended_ms.replace(step.now_ms);
        if step.remaining == 0 {
            *self = Self { ended_ms: self.ended_ms, ..Self::default() };
            return 0;
        }
        let beside_writers = before_ms.is_some_and(|before_ms| {
            let since_ms = step.now_ms.saturating_sub(before_ms);
            step.writes > 0 && step.writes.saturating_mul(1_000) >= since_ms.saturating_mul(WRITES_A_SECOND)
        });
        let shrinks = self.least.is_none_or(|least| step.remaining < least);
        if shrinks {
            self.least = Some(step.remaining);
        }
        self.short_steps = beside_writers && shrinks;
        if self.short_steps { step.took_ms.clamp(1, manners.step_ms) * manners.pauses_for_step } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause_ms(pace: &mut Pace, now_ms: u64, took_ms: u64, writes: u64, remaining: u64) -> u64 {
        pace.pause_ms(ALIGNMENT, Step { now_ms, took_ms, writes, remaining })
    }

    #[test]
    fn it_stands_back_only_beside_writers_and_while_less_and_less_is_left() {
        let mut pace = Pace::default();
        assert_eq!(pause_ms(&mut pace, 0, 5, 10, 1_000), 0, "since when they wrote is not known");
        assert_eq!(pause_ms(&mut pace, 1_000, 5, 10, 900), 0, "ten writes in a second are hardly anybody");
        assert!(!pace.short_steps());
        assert_eq!(pause_ms(&mut pace, 1_010, 5, 10, 800), 5 * ALIGNMENT.pauses_for_step);
        assert!(pace.short_steps());
        assert_eq!(pause_ms(&mut pace, 1_020, 5, 10, 800), 0, "as much is left as before");
        assert!(!pace.short_steps(), "and steps are long: it must not fall behind");
        assert_eq!(pause_ms(&mut pace, 1_030, 5, 10, 850), 0, "even more is left");
        assert_eq!(pause_ms(&mut pace, 1_040, 0, 10, 700), ALIGNMENT.pauses_for_step, "less than a millisecond");
        assert_eq!(pause_ms(&mut pace, 1_050, 5_000, 10, 600), ALIGNMENT.step_ms * ALIGNMENT.pauses_for_step);
        assert_eq!(pause_ms(&mut pace, 1_060, 5, 0, 500), 0, "nobody writes");
        assert_eq!(pause_ms(&mut pace, 1_070, 5, 10, 0), 0, "it is done");
        assert_eq!(pause_ms(&mut pace, 1_080, 5, 10, 5_000), 5 * ALIGNMENT.pauses_for_step, "and begins anew");
        assert_eq!(pause_ms(&mut pace, 1_090, u64::MAX, u64::MAX, 1), ALIGNMENT.step_ms * ALIGNMENT.pauses_for_step);
    }

    /// However fast others write, as long as a step takes in more than they write while it lasts, the end comes.
    #[test]
    fn a_backlog_shrinks_though_others_write() {
        for written_each_ms in [0, 1, 10, 40] {
            let (mut pace, mut left, mut at_ms, mut paused_ms, mut written) = (Pace::default(), 100_000_u64, 0, 0, 0);
            while left > 0 && at_ms < 3_600_000 {
                let (entries, took_ms) = if pace.short_steps() { (128, 3) } else { (512, 10) };
                written += took_ms * written_each_ms;
                at_ms += took_ms;
                left = (left + took_ms * written_each_ms).saturating_sub(entries);
                let step = Step { now_ms: at_ms, took_ms, writes: std::mem::take(&mut written), remaining: left };
                let pause_ms = pace.pause_ms(ALIGNMENT, step);
                left += pause_ms * written_each_ms;
                written += pause_ms * written_each_ms;
                at_ms += pause_ms;
                paused_ms += pause_ms;
            }
            assert_eq!(left, 0, "{written_each_ms} entries a millisecond");
            assert_eq!(paused_ms > 0, written_each_ms > 0, "{paused_ms}");
        }
    }
}
