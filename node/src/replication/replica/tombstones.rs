//! This member's part in the collection of tombstones: it refuses what is below the agreed bound, says how far it is
//! complete, and forgets what is collected. Decisions are `protocol::tombstone_collection`.

use super::Replica;
use crate::storage::{Lsn, Store};
use coequal_protocol::record::Change;
use coequal_protocol::tombstone_collection::{Guard, invariant_below_the_bound_nothing_is_taken};
use coequal_protocol::{Ballot, Key, LogRecord, Register};

/// How far this store is complete: a time of ballots, 8 bytes.
const META_COMPLETE: &str = "complete";
/// The collected bound up to which this store was looked through, 8 bytes.
const META_SWEPT: &str = "swept";
/// Registers of each layer that are looked at in one step.
const LOOKED_AT_ONCE: usize = 512;
/// With more keys pending than this, whether one of them is below the bound is looked at later.
const PENDING_LOOKED_MAX: usize = 4_096;

/// What this replica knows of its own collecting.
pub(super) struct Tombstones {
    /// The bound of the newest epoch that it has aligned with.
    aligned: u64,
    /// Complete up to here.
    complete: u64,
    /// The same, on disk: what others may be told.
    said: u64,
    saying: Option<(u64, Lsn)>,
    /// Looked through up to this bound.
    swept: u64,
    /// The bound for which it is looking, and behind which key.
    sweep: Option<(u64, Option<Key>)>,
    /// Tombstones forgotten since the start.
    pub collected: u64,
    /// Promises without a value forgotten since the start.
    pub promises: u64,
}

impl Tombstones {
    pub fn new(store: &Store) -> Self {
        let number =
            |name| store.meta(name).and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        let (complete, swept) = (number(META_COMPLETE), number(META_SWEPT));
        Self {
            aligned: complete,
            complete,
            said: complete,
            saying: None,
            swept,
            sweep: None,
            collected: 0,
            promises: 0,
        }
    }

    /// Complete up to here, on disk.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// Whether something has still to become complete, or to be swept away.
    pub fn is_under_way(&self, collected: u64) -> bool {
        self.aligned > self.complete || self.sweep.is_some() || collected > self.swept
    }
}

impl Replica {
    pub(super) fn guard(&self) -> Guard {
        Guard { bound: self.configuration.low_bound, complete: self.tombstones.complete }
    }

    /// A register as the present epoch sees it; what is collected is forgotten on the way.
    pub(super) fn clear(&mut self, key: &Key, found: (Register, Lsn)) -> Option<(Register, Lsn)> {
        let Some(change) = self.guard().cleared(&found.0) else { return Some(found) };
        let tombstone = found.0.chosen.is_some();
        let lsn = self.append(LogRecord::Register { key: key.clone(), change: change.clone() })?;
        self.tombstones.collected += u64::from(tombstone);
        self.tombstones.promises += u64::from(!tombstone);
        let (mut register, _) = found;
        register.apply(&change);
        Some((register, lsn))
    }

    /// Whether a copy that comes by feed is a late one, of something that was collected since.
    pub(super) fn is_stale_copy(&mut self, key: &Key, ballot: Ballot) -> bool {
        let Some((register, _)) = self.load(key) else { return true };
        self.guard().is_stale(&register, ballot)
    }

    pub(super) fn check_change(&self, change: Option<&Change>) {
        debug_assert!(invariant_below_the_bound_nothing_is_taken(&self.guard(), change));
    }

    /// Whether this member has still to align with an epoch of the agreed bound.
    pub(super) fn is_to_complete(&self) -> bool {
        self.configuration.is_member(self.me) && self.configuration.low_bound.agreed > self.tombstones.aligned
    }

    /// Aligned with the present epoch.
    pub(super) fn note_aligned_bound(&mut self) {
        self.tombstones.aligned = self.tombstones.aligned.max(self.configuration.low_bound.agreed);
    }

    /// One step of what is to be done.
    pub(super) fn run_tombstones(&mut self) {
        if self.disk_full || !self.configuration.is_member(self.me) {
            return;
        }
        self.complete();
        self.sweep();
    }

    /// Aligned, and nothing below the bound left that may still be chosen or not: complete. Nothing new comes below it,
    /// so what is left is settled like any key whose coordinator went away.
    fn complete(&mut self) {
        let aligned = self.tombstones.aligned;
        if aligned <= self.tombstones.complete || self.store.pending_count() > PENDING_LOOKED_MAX {
            return;
        }
        for key in self.store.pending(PENDING_LOOKED_MAX) {
            let Some((register, _)) = self.load(&key) else { return };
            if register.is_pending() && register.accepted_ballot().time <= aligned {
                return;
            }
        }
        self.tombstones.complete = aligned;
        if let Some(lsn) = self.note_bound(META_COMPLETE, aligned) {
            self.tombstones.saying = Some((aligned, lsn));
        }
    }

    /// The log is on disk up to `lsn`.
    pub(super) fn publish_complete(&mut self, lsn: Lsn) {
        if let Some((complete, _)) = self.tombstones.saying.take_if(|(_, at)| *at <= lsn) {
            self.tombstones.said = complete;
        }
    }

    /// Takes the rows of what is collected away. They are not seen any more, so this may take as long as it likes.
    fn sweep(&mut self) {
        let collected = self.configuration.low_bound.collected;
        if self.tombstones.sweep.is_none() && collected > self.tombstones.swept {
            self.tombstones.sweep = Some((collected, None));
        }
        let Some((through, after)) = self.tombstones.sweep.take() else { return };
        let Some(swept) = self.stored(self.store.collectable(after.as_ref(), through, LOOKED_AT_ONCE)) else { return };
        for key in &swept.keys {
            // Loading it forgets what is collected.
            if self.load(key).is_none() {
                return;
            }
        }
        if swept.next.is_some() {
            self.tombstones.sweep = Some((through, swept.next));
        } else {
            self.tombstones.swept = through;
            self.note_bound(META_SWEPT, through);
        }
    }

    fn note_bound(&mut self, name: &str, bound: u64) -> Option<Lsn> {
        let value = bytes::Bytes::copy_from_slice(&bound.to_be_bytes());
        self.append(LogRecord::Meta { name: name.to_owned(), value })
    }
}
