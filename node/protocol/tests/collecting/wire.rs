//! What travels between the nodes of the simulation of collecting.

use coequal_protocol::{Ballot, Revision};
use std::sync::Arc;

#[derive(Debug, Clone, Hash)]
pub enum Wire {
    Prepare(Ballot),
    Promised(Ballot, Option<(Ballot, Value)>, bool),
    Accept(Ballot, Value),
    Accepted(Ballot),
    Refused(Ballot, Ballot),
    Copy(Ballot, Value),
}

/// A revision that hashes by its stamp.
#[derive(Debug, Clone)]
pub struct Value(pub Arc<Revision>);

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.stamp, self.0.version).hash(state);
    }
}

#[derive(Debug, Clone, Hash)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub epoch: usize,
    pub wire: Wire,
}
