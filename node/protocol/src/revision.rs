//! A revision: one value that a document had, or its tombstone.

use crate::ballot::Ballot;
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

/// How many of a document's last writes it remembers.
pub const HISTORY_DEPTH: usize = 16;

/// One remembered write of a document: enough to answer its retry exactly (I9).
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// 1, 2, 3 …, also across deletes.
    pub version: u64,
    /// The ballot under which it was first proposed.
    pub stamp: Ballot,
    /// JSON text, or `None` for a tombstone.
    pub body: Option<Bytes>,
    /// The last writes, oldest first, this one last; at most [`HISTORY_DEPTH`].
    pub history: Vec<HistoryEntry>,
}

impl Revision {
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
