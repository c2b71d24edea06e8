//! A linearizable read: one round to a majority when everybody agrees, a settled proposal when not (I8).

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use crate::quorum::{NodeSet, is_read_quorum, is_write_quorum};
use crate::register::Held;
use crate::revision::Revision;
use coequal_types::{Configuration, NodeId};
use std::sync::Arc;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryStep {
    /// Nothing until the next answer.
    Wait,
    /// The chosen state; `None` when a majority knows nothing of the key.
    Done(Option<Held>),
    /// The newest accepted revision is not known to be chosen: settle the key by a proposal, then answer.
    Settle,
}

/// A read under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    own: Option<Held>,
    answered: NodeSet,
    best: Ballot,
    best_chosen: bool,
    best_revision: Option<Arc<Revision>>,
    holders: NodeSet,
}

impl Query {
    /// A read by a coordinator that holds `own` itself (its newest accepted revision; a learner's newest chosen).
    pub fn new(own: Option<Held>) -> Self {
        Self {
            own,
            answered: NodeSet::new(),
            best: Ballot::NONE,
            best_chosen: false,
            best_revision: None,
            holders: NodeSet::new(),
        }
    }

    /// What need not travel.
    pub fn known(&self) -> Ballot {
        self.own.as_ref().map_or(Ballot::NONE, |held| held.ballot)
    }

    /// Voters that have answered.
    pub fn answered(&self) -> &NodeSet {
        &self.answered
    }

    /// A voter answered (the coordinator itself too, if it votes).
    pub fn on_answer(
        &mut self,
        configuration: &Configuration,
        from: NodeId,
        accepted: Ballot,
        chosen: bool,
        revision: Option<Arc<Revision>>,
    ) -> QueryStep {
        if !configuration.is_voter(from) || !self.answered.insert(from) {
            return QueryStep::Wait;
        }
        let is_taken = self.best.is_none() || !broken(Fault::ReadTakesFirst);
        if accepted > self.best && is_taken {
            self.best = accepted;
            self.best_chosen = chosen;
            self.best_revision = revision;
            self.holders = NodeSet::from([from]);
        } else if accepted == self.best {
            self.best_chosen |= chosen;
            self.best_revision = self.best_revision.take().or(revision);
            self.holders.insert(from);
        }
        if is_read_quorum(configuration, &self.answered) { self.conclude(configuration) } else { QueryStep::Wait }
    }

    fn conclude(&self, configuration: &Configuration) -> QueryStep {
        if self.best.is_none() {
            return QueryStep::Done(None);
        }
        let value = self.best_revision.clone().or_else(|| {
            self.own.as_ref().filter(|held| held.ballot == self.best).map(|held| Arc::clone(&held.revision))
        });
        match value {
            Some(revision)
                if self.best_chosen
                    || is_write_quorum(configuration, &self.holders)
                    || broken(Fault::ReadShowsAccepted) =>
            {
                QueryStep::Done(Some(Held { ballot: self.best, revision }))
            }
            _ => QueryStep::Settle,
        }
    }
}

/// I8: what a read answers is the newest thing that a read quorum reports, and is chosen.
pub fn invariant_answer_is_chosen(query: &Query, configuration: &Configuration, step: &QueryStep) -> bool {
    let QueryStep::Done(held) = step else { return true };
    is_read_quorum(configuration, &query.answered)
        && held.as_ref().map_or(Ballot::NONE, |held| held.ballot) == query.best
        && (held.is_none() || query.best_chosen || is_write_quorum(configuration, &query.holders))
}
