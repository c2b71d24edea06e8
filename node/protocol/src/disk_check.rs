//! Whether a disk still holds what this node once told others (I7). A volume that was restored from an older image has
//! forgotten promises and accepts, and nothing on it says so; the others remember how far its log had been.
//!
//! ```text
//! start ─► asks every voter what it remembers ─► a quorum (itself included) remembers no more than is here ─► votes
//!                                            └─► somebody remembers more, or a later start of this very store
//!                                                ─► FAULTY: put aside, deployed anew
//! ```
//!
//! Until then it answers no prepare, accept, query or sample: with its vote a quorum could miss a chosen value.

use crate::faults::{Fault, broken};
use crate::quorum::{NodeSet, is_read_quorum};
use crate::record::FeedId;
use coequal_types::{Configuration, Incarnation, NodeId};
use std::cmp::Ordering;

/// How far the log of somebody's store was durable, by its own word to us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recollection {
    /// Which store of that node: its feed. A store that was made anew has another one.
    pub feed: FeedId,
    /// Last log row that it called durable.
    pub durable: u64,
    /// In which of its starts it said so.
    pub incarnation: Incarnation,
}

impl Recollection {
    /// Takes a newer word into account. Words may come late and out of order.
    pub fn note(&mut self, newer: Self) {
        let replaced = newer.feed != self.feed && newer.incarnation >= self.incarnation;
        let later = newer.feed == self.feed && newer.incarnation > self.incarnation;
        if replaced || later {
            *self = newer;
        } else if newer.feed == self.feed && newer.incarnation == self.incarnation {
            self.durable = self.durable.max(newer.durable);
        }
    }
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing new; more answers are needed, or were not.
    Nothing,
    /// This node may vote from now on.
    MayVote,
    /// The store is older than what `by` remembers of it.
    RolledBack {
        /// Who remembers.
        by: NodeId,
        /// The log row that it remembers.
        remembered: u64,
    },
    /// Another process speaks, or spoke, as this node with this very store: a later start than this one is remembered, or
    /// words of this start that it has not said. What the other one promised is not on this disk.
    UsedTwice {
        /// Who remembers.
        by: NodeId,
    },
}

/// The check of one store at one start of its node.
#[derive(Debug, Clone)]
pub struct DiskCheck {
    me: NodeId,
    own: Recollection,
    heard: NodeSet,
    passed: bool,
    /// Last row that this start of the node has called durable.
    durable_now: u64,
}

impl DiskCheck {
    /// `own`: this store's feed, the last durable row of its log when it was opened, and this start of the node. Passes
    /// at once where this node is a quorum by itself.
    pub fn new(me: NodeId, own: Recollection, configuration: &Configuration) -> Self {
        let mut check = Self { me, own, heard: NodeSet::from([me]), passed: false, durable_now: own.durable };
        check.passed = is_read_quorum(configuration, &check.heard);
        check
    }

    /// Whether this node may vote, and tell others how far its log is.
    pub fn may_vote(&self) -> bool {
        self.passed || broken(Fault::DiskUncheckedVotes)
    }

    /// The store that is asked about.
    pub fn feed(&self) -> FeedId {
        self.own.feed
    }

    /// Voters to ask: those that have not answered. After the check has passed, the rest is still asked: a word that
    /// comes late is better than none.
    pub fn to_ask(&self, configuration: &Configuration) -> Vec<NodeId> {
        configuration.all_voters().into_iter().filter(|voter| !self.heard.contains(voter)).collect()
    }

    /// The log of this store is durable up to `row` now.
    pub fn note_durable(&mut self, row: u64) {
        self.durable_now = self.durable_now.max(row);
    }

    /// A voter says what it remembers: of an earlier start, no more than this store held when it was opened; of this one,
    /// no more than it holds now; of a later one, nothing.
    pub fn on_recalled(&mut self, from: NodeId, recalled: Recollection, configuration: &Configuration) -> Finding {
        let same_store = recalled.feed == self.own.feed && recalled.durable > 0 && !broken(Fault::RollbackUnnoticed);
        match recalled.incarnation.cmp(&self.own.incarnation) {
            Ordering::Less if same_store && recalled.durable > self.own.durable => {
                return Finding::RolledBack { by: from, remembered: recalled.durable };
            }
            Ordering::Equal if same_store && recalled.durable > self.durable_now => {
                return Finding::UsedTwice { by: from };
            }
            Ordering::Greater if same_store => return Finding::UsedTwice { by: from },
            _ => {}
        }
        self.heard.insert(from);
        let passes = !self.passed && is_read_quorum(configuration, &self.heard);
        self.passed |= passes;
        debug_assert!(!passes || invariant_votes_only_as_remembered(self, configuration));
        if passes { Finding::MayVote } else { Finding::Nothing }
    }

    /// Another configuration: the answers that are there may be enough for it.
    pub fn on_configuration(&mut self, configuration: &Configuration) -> Finding {
        let passes = !self.passed && is_read_quorum(configuration, &self.heard);
        self.passed |= passes;
        debug_assert!(!passes || invariant_votes_only_as_remembered(self, configuration));
        if passes { Finding::MayVote } else { Finding::Nothing }
    }

    /// Last durable row when the store was opened, for messages.
    pub fn durable_at_start(&self) -> u64 {
        self.own.durable
    }
}

/// I7: whoever begins to vote was found as new as a quorum remembers it.
pub fn invariant_votes_only_as_remembered(check: &DiskCheck, configuration: &Configuration) -> bool {
    !check.passed || check.heard.contains(&check.me) && is_read_quorum(configuration, &check.heard)
}
