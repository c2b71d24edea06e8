//! Prints who finds each deliberate fault, and which are found by nobody.
//!
//! `fault-table [--all] [--only NAME] [PROGRAM…]`: with `--all` every finder is asked, else the first that finds it is
//! enough. PROGRAMs are test programs that were built with the feature `deliberate-faults`; each fault that the models do
//! not find is switched on in them by `COEQUAL_FAULT`.

#![allow(clippy::print_stdout, clippy::panic)]

use coequal_model::finders::{Effort, Finding, Verdict, find};
use coequal_protocol::faults::Fault;
use std::process::Command;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = take_flag(&mut arguments, "--all");
    let only = take_value(&mut arguments, "--only");
    // Worlds fail by assertions too; what they say is in the table.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| fault | rule | found by | after | what was wrong |\n|---|---|---|---|---|");
    let mut unfound = Vec::new();
    for fault in
        Fault::ALL.iter().copied().filter(|fault| only.as_ref().is_none_or(|name| *name == format!("{fault:?}")))
    {
        let mut verdict = find(fault, Effort::LONG, all);
        if verdict.findings.is_empty() || all {
            verdict.findings.extend(arguments.iter().find_map(|program| by_tests(program, fault)));
        }
        print(&verdict);
        if verdict.findings.is_empty() {
            unfound.push((fault, verdict.reached));
        }
    }
    println!("\n{} faults, {} found by nobody", Fault::ALL.len(), unfound.len());
    for (fault, reached) in unfound {
        println!("{fault:?}: {}; its place was passed {reached} times", fault.words());
    }
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

/// Runs a test program under a fault: the first test that fails found it.
fn by_tests(program: &str, fault: Fault) -> Option<Finding> {
    let output = Command::new(program).env("COEQUAL_FAULT", format!("{fault:?}")).output().ok()?;
    if output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect();
    let what = failed.first().map_or_else(|| "the program ended".to_owned(), |name| (*name).to_owned());
    Some(Finding { by: "named test".to_owned(), after: format!("{} tests failed", failed.len()), what })
}

fn print(verdict: &Verdict) {
    let fault = verdict.fault;
    for Finding { by, after, what } in &verdict.findings {
        println!("| {fault:?} | {} | {by} | {after} | {} |", fault.rule(), what.replace('|', "/"));
    }
    if verdict.findings.is_empty() {
        println!("| {fault:?} | {} | nobody | | {} |", fault.rule(), fault.words());
    }
}
