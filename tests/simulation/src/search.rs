//! Schedules, one after the other, until one breaks a promise.

use crate::history::Violation;
use crate::plan::Templates;
use crate::random::mix;
use crate::report::Statistics;
use crate::schedule::{Outcome, run};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A schedule that broke a promise.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its seed: `coequal-simulation --trace SEED` shows it again.
    pub seed: u64,
    /// How many schedules it took.
    pub schedules: u64,
    /// What was broken.
    pub violation: Violation,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Schedules at most.
    pub schedules: u64,
    /// Time at most.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
}

/// The seed of a search's n-th schedule.
pub fn seed_of(seed: u64, number: u64) -> u64 {
    // The seed itself comes first, so that a search that begins with a found seed finds it again.
    if number == 0 { seed } else { mix(seed.wrapping_add(number)) }
}

/// Runs schedules until a violation is found that `counts`, or `schedules` have run: for one fault to be hunted.
pub fn search(seed: u64, schedules: u64, mut counts: impl FnMut(&Violation) -> bool) -> Option<Found> {
    let mut templates = Templates::default();
    (0..schedules).find_map(|number| {
        let Outcome { seed, violation, .. } = run(seed_of(seed, number), &mut templates, false);
        let violation = violation.filter(|violation| counts(violation))?;
        Some(Found { seed, schedules: number + 1, violation })
    })
}

/// Runs schedules on several threads. With `stop` the first violation ends it; else all are gathered.
pub fn run_many(seed: u64, bounds: Bounds, stop: bool) -> (Statistics, Vec<Found>) {
    let (next, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let gathered = Mutex::new((Statistics::default(), Vec::new()));
    let until = Instant::now() + bounds.time;
    std::thread::scope(|scope| {
        for _ in 0..bounds.threads.max(1) {
            scope.spawn(|| {
                let mut templates = Templates::default();
                let mut own = Statistics::default();
                while !ended.load(Ordering::Relaxed) && Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= bounds.schedules {
                        break;
                    }
                    let outcome = run(seed_of(seed, number), &mut templates, false);
                    own.add(&outcome.statistics);
                    if let Some(violation) = outcome.violation {
                        ended.fetch_or(stop, Ordering::Relaxed);
                        let found = Found { seed: outcome.seed, schedules: number + 1, violation };
                        gathered.lock().unwrap_or_else(PoisonError::into_inner).1.push(found);
                    }
                }
                gathered.lock().unwrap_or_else(PoisonError::into_inner).0.add(&own);
            });
        }
    });
    gathered.into_inner().unwrap_or_else(PoisonError::into_inner)
}
