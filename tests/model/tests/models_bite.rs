//! The models of aligning and of collecting find the rules that are broken on purpose: a search that finds nothing means
//! something only where it would have found these.
//!
//! `-- --nocapture` prints which search found each, and after how many states.

#![allow(clippy::print_stdout)]

use coequal_model::collecting::Fault as Rule;
use coequal_model::explore::Small;
use coequal_model::finders::{Finding, searches};
use coequal_model::{changes, tombstones};
use coequal_protocol::faults::Fault;
use std::fmt::Debug;
use std::time::Instant;

/// States that each search comes to, counted as often as it comes to them.
const STATES_MAX: usize = 150_000;

fn bites<S: Small>(what: impl Debug, all: Vec<S>, fault: Option<Fault>, states_max: usize) -> Option<Finding> {
    let began = Instant::now();
    let (found, reached) = searches(all, fault, states_max);
    let seconds = began.elapsed().as_secs_f64();
    match &found {
        Some(found) => println!("{what:?}: {} after {} in {seconds:.1} s: {}", found.by, found.after, found.what),
        None => println!("{what:?}: not found in {seconds:.1} s, its place was passed {reached} times"),
    }
    found
}

#[test]
fn rules_of_alignment_broken_on_purpose_are_found_by_the_model_of_aligning() {
    for fault in [
        Fault::OneSourceTooFew,
        Fault::SourcesForgetNewDisk,
        Fault::SourcePendingUnsettled,
        Fault::OwnPendingUnsettled,
        Fault::OnlineUnsettled,
        Fault::OnlineUndrained,
        Fault::JointEndsUnaligned,
    ] {
        assert!(bites(fault, changes::all(), Some(fault), STATES_MAX).is_some(), "{fault:?} is not found");
    }
    // Only a change of voters shows it, and late.
    let joint = changes::all().into_iter().filter(|bounds| bounds.epochs.len() > 1).collect();
    let fault = Fault::SampleBeforeAdoption;
    assert!(bites(fault, joint, Some(fault), 600_000).is_some(), "{fault:?} is not found");
}

#[test]
fn rules_of_collecting_broken_on_purpose_are_found_by_the_model_of_collecting() {
    for fault in [Fault::TombstoneCollectedEarly, Fault::LowBoundNotAgreed, Fault::LowBoundNotKept] {
        assert!(bites(fault, tombstones::all(), Some(fault), STATES_MAX).is_some(), "{fault:?} is not found");
    }
    // Guard::refuses stands before the place where this rule is kept: no creation below the bound comes to it.
    let (found, reached) = searches(tombstones::all(), Fault::CreationBelowLowBound, STATES_MAX);
    assert!(found.is_none() && reached == 0, "{found:?}, passed {reached} times: say in docs/faults.md who finds it");
}

/// What a client would see, without the invariants that name the broken rule itself.
#[test]
fn a_broken_rule_of_collecting_brings_a_deleted_document_back_or_loses_a_new_one() {
    let outcomes = || -> Vec<tombstones::Bounds> {
        tombstones::all().into_iter().map(|bounds| tombstones::Bounds { judges_invariants: false, ..bounds }).collect()
    };
    for fault in [Fault::TombstoneCollectedEarly, Fault::LowBoundNotAgreed] {
        assert!(bites(fault, outcomes(), Some(fault), STATES_MAX).is_some(), "{fault:?} is not found");
    }
    for rule in [Rule::StaleCopiesTaken, Rule::LateTaken, Rule::BoundNotHeld] {
        let broken = outcomes().into_iter().map(|bounds| tombstones::Bounds { rule, ..bounds }).collect();
        assert!(bites(rule, broken, None, STATES_MAX).is_some(), "{rule:?} is not found");
    }
    let fault = Fault::LowBoundNotKept;
    assert!(bites(fault, tombstones::two_die(), Some(fault), 1_500_000).is_some(), "{fault:?} is not found");
}
