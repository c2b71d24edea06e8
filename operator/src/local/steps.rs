//! The pace of steps that ask a node for something.

use crate::controller::decisions::Step;
use crate::nodes::{ClientError, done_words};
use std::time::{Duration, Instant};

/// Time before a refused step is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Pace of steps: one at a time, a refused one not at once again, and each reason told once.
#[derive(Debug)]
pub struct Pace {
    in_flight: bool,
    /// What was seen before this is from before the last change.
    pub changed_at: Instant,
    not_before: Instant,
    told: Option<String>,
}

impl Pace {
    /// Nothing was asked yet.
    pub fn new(now: Instant) -> Self {
        Self { in_flight: false, changed_at: now, not_before: now, told: None }
    }

    /// Whether the next step may be asked for.
    pub fn is_free(&self, now: Instant) -> bool {
        !self.in_flight && now >= self.not_before
    }

    /// A step is being asked for.
    pub fn begun(&mut self) {
        self.in_flight = true;
    }

    /// It was answered; gives what is to be told.
    pub fn ended(&mut self, step: &Step, result: &Result<(), ClientError>, now: Instant) -> Option<String> {
        self.in_flight = false;
        self.changed_at = now;
        match result {
            Ok(()) => {
                self.told = None;
                Some(done_words(step))
            }
            Err(error) => {
                self.not_before = now + AGAIN_AFTER;
                let reason = format!("not yet: {error}; trying again");
                let is_new = self.told.as_ref() != Some(&reason);
                self.told = Some(reason.clone());
                is_new.then_some(reason)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_tried_again_after_a_while() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let step = Step::Initialize("a-0".parse().unwrap());
        let refused = Err(ClientError::Refused { url: "u".to_owned(), status: 503, detail: "no quorum".to_owned() });
        pace.begun();
        assert!(!pace.is_free(now));
        let told = pace.ended(&step, &refused, now).unwrap();
        assert_eq!(told, "not yet: u answered 503: no quorum; trying again");
        assert!(!pace.is_free(now) && pace.is_free(now + AGAIN_AFTER));
        assert_eq!(pace.ended(&step, &refused, now), None);
        assert_eq!(pace.ended(&step, &Ok(()), now).unwrap(), "cluster initialised by a-0");
    }
}
