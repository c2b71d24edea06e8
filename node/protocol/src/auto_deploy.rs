//! Auto-deploy: from whom to copy a database, where to go on after an interruption, and what the copy is worth.
//!
//! A copy is fuzzy: documents change while it runs. What changed comes by the feeds, so the position of the
//! donor's feed when the copy began is remembered; it counts only while nobody else gave a part of the copy.

use crate::faults::{Fault, broken};
use crate::key::Key;
use crate::record::FeedId;
use coequal_types::NodeId;

/// How far a copy is. Stored with what was copied, in the same commit, so that it can go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Who gave the newest range.
    pub donor: Option<NodeId>,
    /// The donor's feed when the copy began; void once another donor gave a part.
    pub start: Option<(FeedId, u64)>,
    /// Everything up to this key is copied.
    pub after: Option<Key>,
    /// Documents and tombstones copied.
    pub entries: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl CopyProgress {
    /// A range comes from `donor`, whose feed `feed` had its head at `head` when the range was read.
    pub fn take_range(&mut self, donor: NodeId, feed: FeedId, head: u64) {
        let first = self.donor.is_none() && self.after.is_none();
        if first {
            self.start = Some((feed, head));
        } else if self.donor != Some(donor) || self.start.is_some_and(|(known, _)| known != feed) {
            // The first donor's feed says nothing about the part that another one gave, nor the other way round.
            self.start = self.start.filter(|_| broken(Fault::CopyOfManyHasCursor));
        }
        self.donor = Some(donor);
    }

    /// Notes what is written of a range.
    pub fn add(&mut self, key: &Key, body_bytes: usize) {
        self.entries += u64::from(!key.collection().starts_with('_'));
        self.bytes += (key.as_bytes().len() + body_bytes) as u64;
        self.after = Some(key.clone());
    }

    /// Whose feed is known up to where, once the copy is whole: the cursor to begin the alignment with.
    pub fn cursor(&self) -> Option<(NodeId, FeedId, u64)> {
        let (feed, head) = self.start?;
        self.donor.map(|donor| (donor, feed, head))
    }

    /// Disk space that the rest of a copy of `total` entries needs, in bytes: pages are half full at worst.
    pub fn space_needed(&self, total: u64) -> u64 {
        let each = self.bytes.checked_div(self.entries).unwrap_or(0);
        total.saturating_sub(self.entries) * each * 2 + SPACE_RESERVE_BYTES
    }
}

/// Space that stays free beyond what the copy is expected to take: the log holds the newest part a second time.
pub const SPACE_RESERVE_BYTES: u64 = 64 << 20;

/// The donor so far while it can give, else the first that can.
pub fn choose_donor(so_far: Option<NodeId>, usable: &[NodeId]) -> Option<NodeId> {
    so_far.filter(|donor| usable.contains(donor)).or_else(|| usable.first().copied())
}

/// A cursor is only claimed for a feed from which the whole copy came.
pub fn invariant_cursor_needs_one_donor(progress: &CopyProgress, donors: &[(NodeId, FeedId)]) -> bool {
    progress.cursor().is_none_or(|(node, feed, _)| donors.iter().all(|given| *given == (node, feed)))
}
