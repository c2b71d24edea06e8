//! `coequal-simulation`: searches schedules of whole nodes for one that breaks a promise, and says how much it searched.

use clap::Parser;
use coequal_simulation::plan::{Length, Plan, Templates};
use coequal_simulation::report::Statistics;
use coequal_simulation::report::say;
use coequal_simulation::schedule::run_plan;
use coequal_simulation::search::{Bounds, Found, Told, run_many_telling};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs whole nodes on a simulated network, clock and disk, with faults, and judges what clients saw.
#[derive(Debug, Parser)]
#[command(name = "coequal-simulation", version)]
struct Arguments {
    /// Schedules at most.
    #[arg(long, value_name = "N")]
    schedules: Option<u64>,
    /// Minutes at most, with a line about how far it is each minute (480: a night); 1 without --schedules.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Seed of the search; from the clock if it is not given.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Threads.
    #[arg(long, value_name = "T", default_value_t = 2)]
    threads: usize,
    /// Goes on after a violation and gathers all of them.
    #[arg(long)]
    all: bool,
    /// Short schedules: a third of the time and of the calls, with as many faults.
    #[arg(long)]
    short: bool,
    /// Runs the one schedule of this seed (with --short if it was found among short ones) and tells everything that happens.
    #[arg(long, value_name = "SEED")]
    trace: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let length = if arguments.short { Length::Short } else { Length::Full };
    if let Some(seed) = arguments.trace {
        let outcome = run_plan(Plan::of(seed, length), &mut Templates::default(), true);
        say(&format!("hash {:016x}\n{}", outcome.hash, outcome.statistics));
        return verdict(outcome.violation.is_none());
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(u64::try_from(clock.as_micros()).unwrap_or(1));
    let minutes = arguments.minutes.unwrap_or(if arguments.schedules.is_some() { 60.0 * 24.0 } else { 1.0 });
    let bounds = Bounds {
        schedules: arguments.schedules.unwrap_or(u64::MAX),
        time: Duration::from_secs_f64(minutes.max(0.0) * 60.0),
        threads: arguments.threads,
        length,
    };
    say(&format!("seed {seed}"));
    let began = Instant::now();
    let tell = |told: Told<'_>| match told {
        Told::Found(found) => say(&violation(found, length)),
        Told::Progress(statistics) => say(&progress(statistics, began)),
    };
    let (statistics, found) = run_many_telling(seed, bounds, !arguments.all, &tell);
    say(&statistics.to_string());
    say(&progress(&statistics, began));
    // Once more together: the first ones may have scrolled away in a night.
    found.iter().for_each(|one| say(&violation(one, length)));
    say(&format!("violations {}", found.len()));
    verdict(found.is_empty())
}

fn violation(found: &Found, length: Length) -> String {
    let short = if length == Length::Short { " --short" } else { "" };
    format!("VIOLATION {}\n  again: coequal-simulation{short} --trace {}", found.violation, found.seed)
}

fn progress(statistics: &Statistics, began: Instant) -> String {
    let seconds = began.elapsed().as_secs_f64();
    let Statistics { schedules, calls, .. } = statistics;
    let faults: u64 = statistics.faults.values().sum();
    let a_minute = *schedules as f64 * 60.0 / seconds;
    format!("{seconds:.1} s: {schedules} schedules ({a_minute:.0} a minute), {calls} calls of clients, {faults} faults")
}

fn verdict(fine: bool) -> ExitCode {
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
