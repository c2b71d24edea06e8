//! Finding what may be collected, a bounded piece at a time.

use super::error::StorageError;
use super::overlay::Overlay;
use super::store::Store;
use coequal_protocol::tombstone_collection::has_collected;
use coequal_protocol::{Key, Register};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A piece of the key space that was looked through.
#[derive(Debug, PartialEq, Eq)]
pub struct Swept {
    /// Keys whose registers hold something that is collected.
    pub keys: Vec<Key>,
    /// Where to go on; `None` at the end.
    pub next: Option<Key>,
}

impl Store {
    /// Looks through the registers behind `after`, in key order, at most `looked_max` of each layer, for those that change
    /// when everything collected `through` is forgotten. One short read transaction.
    pub fn collectable(&self, after: Option<&Key>, through: u64, looked_max: usize) -> Result<Swept, StorageError> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(&key.as_bytes()[..]));
        let mut piece = Piece { found: BTreeMap::new(), end: None, through, looked_max: looked_max.max(1) };
        // The file is opened for reading while memory is locked, so that both are of one moment.
        let live = self.live();
        piece.add_overlay(&live.active, from);
        if let Some(frozen) = &live.frozen {
            piece.add_overlay(&frozen.overlay, from);
        }
        let reading = self.documents.begin()?;
        drop(live);
        let mut rows = Vec::new();
        reading.registers(from, |key, register| {
            rows.push((key, has_collected(&register, through)));
            rows.len() < piece.looked_max
        })?;
        drop(reading);
        piece.add(rows.into_iter());
        let Piece { mut found, end, .. } = piece;
        found.retain(|key, collected| *collected && end.as_ref().is_none_or(|end| key <= end));
        Ok(Swept { keys: found.into_keys().collect(), next: end })
    }
}

struct Piece {
    /// Whether each key is collected, by its newest layer.
    found: BTreeMap<Key, bool>,
    /// All layers were looked at up to here.
    end: Option<Key>,
    through: u64,
    looked_max: usize,
}

impl Piece {
    fn add_overlay(&mut self, overlay: &Overlay, from: Bound<&[u8]>) {
        let through = self.through;
        let entries = overlay.entries.range::<[u8], _>((from, Bound::Unbounded)).take(self.looked_max);
        let looked = |register: &Register| has_collected(register, through);
        self.add(entries.map(|(key, entry)| (key.0.clone(), looked(&entry.register))));
    }

    fn add(&mut self, rows: impl Iterator<Item = (Key, bool)>) {
        let (mut count, mut last) = (0, None);
        for (key, collected) in rows {
            count += 1;
            last = Some(key.clone());
            self.found.entry(key).or_insert(collected);
        }
        if let Some(last) = last.filter(|_| count == self.looked_max) {
            self.end = Some(match self.end.take() {
                Some(end) => end.min(last),
                None => last,
            });
        }
    }
}
