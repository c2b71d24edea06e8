//! Auto-deploy: from whom to copy a database, where to go on after an interruption, and what the copy is worth.
//!
//! A copy is fuzzy: documents change while it runs. What changed comes by the feeds, so the position of the
//! donor's feed when the copy began is remembered; it counts only while nobody else gave a part of the copy.
//!
//! So are the donor's cursors in the feeds of others: what it had applied of them when the copy began is in the copy,
//! since every range is read later. That holds within one opening of the donor's store only: a cursor that was not on
//! its disk yet may be ahead of what is there after a power cut, and the ranges read then lack what it speaks of. (What the
//! donor's own feed says is another matter: what it has forgotten gets a newer place in it when it is learned again.)

use crate::faults::{Fault, broken};
use crate::key::Key;
use crate::record::FeedId;
use coequal_types::NodeId;
use std::collections::BTreeMap;

/// Where a donor stands when it reads a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DonorPosition {
    /// Its feed.
    pub feed: FeedId,
    /// The feed's head.
    pub head: u64,
    /// How often its store was opened until now; 0 when it does not say.
    pub opening: u64,
    /// How far it has applied the feeds of others. Only in the answer that begins a copy.
    pub cursors: Vec<(NodeId, FeedId, u64)>,
}

/// How far a copy is. Stored with what was copied, in the same commit, so that it can go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Who gave the newest range.
    pub donor: Option<NodeId>,
    /// The donor's feed when the copy began; void once another donor gave a part.
    pub start: Option<(FeedId, u64)>,
    /// The opening of the donor's store with which the copy began.
    pub opening: u64,
    /// The donor's cursors when the copy began; none once another donor, or another opening, gave a part.
    pub inherited: Vec<(NodeId, FeedId, u64)>,
    /// Everything up to this key is copied.
    pub after: Option<Key>,
    /// Documents and tombstones copied.
    pub entries: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl CopyProgress {
    /// A range comes from `donor`, which stood there when it read the range.
    pub fn take_range(&mut self, donor: NodeId, position: DonorPosition) {
        let DonorPosition { feed, head, opening, cursors } = position;
        let first = self.donor.is_none() && self.after.is_none();
        if first {
            self.start = Some((feed, head));
            self.opening = opening;
            self.inherited = if opening > 0 { cursors } else { Vec::new() };
        } else if self.donor != Some(donor) || self.start.is_some_and(|(known, _)| known != feed) {
            // The first donor's feed says nothing about the part that another one gave, nor the other way round.
            self.start = self.start.filter(|_| broken(Fault::CopyOfManyHasCursor));
            self.inherited.clear();
        } else if self.opening != opening && !broken(Fault::CursorsOfFormerOpening) {
            self.inherited.clear();
        }
        self.donor = Some(donor);
    }

    /// Notes what is written of a range.
    pub fn add(&mut self, key: &Key, body_bytes: usize) {
        self.entries += u64::from(!key.collection().starts_with('_'));
        self.bytes += (key.as_bytes().len() + body_bytes) as u64;
        self.after = Some(key.clone());
    }

    /// Whose feed is known up to where, once the copy is whole: the cursors to begin the alignment with, the donor's first.
    pub fn cursors(&self, me: NodeId) -> Vec<(NodeId, FeedId, u64)> {
        let (Some((feed, head)), Some(donor)) = (self.start, self.donor) else { return Vec::new() };
        let others = self.inherited.iter().filter(|(node, ..)| *node != me && *node != donor);
        std::iter::once((donor, feed, head)).chain(others.copied()).collect()
    }

    /// Disk space that the rest of a copy of `total` entries needs, in bytes: pages are half full at worst.
    pub fn space_needed(&self, total: u64) -> u64 {
        let each = self.bytes.checked_div(self.entries).unwrap_or(0);
        total.saturating_sub(self.entries) * each * 2 + SPACE_RESERVE_BYTES
    }
}

/// Space that stays free beyond what the copy is expected to take: the log holds the newest part a second time.
pub const SPACE_RESERVE_BYTES: u64 = 64 << 20;

/// A donor that sends a damaged range so often, or stays silent once, makes room for others.
const TRIES: u32 = 3;

/// How often each donor failed since it last gave a range. One that stays silent, though it is reached and says that it is
/// ONLINE, must not hold a copy up for ever.
#[derive(Debug, Clone, Default)]
pub struct DonorFailures(BTreeMap<NodeId, u32>);

impl DonorFailures {
    /// A range of `donor` came, and was whole.
    pub fn gave(&mut self, donor: NodeId) {
        self.0.remove(&donor);
    }

    /// A range of `donor` was damaged. That is mostly of the way: it is asked again, as another one would end its cursor.
    pub fn sent_damage(&mut self, donor: NodeId) {
        self.add(donor, 1);
    }

    /// `donor` did not answer in time.
    pub fn was_silent(&mut self, donor: NodeId) {
        self.add(donor, TRIES);
    }

    fn add(&mut self, donor: NodeId, count: u32) {
        let failures = self.0.entry(donor).or_default();
        *failures = failures.saturating_add(count);
    }

    /// How often others were preferred to it; whoever has the least is asked.
    fn rank(&self, donor: NodeId) -> u32 {
        self.0.get(&donor).map_or(0, |failures| failures / TRIES)
    }
}

/// Of those that can give and failed least, the donor so far or the first.
pub fn choose_donor(so_far: Option<NodeId>, usable: &[NodeId], failures: &DonorFailures) -> Option<NodeId> {
    let least = usable.iter().map(|donor| failures.rank(*donor)).min()?;
    let mut best = usable.iter().copied().filter(|donor| failures.rank(*donor) == least);
    let first = best.clone().next();
    best.find(|donor| so_far == Some(*donor)).or(first)
}

/// A cursor is only claimed when the whole copy came from one feed, those of others only when it came from one opening of
/// its store. `given` is who gave each range, with its feed and opening.
pub fn invariant_cursor_needs_one_donor(progress: &CopyProgress, given: &[(NodeId, FeedId, u64)]) -> bool {
    let claimed = progress.cursors(NodeId::default());
    let Some((donor, feed, _)) = claimed.first() else { return true };
    let one_feed = given.iter().all(|(node, of, _)| (node, of) == (donor, feed));
    let one_opening = given.iter().all(|(_, _, opening)| *opening == progress.opening);
    one_feed && (one_opening || claimed.len() == 1)
}
