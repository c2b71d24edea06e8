//! Which searches of aligning nodes are made: a node that comes back, a new node, and a joint change after a lost disk.

use crate::alignment::Bounds;
use crate::common::configuration;
use coequal_types::Configuration;

fn bounds(name: &'static str, epochs: Vec<Configuration>, nodes: usize) -> Bounds {
    Bounds {
        name,
        epochs,
        nodes,
        writers: vec![],
        returns: None,
        fresh: None,
        dies: None,
        aligns: vec![],
        counts: None,
        rounds_max: 0,
    }
}

/// One after the other: the voters, both sets, the new voters.
fn joint_change(old: &[u64], new: &[u64]) -> Vec<Configuration> {
    let numbered = |epoch, configuration| Configuration { epoch, ..configuration };
    let (before, joint) = (configuration(old, None), configuration(new, Some(old)));
    vec![before, numbered(2, joint), numbered(3, configuration(new, None))]
}

/// All searches.
pub fn all() -> Vec<Bounds> {
    let three = || vec![configuration(&[1, 2, 3], None)];
    vec![
        Bounds {
            writers: vec![1],
            returns: Some((0, false)),
            ..bounds("a voter comes back while another one writes", three(), 3)
        },
        Bounds {
            writers: vec![1],
            returns: Some((3, true)),
            ..bounds("a new node learns while a voter writes", three(), 4)
        },
        Bounds {
            writers: vec![0],
            fresh: Some(3),
            dies: Some(2),
            aligns: vec![3],
            counts: Some(0),
            ..bounds("a joint change for a voter that lost its disk", joint_change(&[1, 2, 3], &[1, 2, 4]), 4)
        },
    ]
}
