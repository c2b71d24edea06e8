//! Rules that are broken on purpose are found by the random schedules and the models.

#![allow(clippy::print_stdout)]

use coequal_model::finders::{Effort, find};
use coequal_protocol::faults::Fault;

/// Faults of one document's rules that the schedules find within seconds.
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
    Fault::IncarnationReused,
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
