//! Everything a store holds in memory, and how a log record changes it: while running and in replay alike.

use super::codec::{RecordsWriter, seal};
use super::feed_counts::FeedCounts;
use super::overlay::{Entry, Look, Overlay};
use super::store::{Batch, Counts, Lsn};
use bytes::Bytes;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::record::{Change, FeedId};
use coequal_protocol::{Key, LogRecord};
use coequal_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What follows from all records up to some point, small enough to be copied at a checkpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) cursors: BTreeMap<NodeId, (FeedId, u64)>,
    pub(super) meta: BTreeMap<String, Bytes>,
    pub(super) counts: Counts,
    pub(super) feed_counts: FeedCounts,
}

/// What a checkpoint writes: everything up to and including `lsn`.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) overlay: Overlay,
    pub(super) lsn: Lsn,
    pub(super) facts: Facts,
    pub(super) log_bytes: u64,
}

/// The memory of a store. Readers look at `active`, then at `frozen`, then into the documents file: each layer hides
/// the ones behind it, so it does not matter whether a checkpoint has already written `frozen` to the file.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) active: Overlay,
    pub(super) frozen: Option<Arc<Frozen>>,
    pub(super) facts: Facts,
    pub(super) pending: BTreeSet<Key>,
    pub(super) feed_head: u64,
    /// Counts the checkpoints that ended, so that a reader notices one.
    pub(super) checkpoints: u64,
    /// Encoded records since the last freeze.
    pub(super) log_bytes: u64,
    /// Number of the log row that the next record goes into.
    pub(super) open_lsn: Lsn,
    /// The documents file holds everything up to here.
    pub(super) checkpoint_lsn: Lsn,
    open_row: RecordsWriter,
    open_urgent: bool,
    closed_rows: Vec<(Lsn, Bytes)>,
    closed_urgent: bool,
}

impl Live {
    /// Nothing but the numbers of the log: the checkpoint's row and the one to be written next.
    pub(super) fn new(checkpoint_lsn: Lsn, open_lsn: Lsn) -> Self {
        Self { checkpoint_lsn, open_lsn, ..Self::default() }
    }

    /// The register as far as memory knows it.
    pub(super) fn entry(&self, key: &Key) -> Option<&Entry> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.overlay.get(key));
        self.active.get(key).or_else(frozen)
    }

    /// Applies a record of log row `lsn`. `stored` is the register in the documents file, needed when memory does not
    /// know the key.
    pub(super) fn apply(&mut self, lsn: Lsn, record: &LogRecord, stored: Option<Entry>) {
        match record {
            LogRecord::Register { key, change } => self.apply_change(lsn, key, change, stored),
            LogRecord::Cursor { source, feed, sequence } => {
                self.facts.cursors.insert(*source, (*feed, *sequence));
            }
            LogRecord::Meta { name, value } if value.is_empty() => {
                self.facts.meta.remove(name);
            }
            LogRecord::Meta { name, value } => {
                self.facts.meta.insert(name.clone(), value.clone());
            }
        }
    }

    fn apply_change(&mut self, lsn: Lsn, key: &Key, change: &Change, stored: Option<Entry>) {
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.overlay.get(key));
        let base = || match frozen {
            // By the time the active overlay is written, the frozen one has been.
            Some(entry) => Entry::stored(entry.register.clone()),
            None => stored.unwrap_or_else(|| Entry::stored(coequal_protocol::Register::default())),
        };
        let (before, after) = self.active.apply(key, change, lsn, base);
        if before == after {
            return;
        }
        if before.pending != after.pending {
            if after.pending {
                self.pending.insert(key.clone());
            } else {
                self.pending.remove(key);
            }
        }
        if before.feed_sequence != after.feed_sequence {
            if before.feed_sequence > 0 && !broken(Fault::FeedKeepsOldEntries) {
                self.facts.feed_counts.remove(before.feed_sequence);
            }
            if after.feed_sequence > 0 {
                self.facts.feed_counts.add(after.feed_sequence);
            }
            self.feed_head = self.feed_head.max(after.feed_sequence);
        }
        if !key.collection().starts_with('_') {
            self.facts.counts.change(before, after);
        }
    }

    /// Adds a record to the open log row.
    pub(super) fn record(&mut self, record: &LogRecord) {
        let before = self.open_row.bytes();
        self.open_row.push(record);
        self.log_bytes += (self.open_row.bytes() - before) as u64;
        self.open_urgent |= match record {
            LogRecord::Register { change, .. } => !matches!(change, Change::Chosen { .. } | Change::Collect { .. }),
            LogRecord::Meta { .. } => true,
            LogRecord::Cursor { .. } => false,
        };
    }

    /// Whether somebody waits for what was appended, and how much it is.
    pub(super) fn waiting(&self) -> (bool, usize) {
        let closed: usize = self.closed_rows.iter().map(|(_, row)| row.len()).sum();
        (self.open_urgent || self.closed_urgent, closed + self.open_row.bytes())
    }

    fn close_row(&mut self) {
        if self.open_row.is_empty() {
            return;
        }
        let row = std::mem::take(&mut self.open_row).finish();
        let value = Bytes::from(seal(&self.open_lsn.to_be_bytes(), &row));
        self.closed_rows.push((self.open_lsn, value));
        self.closed_urgent |= std::mem::take(&mut self.open_urgent);
        self.open_lsn += 1;
    }

    /// Everything appended since the last call.
    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.close_row();
        let rows = std::mem::take(&mut self.closed_rows);
        let urgent = std::mem::take(&mut self.closed_urgent);
        rows.last().map(|(last, _)| *last).map(|last| Batch { last, rows, urgent })
    }

    /// Sets everything so far apart for a checkpoint, at a border between log rows. False when there is nothing.
    pub(super) fn freeze(&mut self) -> bool {
        self.close_row();
        let lsn = self.open_lsn - 1;
        if lsn <= self.checkpoint_lsn {
            return false;
        }
        let overlay = std::mem::take(&mut self.active);
        let log_bytes = std::mem::take(&mut self.log_bytes);
        self.frozen = Some(Arc::new(Frozen { overlay, lsn, facts: self.facts.clone(), log_bytes }));
        true
    }
}

impl Counts {
    fn change(&mut self, before: Look, after: Look) {
        let Self { documents, tombstones } = self;
        match before.chosen_tombstone {
            Some(true) => *tombstones = tombstones.saturating_sub(1),
            Some(false) => *documents = documents.saturating_sub(1),
            None => {}
        }
        match after.chosen_tombstone {
            Some(true) => *tombstones = tombstones.saturating_add(1),
            Some(false) => *documents = documents.saturating_add(1),
            None => {}
        }
    }
}
