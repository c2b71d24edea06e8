//! Reading many: documents in key order, and the change feed.

use super::error::StorageError;
use super::overlay::Overlay;
use super::store::Store;
use coequal_protocol::Key;
use coequal_protocol::message::ChosenBody;
use coequal_protocol::register::Held;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Feed entries looked at in one go when counting.
const COUNT_CHUNK: usize = 4096;
/// How often a checkpoint may end in the middle of reading a piece of the feed before none may: then writes wait meanwhile.
const RETRIES_MAX: usize = 8;

/// A page of documents being put together.
struct Page<'a> {
    bodies: Vec<ChosenBody>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    prefix: &'a [u8],
}

impl Page<'_> {
    /// Whether there is room for more.
    fn push(&mut self, key: Key, held: Held) -> bool {
        self.bytes += key.as_bytes().len() + held.revision.body.as_ref().map_or(0, |body| body.len());
        self.bodies.push(ChosenBody { key, ballot: held.ballot, revision: held.revision });
        self.has_room()
    }

    fn has_room(&self) -> bool {
        self.bodies.len() < self.entries_max && self.bytes < self.bytes_max
    }
}

impl Store {
    /// Chosen revisions, tombstones too, in key order behind `after`, whose keys begin with `prefix`: at most `entries_max`
    /// and about `bytes_max` bytes, at least one if there is one. One short read transaction.
    pub fn scan(
        &self,
        after: Option<&Key>,
        prefix: &[u8],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<ChosenBody>, StorageError> {
        let from = match after.map(|key| &key.as_bytes()[..]) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = Page { bodies: Vec::new(), bytes: 0, entries_max, bytes_max, prefix };
        if entries_max == 0 {
            return Ok(page.bodies);
        }
        // The file is opened for reading while memory is locked, so that both are of one moment.
        let live = self.live();
        let newest = rows(&live.active, from, &page);
        let frozen = live.frozen.as_ref().map(Arc::clone);
        let reading = self.documents.begin()?;
        drop(live);
        let older = frozen.map(|frozen| rows(&frozen.overlay, from, &page)).unwrap_or_default();
        let mut memory = over(newest, older).into_iter().peekable();
        let mut room = true;
        reading.registers(from, |key, register| {
            if !key.as_bytes().starts_with(page.prefix) {
                return false;
            }
            while let Some((newer, held)) = memory.next_if(|(newer, _)| room && *newer < key) {
                room = held.is_none_or(|held| page.push(newer, held));
            }
            // Memory hides the file: the same key comes from there, in its turn, or is not there any more.
            let hidden = memory.peek().is_some_and(|(newer, _)| *newer == key);
            if let Some(held) = register.chosen.filter(|_| room && !hidden) {
                room = page.push(key, held);
            }
            room
        })?;
        drop(reading);
        while let Some((key, held)) = memory.next().filter(|_| room) {
            room = held.is_none_or(|held| page.push(key, held));
        }
        Ok(page.bodies)
    }

    /// At most `entries_max` live entries of the feed behind `after`, in order: of each document only the newest.
    pub fn feed_after(&self, after: u64, entries_max: usize) -> Result<Vec<(u64, Key)>, StorageError> {
        let mut found = Vec::new();
        let mut first = after.checked_add(1);
        while let Some(begin) = first.filter(|_| found.len() < entries_max) {
            let piece = self.feed_piece(begin, u64::MAX, entries_max - found.len())?;
            found.extend(piece.entries);
            first = piece.next;
        }
        found.truncate(entries_max);
        Ok(found)
    }

    /// How many live entries the feed has behind `after`. Cheap wherever that is.
    pub fn feed_count_after(&self, after: u64) -> Result<u64, StorageError> {
        let (mut count, end) = self.live().facts.feed_counts.behind(after);
        let mut first = after.checked_add(1);
        while let Some(begin) = first.filter(|begin| *begin < end) {
            let piece = self.feed_piece(begin, end, COUNT_CHUNK)?;
            count += piece.entries.len() as u64;
            first = piece.next;
        }
        Ok(count)
    }

    /// A piece of the feed from `first` on and before `end`, looking at `max` entries of each layer.
    fn feed_piece(&self, first: u64, end: u64, max: usize) -> Result<Piece, StorageError> {
        let mut tries = 0;
        loop {
            let live = self.live();
            let checkpoints = live.checkpoints;
            let mut candidates = Candidates::default();
            candidates.add_overlay(&live.active, first, end, max);
            if let Some(frozen) = &live.frozen {
                candidates.add_overlay(&frozen.overlay, first, end, max);
            }
            let reading = self.documents.begin()?;
            let held = (tries == RETRIES_MAX).then_some(live);
            candidates.add(reading.feed(first, end, max)?, max);
            drop(reading);
            let live = held.unwrap_or_else(|| self.live());
            // A checkpoint that ended meanwhile took memory away that tells which entries are superseded.
            if live.checkpoints != checkpoints {
                tries += 1;
                continue;
            }
            let Candidates { mut entries, through } = candidates;
            entries.retain(|sequence, key| {
                *sequence <= through && live.entry(key).is_none_or(|entry| entry.register.feed_sequence == *sequence)
            });
            let next = through.checked_add(1).filter(|_| through != u64::MAX);
            return Ok(Piece { entries: entries.into_iter().collect(), next });
        }
    }
}

/// What memory says of a document.
type Row = (Key, Option<Held>);

/// The chosen revisions of a layer, as many as a page can need, and with them the keys that have none any more: they hide
/// what older layers say.
fn rows(overlay: &Overlay, from: Bound<&[u8]>, page: &Page<'_>) -> Vec<Row> {
    let entries = overlay.entries.range::<[u8], _>((from, Bound::Unbounded));
    let (mut rows, mut taken) = (Vec::new(), 0);
    for (key, entry) in entries.take_while(|(key, _)| key.0.as_bytes().starts_with(page.prefix)) {
        let chosen = &entry.register.chosen;
        if chosen.is_some() || entry.stored.feed_sequence != 0 {
            rows.push((key.0.clone(), chosen.clone()));
        }
        taken += usize::from(chosen.is_some());
        if taken == page.entries_max {
            break;
        }
    }
    rows
}

/// Both are in key order; of a key that both have, the newer layer's row.
fn over(newer: Vec<Row>, older: Vec<Row>) -> Vec<Row> {
    if older.is_empty() {
        return newer;
    }
    let mut merged = Vec::with_capacity(newer.len() + older.len());
    let mut newer = newer.into_iter().peekable();
    for row in older {
        while let Some(before) = newer.next_if(|(key, _)| *key < row.0) {
            merged.push(before);
        }
        if newer.peek().is_none_or(|(key, _)| *key != row.0) {
            merged.push(row);
        }
    }
    merged.extend(newer);
    merged
}

struct Piece {
    entries: Vec<(u64, Key)>,
    /// Where to go on; `None` at the end.
    next: Option<u64>,
}

struct Candidates {
    entries: BTreeMap<u64, Key>,
    /// All layers were looked at up to here.
    through: u64,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), through: u64::MAX }
    }
}

impl Candidates {
    fn add_overlay(&mut self, overlay: &Overlay, first: u64, end: u64, max: usize) {
        let rows = overlay.feed.range(first..end).take(max).map(|(sequence, key)| (*sequence, key.clone()));
        self.add(rows.collect(), max);
    }

    fn add(&mut self, rows: Vec<(u64, Key)>, max: usize) {
        if rows.len() == max {
            self.through = self.through.min(rows.last().map_or(u64::MAX, |(sequence, _)| *sequence));
        }
        self.entries.extend(rows);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use coequal_protocol::{Ballot, Revision};
    use coequal_types::NodeId;
    use proptest::prelude::*;

    /// Rows of so many layers, each with the number of its layer as its version.
    fn layer(keys: &std::collections::BTreeSet<u8>, version: u64) -> Vec<Row> {
        let ballot = Ballot::ordinary(version, NodeId(1), 1);
        let revision = Arc::new(Revision { version, stamp: ballot, body: None, history: Vec::new() });
        let row = |key: &u8| (Key::of("c", &key.to_string()), Some(Held { ballot, revision: Arc::clone(&revision) }));
        let mut rows: Vec<Row> = keys.iter().map(row).collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        rows
    }

    proptest! {
        #[test]
        fn of_two_layers_each_key_is_there_once_in_order_and_from_the_newer(
            newer in proptest::collection::btree_set(0u8..40, 0..30),
            older in proptest::collection::btree_set(0u8..40, 0..30),
        ) {
            let version = |row: &Row| row.1.as_ref().map(|held| held.revision.version);
            let expected: BTreeMap<Key, Option<u64>> =
                layer(&older, 1).iter().chain(&layer(&newer, 2)).map(|row| (row.0.clone(), version(row))).collect();
            let merged = over(layer(&newer, 2), layer(&older, 1));
            let found: Vec<_> = merged.iter().map(|row| (row.0.clone(), version(row))).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
