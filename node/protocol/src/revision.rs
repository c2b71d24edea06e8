//! A revision: one value that a document had, or its tombstone.

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use bytes::Bytes;

/// The client's name for a write (hash of its `Idempotency-Key`), kept in the document so that a retry
/// finds its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The document did not exist (or was deleted) before.
    Created,
    /// The document existed and has a new body.
    Replaced,
    /// The document is deleted.
    Deleted,
}

/// How many of its writes a document remembers: the last [`RECENT_DEPTH`] of all, and beside those the last one of each
/// of the coordinators that wrote before.
pub const HISTORY_DEPTH: usize = 24;

/// So many writes are remembered whoever made them: a retry finds its own among these. Each start of a node is a
/// coordinator of its own, so over the years a document has had many.
pub const RECENT_DEPTH: usize = 16;

/// One remembered write of a document: enough to answer its retry exactly (I9).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HistoryEntry {
    /// Stamp of the revision that the write produced; tells a coordinator whether its own proposal was chosen.
    pub stamp: Ballot,
    /// Version that the write produced.
    pub version: u64,
    /// What it did.
    pub effect: Effect,
    /// The client's request id and a fingerprint of what it asked for, if it sent an `Idempotency-Key`.
    pub request: Option<(RequestId, u64)>,
}

/// A document's value at one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision {
    /// 1, 2, 3 …, also across deletes.
    pub version: u64,
    /// The ballot under which it was first proposed.
    pub stamp: Ballot,
    /// JSON text, or `None` for a tombstone.
    pub body: Option<Bytes>,
    /// The last writes, oldest first, this one last; at most [`HISTORY_DEPTH`] (see [`remember`]).
    pub history: Vec<HistoryEntry>,
}

/// Adds a write to a history. Beyond its depth, of what is older than the last [`RECENT_DEPTH`] writes the first one that
/// is not the last of its coordinator is dropped, and the oldest one where each is. So a coordinator can find out whether
/// its last write of a document was applied, however many others of a few coordinators came after it.
pub fn remember(history: &mut Vec<HistoryEntry>, entry: HistoryEntry) {
    history.push(entry);
    while history.len() > HISTORY_DEPTH {
        let superseded = |(at, entry): (usize, &HistoryEntry)| {
            history[at + 1..].iter().any(|later| same_coordinator(later.stamp, entry.stamp)).then_some(at)
        };
        let older = history.len() - RECENT_DEPTH;
        let drop = history.iter().take(older).enumerate().find_map(superseded).unwrap_or(0);
        let drop = if broken(Fault::HistoryDropsOldest) { 0 } else { drop };
        history.remove(drop);
    }
}

fn same_coordinator(a: Ballot, b: Ballot) -> bool {
    (a.node, a.incarnation) == (b.node, b.incarnation)
}

impl Revision {
    /// Whether this revision tells for certain that the write of `stamp`, which its coordinator based on
    /// `base_version` and of which nothing is to be seen here, is not part of its past.
    pub fn excludes(&self, stamp: Ballot, base_version: u64) -> bool {
        let heard_of = self.history.iter().any(|entry| same_coordinator(entry.stamp, stamp));
        // A coordinator's last write is only forgotten, the oldest first, when all that are older than the recent ones
        // are each the last of their coordinators. That leaves more coordinators than there are such places, and no
        // later write makes them fewer again. So with fewer coordinators, or with something older still remembered,
        // nothing that came after `base_version` was forgotten.
        let coordinators: std::collections::HashSet<_> =
            self.history.iter().map(|entry| (entry.stamp.node, entry.stamp.incarnation)).collect();
        let oldest = self.history.first().map_or(0, |entry| entry.version);
        heard_of || coordinators.len() <= HISTORY_DEPTH - RECENT_DEPTH || oldest <= base_version
    }

    /// Whether the document is deleted.
    pub fn is_tombstone(&self) -> bool {
        self.body.is_none()
    }

    /// The remembered write of a client's request.
    pub fn find_request(&self, id: RequestId) -> Option<&HistoryEntry> {
        self.history.iter().rev().find(|entry| entry.request.is_some_and(|(known, _)| known == id))
    }

    /// Whether the write that produced `stamp` is part of this revision's past.
    pub fn descends_from(&self, stamp: Ballot) -> bool {
        self.history.iter().any(|entry| entry.stamp == stamp)
    }
}
