//! How long work in the background stands back after each of its steps when others write meanwhile: a node that catches up,
//! a copy for a new node. Without a pause it takes all of a processor and of the disk that it can get, and writers wait.

/// Writers are felt, and feel what goes on beside them, from so many writes a second on.
const WRITES_A_SECOND: u64 = 100;

/// How one kind of work stands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// So many times the length of a step is the pause behind it.
    pauses_for_step: u64,
    /// A short step works no longer than this, in milliseconds: what is above it is the way to the other node, where nobody is in
    /// anybody's way.
    step_ms: u64,
}

/// Of a node that catches up. Measured on two processors that three nodes share, with 64 writers: with less, their p99 rises to more
/// than twice what it was before, with more, the backlog hardly shrinks.
pub const ALIGNMENT: Manners = Manners { pauses_for_step: 6, step_ms: 40 };
/// Of a copy for a new node, whose steps are longer. Measured on two processors that four nodes share, with 16 writers: their p99
/// rises by a third.
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
    /// Whether the next step had better be short, for the sake of writers. Not where most of its time would be on the way.
    pub fn short_steps(&self) -> bool {
        self.short_steps
    }

    /// The pause behind a step, in milliseconds. None when hardly anybody wrote meanwhile, and none unless less is left than ever
    /// before: what others write in the pauses must not come faster than it is taken in.
    pub fn pause_ms(&mut self, manners: Manners, step: Step) -> u64 {
        let since_ms =
            self.ended_ms.replace(step.now_ms).map_or(step.took_ms, |before| step.now_ms.saturating_sub(before));
        let beside_writers = step.writes > 0 && step.writes * 1_000 >= since_ms * WRITES_A_SECOND;
        let shrinks = self.least.is_none_or(|least| step.remaining < least);
        if step.remaining == 0 {
            *self = Self::default();
            return 0;
        }
        if shrinks {
            self.least = Some(step.remaining);
        }
        let was_short = std::mem::take(&mut self.short_steps);
        if !beside_writers || !shrinks {
            return 0;
        }
        self.short_steps = !was_short || step.took_ms <= manners.step_ms;
        step.took_ms.clamp(1, manners.step_ms) * manners.pauses_for_step
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
        assert_eq!(pause_ms(&mut pace, 0, 5, 0, 1_000), 0, "nobody else is there");
        assert_eq!(pause_ms(&mut pace, 1_000, 5, 10, 900), 0, "ten writes in a second are hardly anybody");
        assert!(!pace.short_steps());
        assert_eq!(pause_ms(&mut pace, 1_010, 5, 10, 800), 5 * ALIGNMENT.pauses_for_step);
        assert!(pace.short_steps());
        assert_eq!(pause_ms(&mut pace, 1_020, 5, 10, 800), 0, "as much is left as before");
        assert!(!pace.short_steps(), "and steps are long: it must not fall behind");
        assert_eq!(pause_ms(&mut pace, 1_030, 5, 10, 850), 0, "even more is left");
        assert_eq!(
            pause_ms(&mut pace, 1_040, 0, 10, 700),
            ALIGNMENT.pauses_for_step,
            "a step of less than a millisecond"
        );
        assert_eq!(pause_ms(&mut pace, 1_050, 5, 10, 0), 0, "it is done");
        assert_eq!(pause_ms(&mut pace, 1_060, 5, 10, 5_000), 5 * ALIGNMENT.pauses_for_step, "and begins anew");
    }

    #[test]
    fn time_on_the_way_is_nobodys_and_steps_over_a_long_way_are_long() {
        let mut pace = Pace::default();
        let most_ms = ALIGNMENT.step_ms * ALIGNMENT.pauses_for_step;
        assert_eq!(pause_ms(&mut pace, 0, 200, 1_000, 1_000), most_ms);
        assert!(pace.short_steps(), "it may have been so long because it was much");
        assert_eq!(pause_ms(&mut pace, 400, 180, 1_000, 900), most_ms);
        assert!(!pace.short_steps(), "a short one takes as long");
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
