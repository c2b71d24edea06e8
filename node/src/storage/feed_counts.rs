//! How many entries of the change feed stand behind a position, without counting them all.
//!
//! The feed is cut into parts, each with the number of its live entries; parts are made, and merged again when they
//! have thinned out, so that their number stays bounded whatever the number of entries and of writes. Only the part
//! in which a position lies has to be looked through.

use super::codec::CodecError;
use std::collections::BTreeMap;

/// Parts at most (16 bytes each).
const PARTS_MAX: usize = 4096;
/// Entries of a part at least, before another one is begun.
const PART_ENTRIES_MIN: u64 = 1024;

/// Live entries of the feed by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FeedCounts {
    /// First sequence of a part → live entries from there to the next part.
    parts: BTreeMap<u64, u64>,
    total: u64,
}

impl FeedCounts {
    /// A new entry.
    pub(super) fn add(&mut self, sequence: u64) {
        let room = self.part_entries();
        let last = self.parts.last_key_value().map(|(start, count)| (*start, *count));
        match last {
            Some((start, count)) if sequence > start && count >= room => {
                self.parts.insert(sequence, 1);
            }
            _ => match self.parts.range_mut(..=sequence).next_back() {
                Some((_, count)) => *count += 1,
                None => {
                    self.parts.insert(sequence, 1);
                }
            },
        }
        self.total += 1;
        if self.parts.len() > PARTS_MAX {
            self.merge();
        }
    }

    /// An entry was superseded.
    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some((_, count)) = self.parts.range_mut(..=sequence).next_back() {
            *count = count.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }

    /// (entries in all parts that begin behind `after`, end of the part in which `after` lies): the entries between
    /// `after` and that end are still to be counted.
    pub(super) fn behind(&self, after: u64) -> (u64, u64) {
        let Some(first) = after.checked_add(1) else { return (0, u64::MAX) };
        let end = self.parts.range(first..).next().map_or(u64::MAX, |(start, _)| *start);
        (self.parts.range(first..).map(|(_, count)| count).sum(), end)
    }

    fn part_entries(&self) -> u64 {
        (self.total / (PARTS_MAX as u64 / 4)).max(PART_ENTRIES_MIN)
    }

    /// Merges neighbours while they fit into one part: at most half of the parts plus one quarter remain.
    fn merge(&mut self) {
        let room = self.part_entries();
        let mut merged: BTreeMap<u64, u64> = BTreeMap::new();
        for (start, count) in std::mem::take(&mut self.parts) {
            match merged.last_entry() {
                Some(mut last) if *last.get() + count <= room => *last.get_mut() += count,
                _ => {
                    merged.insert(start, count);
                }
            }
        }
        self.parts = merged;
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let pair = |(start, count): (&u64, &u64)| [start.to_be_bytes(), count.to_be_bytes()].concat();
        self.parts.iter().flat_map(pair).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (pairs, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(CodecError("counts of the feed"));
        }
        let number = |half: &[u8]| half.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let parts: BTreeMap<u64, u64> = pairs.iter().map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect();
        // Each sequence counts once, so there are fewer; and so that nothing that is added can overflow.
        let total = parts.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        match total {
            Some(total) if total < u64::MAX / 2 => Ok(Self { parts, total }),
            _ => Err(CodecError("more entries of the feed than there can be")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_parts_is_bounded_whatever_is_written() {
        let mut counts = FeedCounts::default();
        let mut live: Vec<u64> = (1..=6_000_000).collect();
        live.iter().for_each(|sequence| counts.add(*sequence));
        assert!(counts.parts.len() <= PARTS_MAX);
        // Nine of ten are superseded by later ones.
        for sequence in live.extract_if(.., |sequence| *sequence % 10 != 0).collect::<Vec<_>>() {
            counts.remove(sequence);
            counts.add(sequence + 6_000_000);
        }
        assert!(counts.parts.len() <= PARTS_MAX);
        assert_eq!(counts.total, 6_000_000);
        assert_eq!(counts.behind(0).0 + counts.parts.values().take(0).sum::<u64>(), 6_000_000);
        assert_eq!(FeedCounts::decode(&counts.encode()).unwrap(), counts);
    }
}
