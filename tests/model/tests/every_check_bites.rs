//! Rules that are broken on purpose are found by the random schedules and the models.

#![allow(clippy::print_stdout)]

use coequal_model::finders::{Effort, find};
use coequal_protocol::faults::Fault;

/// Faults that the schedules find within seconds.
const FOUND_SOON: &[Fault] = &[
    Fault::AcceptBelowAccepted,
    Fault::AcceptBelowPromise,
    Fault::AcceptPromisesNothing,
    Fault::AcceptedIsFed,
    Fault::AnswerBeforeFsync,
    Fault::BallotReused,
    Fault::ConditionIgnored,
    Fault::CopyIsNotAccepted,
    Fault::CreationIsOrdinary,
    Fault::CreationOverState,
    Fault::DuplicateCounts,
    Fault::FormerPromisesForgotten,
    Fault::GuessedPromiseInMemory,
    Fault::IncarnationReused,
    Fault::LowBoundNotAgreed,
    Fault::PromiseAboveBound,
    Fault::PromiseOnlyInMemory,
    Fault::RecentUsedTwice,
    Fault::TombstoneCollectedEarly,
];

#[test]
fn rules_broken_on_purpose_are_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut unfound = Vec::new();
    for fault in FOUND_SOON {
        let verdict = find(*fault, Effort::SHORT, false);
        match verdict.findings.first() {
            Some(found) => println!("{fault:?}: {} after {}: {}", found.by, found.after, found.what),
            None => unfound.push((fault, verdict.reached)),
        }
    }
    assert!(unfound.is_empty(), "found by nobody, with how often their place was passed: {unfound:?}");
}

#[test]
fn the_table_in_the_documents_has_a_row_for_every_fault_and_for_nothing_else() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
    let text = std::fs::read_to_string(table).expect("docs/faults.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split(" | ").next());
    let rows: Vec<&str> = rows.filter(|name| *name != "fault").collect();
    let faults: Vec<String> = Fault::ALL.iter().map(|fault| format!("{fault:?}")).collect();
    assert_eq!(rows, faults, "a fault that is new or gone: make the table again (CONTRIBUTING.md)");
}
