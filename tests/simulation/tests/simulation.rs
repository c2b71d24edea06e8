//! Schedules of whole nodes: new ones for a while, all that ever broke a promise, and that a seed gives the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use coequal_simulation::faults::FaultKind;
use coequal_simulation::plan::{Length, Plan, Templates};
use coequal_simulation::report::Statistics;
use coequal_simulation::schedule::{run, run_plan};
use coequal_simulation::search::{Bounds, run_many};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long new seeds are searched.
const SEARCH: Duration = Duration::from_secs(40);
/// Fewer than this in that time say nothing; a machine that is busy with other things runs few.
const SCHEDULES_MIN: u64 = 20;
/// Schedules that meet another database of the same name.
const NAMESAKES: usize = 25;
/// Schedules in which a machine is there twice.
const DOUBLES: usize = 25;
/// Schedules that lose a majority for good.
const RECOVERIES: usize = 25;

#[test]
fn simulation_the_same_seed_gives_the_same_events() {
    for seed in 1..30 {
        let (first, second) =
            (run(seed, &mut Templates::default(), false), run(seed, &mut Templates::default(), false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.statistics, second.statistics, "seed {seed}");
        assert_eq!(first.violation, second.violation, "seed {seed}");
    }
}

#[test]
fn simulation_new_schedules_break_no_promise() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = u64::try_from(clock.as_micros()).expect("a clock of this age");
    println!("seed {seed}");
    let bounds = Bounds { schedules: u64::MAX, time: SEARCH, threads: 2, length: Length::Full };
    let (statistics, found) = run_many(seed, bounds, true);
    println!("{statistics}");
    assert!(found.is_empty(), "seed {seed}: {found:?}");
    assert!(statistics.schedules >= SCHEDULES_MIN, "only {} schedules", statistics.schedules);
}

#[test]
fn simulation_survivors_go_on_and_the_lost_stay_out() {
    let (mut templates, mut statistics) = (Templates::default(), Statistics::default());
    for seed in (1..400).filter(|seed| Plan::new(*seed).majority_lost.is_some()).take(RECOVERIES) {
        let outcome = run(seed, &mut templates, false);
        assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
        statistics.add(&outcome.statistics);
    }
    let count = |kind| statistics.faults.get(&kind).copied().unwrap_or(0);
    assert_eq!(count(FaultKind::ForcedRecovery), RECOVERIES as u64);
    assert!(
        count(FaultKind::RecoveryRefused) >= RECOVERIES as u64,
        "the lost were given up while they had hardly gone"
    );
    assert!(count(FaultKind::LostCameBack) >= RECOVERIES as u64);
    assert!(count(FaultKind::AcknowledgedLost) > 0, "no schedule lost what only lost machines had");
    assert_eq!(count(FaultKind::LostSetAside), count(FaultKind::LostCameBack));
}

#[test]
fn simulation_a_namesake_is_a_conflict_and_nothing_of_it_is_mixed_in() {
    let (mut templates, mut statistics) = (Templates::default(), Statistics::default());
    let meets = |seed: &u64| Plan::new(*seed).faults.iter().any(|(_, fault)| fault.kind.is_namesake());
    for seed in (1..1_000).filter(meets).take(NAMESAKES) {
        let outcome = run(seed, &mut templates, false);
        assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
        statistics.add(&outcome.statistics);
    }
    let count = |kind| statistics.faults.get(&kind).copied().unwrap_or(0);
    let (brought, restored) = (count(FaultKind::NamesakeBrought), count(FaultKind::NamesakeRestored));
    assert!(brought > 0 && restored > 0, "{statistics}");
    assert!(count(FaultKind::NamesakeInConflict) >= brought + restored, "{statistics}");
}

#[test]
fn simulation_a_copied_data_directory_is_refused_and_loses_nothing() {
    let (mut templates, mut statistics) = (Templates::default(), Statistics::default());
    let copies = |seed: &u64| Plan::new(*seed).faults.iter().any(|(_, fault)| fault.kind == FaultKind::DoubleStarted);
    for seed in (1..2_000).filter(copies).take(DOUBLES) {
        let outcome = run(seed, &mut templates, false);
        assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
        statistics.add(&outcome.statistics);
    }
    let count = |kind| statistics.faults.get(&kind).copied().unwrap_or(0);
    let started = count(FaultKind::DoubleStarted);
    assert!(started > DOUBLES as u64 / 2, "{statistics}");
    assert!(count(FaultKind::IdentityRefused) >= started, "{statistics}");
}

#[test]
fn simulation_seeds_that_once_broke_a_promise_break_none() {
    let mut templates = Templates::default();
    for line in include_str!("../seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (length, rest) = line.strip_prefix("short ").map_or((Length::Full, line), |rest| (Length::Short, rest));
        let seed = rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a seed");
        let outcome = run_plan(Plan::of(seed, length), &mut templates, false);
        assert!(outcome.violation.is_none(), "seed {line}: {:?}", outcome.violation);
    }
}
