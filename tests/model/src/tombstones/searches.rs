//! Which searches of collecting are made.

use super::{Bounds, Call, Rule};
use crate::common::{configuration, delete, put};

/// A document is created by node 0, which makes up its key; node 1 deletes it; somebody creates it again.
fn bounds(name: &'static str, voters: &[u64], again: usize) -> Bounds {
    Bounds {
        name,
        configuration: configuration(voters, None),
        plan: vec![
            Call { at: 0, operation: put("first"), generated: true, since: 1 },
            Call { at: 1, operation: delete(), generated: false, since: 1 },
            Call { at: again, operation: put("again"), generated: false, since: 1 },
        ],
        before: vec![[0, 1].into()],
        told: false,
        repeats: 0,
        restarts: 0,
        restarting: vec![],
        sweeps: false,
        rounds_max: 1,
        epochs_max: 3,
        rule: Rule::None,
        judges_invariants: true,
    }
}

/// Node 2 of three was away when the document was created and deleted: all of it comes late, or never.
fn away(name: &'static str, again: usize, since: usize) -> Bounds {
    let mut bounds = Bounds {
        before: vec![[0, 1].into(), [0, 1].into()],
        told: true,
        rounds_max: 0,
        ..bounds(name, &[1, 2, 3], again)
    };
    bounds.plan[2].since = since;
    bounds
}

/// All searches.
pub fn all() -> Vec<Bounds> {
    vec![
        Bounds { repeats: 1, ..bounds("two voters collect what one deletes", &[1, 2], 0) },
        Bounds { restarts: 1, restarting: vec![0], ..bounds("two voters, one of which dies", &[1, 2], 0) },
        away("three voters collect what one of them never heard of", 2, 3),
        away("three voters, created again while the bound is agreed on", 1, 2),
        Bounds { restarts: 1, restarting: vec![1], sweeps: true, ..away("three voters, one of which dies", 1, 3) },
        Bounds { told: false, ..away("three voters, of which two do not know what was chosen", 2, 3) },
    ]
}

/// Two of three die: what a client sees when they forget the bound.
pub fn two_die() -> Vec<Bounds> {
    vec![Bounds {
        restarts: 2,
        restarting: vec![0, 1],
        sweeps: true,
        judges_invariants: false,
        ..away("three voters, two of which die", 0, 3)
    }]
}
