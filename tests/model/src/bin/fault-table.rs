//! Prints who finds each deliberate fault, and which are found by nobody.
//!
//! `fault-table [--all] [--only NAME] [--simulation PROGRAM] [TEST-PROGRAM…]`: with `--all` every finder is asked, else the
//! first that finds it is enough: test programs (built with the feature `deliberate-faults`; COEQUAL_FAULT switches a
//! fault on in them), then models and random worlds, then the simulation of whole nodes. A finder has to be content
//! without the fault: a test program passes, and a schedule of the simulation is repeated without it.

#![allow(clippy::print_stdout, clippy::panic)]

use coequal_model::finders::{Effort, Finding, Verdict, find};
use coequal_protocol::faults::Fault;
use std::process::{Command, Output};
use std::time::Instant;

/// A test program that takes longer is ended, and has found nothing.
const PROGRAM_SECONDS_MAX: &str = "240";
/// A schedule that is repeated takes moments.
const SCHEDULE_SECONDS_MAX: &str = "60";
/// How long the simulation of whole nodes looks for one fault.
const SIMULATION_MINUTES: &str = "2";
const SIMULATION_SECONDS_MAX: &str = "300";
/// Schedules of the simulation that are repeated without the fault.
const REPEATED_MAX: usize = 16;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = take_flag(&mut arguments, "--all");
    let only = take_value(&mut arguments, "--only");
    let simulation = take_value(&mut arguments, "--simulation");
    arguments.iter().for_each(|program| must_pass(program));
    // Worlds fail by assertions too; what they say is in the table.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| fault | breaks | found by | after | seconds | what was wrong |\n|---|---|---|---|---|---|");
    let wanted = |fault: &Fault| only.as_ref().is_none_or(|name| *name == format!("{fault:?}"));
    let (mut asked, mut unfound) = (0, Vec::new());
    for fault in Fault::ALL.iter().copied().filter(wanted) {
        asked += 1;
        let verdict = ask(fault, all, simulation.as_deref(), &arguments);
        print(&verdict);
        if verdict.findings.is_empty() {
            unfound.push((fault, verdict.reached));
        }
    }
    println!("\n{asked} faults, {} found by nobody", unfound.len());
    for (fault, reached) in unfound {
        println!("- {fault:?}: {}; models and worlds passed its place {reached} times", fault.words());
    }
}

fn ask(fault: Fault, all: bool, simulation: Option<&str>, programs: &[String]) -> Verdict {
    let mut verdict = Verdict { fault, findings: Vec::new(), reached: 0 };
    verdict.findings.extend(programs.iter().find_map(|program| by_tests(program, fault)));
    if verdict.findings.is_empty() || all {
        let found = find(fault, if all { Effort::LONG } else { Effort::SHORT }, all);
        verdict.findings.extend(found.findings);
        verdict.reached = found.reached;
    }
    if verdict.findings.is_empty() || all {
        verdict.findings.extend(simulation.and_then(|program| by_simulation(program, fault)));
    }
    verdict
}

fn take_flag(arguments: &mut Vec<String>, name: &str) -> bool {
    let before = arguments.len();
    arguments.retain(|argument| argument != name);
    arguments.len() != before
}

fn take_value(arguments: &mut Vec<String>, name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    (at + 1 < arguments.len()).then(|| arguments.drain(at..at + 2).nth(1)).flatten()
}

/// Runs a program for some time at most, with a fault or none.
fn run(program: &str, arguments: &[&str], fault: Option<Fault>, seconds_max: &str) -> Output {
    let mut command = Command::new("timeout");
    command.arg(seconds_max).arg(program).args(arguments).env_remove("COEQUAL_FAULT");
    command.envs(fault.map(|fault| ("COEQUAL_FAULT", format!("{fault:?}"))));
    command.output().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"))
}

fn must_pass(program: &str) {
    let passes = run(program, &[], None, PROGRAM_SECONDS_MAX).status.success();
    assert!(passes, "{program} fails without a fault: it would find every one");
}

/// Whether `timeout` ended a program.
fn ended_late(output: &Output) -> bool {
    output.status.code() == Some(124)
}

/// Runs a test program under a fault: the first test that fails found it.
fn by_tests(program: &str, fault: Fault) -> Option<Finding> {
    let began = Instant::now();
    let output = run(program, &[], Some(fault), PROGRAM_SECONDS_MAX);
    let seconds = began.elapsed().as_secs_f64();
    if output.status.success() || ended_late(&output) {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect();
    let what = failed.first().map_or_else(|| "the program ended".to_owned(), |name| (*name).replace('_', " "));
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
    let after = format!("{} failed", failed.len().max(1));
    Some(Finding { by: format!("tests: {name}"), after, what, seconds })
}

/// Searches schedules of whole nodes under a fault; what a schedule shows without it too does not count.
fn by_simulation(program: &str, fault: Fault) -> Option<Finding> {
    let began = Instant::now();
    let search = ["--seed", "1", "--minutes", SIMULATION_MINUTES, "--threads", "2", "--all"];
    let output = run(program, &search, Some(fault), SIMULATION_SECONDS_MAX);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let schedules = lines.iter().find(|line| line.starts_with("schedules ")).copied().unwrap_or("no schedule ended");
    let violations = lines.windows(2).filter_map(|pair| {
        Some((pair[0].strip_prefix("VIOLATION ")?, pair[1].trim().strip_prefix("again: coequal-simulation --trace ")?))
    });
    let holds = |seed: &str| run(program, &["--trace", seed], None, SCHEDULE_SECONDS_MAX).status.success();
    let (what, seed) = violations.take(REPEATED_MAX).find(|(_, seed)| holds(seed))?;
    let what = format!("{} (seed {seed})", what.chars().take(120).collect::<String>());
    let seconds = began.elapsed().as_secs_f64();
    Some(Finding { by: "simulation of whole nodes".to_owned(), after: schedules.to_owned(), what, seconds })
}

fn print(verdict: &Verdict) {
    let fault = verdict.fault;
    for Finding { by, after, what, seconds } in &verdict.findings {
        let what = what.replace('|', "/");
        println!("| {fault:?} | {} | {by} | {after} | {seconds:.1} | {what} |", fault.rule());
    }
    if verdict.findings.is_empty() {
        println!("| {fault:?} | {} | nobody | | | {} |", fault.rule(), fault.words());
    }
}
