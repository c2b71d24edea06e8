//! Registers that changed since the last checkpoint, in memory, in key order.

use coequal_protocol::Key;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::record::Change;
use coequal_protocol::register::Register;
use coequal_protocol::revision::Revision;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use super::store::Lsn;

/// A register, and what the documents file says of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) register: Register,
    /// The last log row that touched it.
    pub(super) lsn: Lsn,
    pub(super) stored: Stored,
}

/// What a checkpoint has to take back when it writes the register: its rows in other tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stored {
    pub(super) feed_sequence: u64,
    pub(super) pending: bool,
}

impl Entry {
    /// A register as the documents file has it (or will have it after the checkpoint that runs).
    pub(super) fn stored(register: Register) -> Self {
        let stored = Stored { feed_sequence: register.feed_sequence, pending: register.is_pending() };
        Self { register, lsn: 0, stored }
    }
}

/// A key that can be looked for by its bytes, or by the first of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByBytes(pub(super) Key);

impl Borrow<[u8]> for ByBytes {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Changed registers.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub(super) entries: BTreeMap<ByBytes, Entry>,
    /// Feed entries of these registers: exactly those whose register says the same sequence.
    pub(super) feed: BTreeMap<u64, Key>,
    /// Estimate of the memory that all this takes.
    pub(super) bytes: usize,
}

/// A register before and after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) feed_sequence: u64,
    pub(super) pending: bool,
    /// `None` when nothing is chosen, else whether it is a tombstone.
    pub(super) chosen_tombstone: Option<bool>,
}

impl Look {
    fn at(register: &Register) -> Self {
        Self {
            feed_sequence: register.feed_sequence,
            pending: register.is_pending(),
            chosen_tombstone: register.chosen.as_ref().map(|held| held.revision.is_tombstone()),
        }
    }
}

impl Overlay {
    /// Applies a change; `base` makes the register when it is not here yet.
    pub(super) fn apply(&mut self, key: &Key, change: &Change, lsn: Lsn, base: impl FnOnce() -> Entry) -> (Look, Look) {
        let (entry, bytes_before) = match self.entries.entry(ByBytes(key.clone())) {
            MapEntry::Occupied(known) => {
                let entry = known.into_mut();
                let bytes = weight(key, &entry.register);
                (entry, bytes)
            }
            MapEntry::Vacant(free) => (free.insert(base()), 0),
        };
        let before = Look::at(&entry.register);
        entry.register.apply(change);
        entry.lsn = lsn;
        let after = Look::at(&entry.register);
        self.bytes = (self.bytes + weight(key, &entry.register)).saturating_sub(bytes_before);
        if before.feed_sequence != after.feed_sequence {
            if !broken(Fault::FeedKeepsOldEntries) {
                self.feed.remove(&before.feed_sequence);
            }
            if after.feed_sequence > 0 {
                self.feed.insert(after.feed_sequence, key.clone());
            }
        }
        (before, after)
    }

    /// The register of a key, if it changed.
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get::<[u8]>(key.as_bytes())
    }
}

/// Nodes of the maps, allocations, the register itself.
const ENTRY_BYTES: usize = 400;

fn weight(key: &Key, register: &Register) -> usize {
    let one = |revision: &Arc<Revision>| {
        let history = revision.history.capacity() * size_of::<coequal_protocol::revision::HistoryEntry>();
        revision.body.as_ref().map_or(0, |body| body.len()) + history + size_of::<Revision>()
    };
    let accepted = register.accepted.as_ref().map(|held| &held.revision);
    let chosen = register.chosen.as_ref().map(|held| &held.revision);
    let revisions = match (accepted, chosen) {
        (Some(accepted), Some(chosen)) if Arc::ptr_eq(accepted, chosen) => one(accepted),
        (accepted, chosen) => accepted.map_or(0, one) + chosen.map_or(0, one),
    };
    ENTRY_BYTES + 2 * key.as_bytes().len() + revisions
}
