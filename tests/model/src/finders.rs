//! Who finds a rule that is broken on purpose, after how many states or schedules.

use crate::common::{joint, returning};
use crate::explore::{Small, exhaust};
use crate::{changes, collecting as world_of_collecting, scenarios, simulation, tombstones};
use coequal_protocol::faults::{Broken, Fault};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Who found a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub by: String,
    /// States or schedules that were looked at, the last one included.
    pub after: String,
    /// What was wrong then.
    pub what: String,
    /// How long this finder took, in seconds.
    pub seconds: f64,
}

/// What all finders say of a fault.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub fault: Fault,
    pub findings: Vec<Finding>,
    /// How often the place was passed where the rule is kept.
    pub reached: u64,
}

/// How long each finder looks.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// States of each search.
    pub model: usize,
    pub walks: u64,
    pub documents: u64,
    pub alignments: u64,
    pub joint_changes: u64,
    pub collections: u64,
}

impl Effort {
    /// For a run of all tests.
    pub const SHORT: Self =
        Self { model: 20_000, walks: 100, documents: 4_000, alignments: 400, joint_changes: 1_500, collections: 1_000 };

    /// For the table.
    pub const LONG: Self = Self {
        model: 300_000,
        walks: 1_000,
        documents: 20_000,
        alignments: 4_000,
        joint_changes: 2_500,
        collections: 20_000,
    };
}

/// Asks the finders one after the other; all of them, or until one has found it.
pub fn find(fault: Fault, effort: Effort, all: bool) -> Verdict {
    let mut verdict = Verdict { fault, findings: Vec::new(), reached: 0 };
    type Finder = fn(Fault, Effort) -> (Option<Finding>, u64);
    let finders: [Finder; 8] = [documents, alignments, joint_changes, collections, aligning, collecting, model, walks];
    for finder in finders {
        let began = Instant::now();
        let (found, reached) = finder(fault, effort);
        verdict.reached += reached;
        verdict.findings.extend(found.map(|found| Finding { seconds: began.elapsed().as_secs_f64(), ..found }));
        if !all && !verdict.findings.is_empty() {
            break;
        }
    }
    verdict
}

/// The full searches of the model.
fn model(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    let (mut states, mut reached) = (0, 0);
    for search in scenarios::all(Some(fault)) {
        let name = search.bounds.name;
        let found = search.exhaust(effort.model);
        states += found.states;
        reached += found.reached;
        if let Some(what) = found.violation {
            let finding = Finding {
                by: format!("model: {name}"),
                after: format!("{states} states"),
                what: first_line(&what),
                seconds: 0.0,
            };
            return (Some(finding), reached);
        }
    }
    (None, reached)
}

/// The full searches of nodes that align.
pub fn aligning(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    searches(changes::all(), fault, effort.model)
}

/// The full searches of nodes that collect tombstones.
pub fn collecting(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    searches(tombstones::all(), fault, effort.model)
}

/// Searches one after the other, until one has found something wrong.
pub fn searches<S: Small>(all: Vec<S>, fault: impl Into<Option<Fault>>, states_max: usize) -> (Option<Finding>, u64) {
    let fault = fault.into();
    let (mut states, mut reached) = (0, 0);
    for small in all {
        let name = small.name();
        let found = exhaust(small, fault, states_max);
        states += found.states;
        reached += found.reached;
        if let Some(what) = found.violation {
            let finding = Finding {
                by: format!("model: {name}"),
                after: format!("{states} states"),
                what: first_line(&what),
                seconds: 0.0,
            };
            return (Some(finding), reached);
        }
    }
    (None, reached)
}

/// The random walks of the model.
fn walks(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    let searches = scenarios::wide(Some(fault));
    for seed in 0..effort.walks {
        for search in &searches {
            if let (_, Some(what)) = search.walk(seed, 600) {
                let by = format!("model, walks: {}", search.bounds.name);
                let finding =
                    Finding { by, after: format!("{} walks", seed + 1), what: first_line(&what), seconds: 0.0 };
                return (Some(finding), searches.iter().map(|search| search.reached()).sum());
            }
        }
    }
    (None, searches.iter().map(|search| search.reached()).sum())
}

/// The random schedules of one document.
fn documents(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    schedules(fault, "schedules of a document", effort.documents, |seed| simulation::run(seed).failure)
}

/// The random schedules of a node that comes back.
fn alignments(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    let shapes = [(3, false), (5, false), (3, true), (5, true)].map(|(voters, new)| returning::shape(voters, new));
    schedules(fault, "schedules of a returning node", effort.alignments, |seed| {
        shapes.iter().find_map(|shape| returning::run(seed, *shape).flatten())
    })
}

/// The random schedules of a joint change.
fn joint_changes(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    schedules(fault, "schedules of a joint change", effort.joint_changes, |seed| joint::run(seed).flatten())
}

/// The random schedules of a document whose tombstones are collected.
fn collections(fault: Fault, effort: Effort) -> (Option<Finding>, u64) {
    schedules(fault, "schedules of collecting", effort.collections, |seed| {
        world_of_collecting::run(seed, world_of_collecting::Fault::None).failure
    })
}

/// A failed assertion of a world is a finding too.
fn schedules(fault: Fault, by: &str, count: u64, run: impl Fn(u64) -> Option<String>) -> (Option<Finding>, u64) {
    let broken = Broken::now(fault);
    for seed in 0..count {
        let what = catch_unwind(AssertUnwindSafe(|| run(seed)))
            .unwrap_or_else(|_| Some(format!("seed {seed}: an assertion failed")));
        if let Some(what) = what {
            let finding = Finding {
                by: by.to_owned(),
                after: format!("{} schedules", seed + 1),
                what: first_line(&what),
                seconds: 0.0,
            };
            return (Some(finding), broken.reached());
        }
    }
    (None, broken.reached())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}
