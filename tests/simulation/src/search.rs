//! Schedules, one after the other, until one breaks a promise.

use crate::history::Violation;
use crate::plan::{Length, Plan, Templates};
use crate::random::mix;
use crate::report::Statistics;
use crate::schedule::{Outcome, run, run_plan};
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
    /// How long each schedule is.
    pub length: Length,
}

/// What a search tells while it goes on.
pub enum Told<'a> {
    /// A violation, as soon as it is found.
    Found(&'a Found),
    /// The counts so far, about once a minute.
    Progress(&'a Statistics),
}

/// How often a search tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// The seed of a search's n-th schedule.
pub fn seed_of(seed: u64, number: u64) -> u64 {
    // The seed itself comes first, so that a search that begins with a found seed finds it again. The others are far from
    // those of the next seed's search, which would be the same schedules else.
    if number == 0 { seed } else { mix(mix(seed).wrapping_add(number)) }
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
    run_many_telling(seed, bounds, stop, &|_| {})
}

struct Gathered {
    statistics: Statistics,
    found: Vec<Found>,
    told_at: Instant,
}

/// The same, and tells how it goes: for searches of a night.
pub fn run_many_telling(
    seed: u64,
    bounds: Bounds,
    stop: bool,
    tell: &(dyn Fn(Told<'_>) + Sync),
) -> (Statistics, Vec<Found>) {
    let (next, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let gathered = Mutex::new(Gathered { statistics: Statistics::default(), found: Vec::new(), told_at: began });
    let until = began + bounds.time;
    std::thread::scope(|scope| {
        for _ in 0..bounds.threads.max(1) {
            scope.spawn(|| {
                let mut templates = Templates::default();
                while !ended.load(Ordering::Relaxed) && Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= bounds.schedules {
                        break;
                    }
                    let plan = Plan::of(seed_of(seed, number), bounds.length);
                    let outcome = run_plan(plan, &mut templates, false);
                    let mut all = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                    all.statistics.add(&outcome.statistics);
                    if let Some(violation) = outcome.violation {
                        ended.fetch_or(stop, Ordering::Relaxed);
                        let found = Found { seed: outcome.seed, schedules: number + 1, violation };
                        tell(Told::Found(&found));
                        all.found.push(found);
                    }
                    if all.told_at.elapsed() >= PROGRESS_EVERY {
                        all.told_at = Instant::now();
                        tell(Told::Progress(&all.statistics));
                    }
                }
            });
        }
    });
    let Gathered { statistics, found, .. } = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
    (statistics, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn searches_of_neighbouring_seeds_share_no_schedule() {
        let all = |seed| (0..10_000).map(|number| seed_of(seed, number)).collect::<BTreeSet<u64>>();
        assert!(all(20_261_204).is_disjoint(&all(20_261_205)));
    }
}
