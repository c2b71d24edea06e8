//! Hashes of chosen revisions and of ranges of them, and the answer to a range that another node asks about.
//!
//! Hashes have 128 bits (XXH3): differences here are accidents, and an accident is missed with 2^-128.

use crate::ballot::Ballot;
use crate::key::Key;
use crate::register::Held;
use xxhash_rust::xxh3::Xxh3;

/// A chosen revision, as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDigest {
    /// The document.
    pub key: Key,
    /// Ballot of the accept round that chose it.
    pub ballot: Ballot,
    /// Hash of the whole revision.
    pub digest: u128,
    /// Whether the document is deleted.
    pub tombstone: bool,
}

impl KeyDigest {
    /// The digest of a chosen revision: key, ballot, version, stamp, body and remembered writes.
    pub fn of(key: &Key, held: &Held) -> Self {
        let mut hash = Xxh3::new();
        let revision = &held.revision;
        let ballot = |hash: &mut Xxh3, ballot: Ballot| {
            hash.update(&[ballot.class as u8]);
            hash.update(&ballot.time.to_be_bytes());
            hash.update(&ballot.node.0.to_be_bytes());
            hash.update(&ballot.incarnation.to_be_bytes());
        };
        hash.update(&(key.as_bytes().len() as u64).to_be_bytes());
        hash.update(key.as_bytes());
        ballot(&mut hash, held.ballot);
        hash.update(&revision.version.to_be_bytes());
        ballot(&mut hash, revision.stamp);
        hash.update(&revision.body.as_ref().map_or(u64::MAX, |body| body.len() as u64).to_be_bytes());
        hash.update(revision.body.as_deref().unwrap_or_default());
        for entry in &revision.history {
            ballot(&mut hash, entry.stamp);
            hash.update(&entry.version.to_be_bytes());
            hash.update(&[entry.effect as u8, u8::from(entry.request.is_some())]);
            if let Some((id, fingerprint)) = entry.request {
                hash.update(&id.0.to_be_bytes());
                hash.update(&fingerprint.to_be_bytes());
            }
        }
        Self { key: key.clone(), ballot: held.ballot, digest: hash.digest128(), tombstone: revision.is_tombstone() }
    }

    /// Whether it is compared at all: a tombstone at or below the agreed low bound may have been collected by one node
    /// and not yet by the other.
    pub fn takes_part(&self, low_bound: u64) -> bool {
        !self.tombstone || self.ballot.time > low_bound
    }
}

/// Hash of a range: of its entries' hashes, in key order.
pub fn range_digest<'a>(entries: impl IntoIterator<Item = &'a KeyDigest>) -> u128 {
    let mut hash = Xxh3::new();
    for entry in entries {
        hash.update(&entry.digest.to_be_bytes());
    }
    hash.digest128()
}

/// The other side's answer to [`crate::message::Compare::Range`]. `own`: what it holds behind `after`, in key order, at
/// least a little beyond `through`; `cut`: whether there may be more behind the last of them.
pub fn answer_range(range: &Range, own: Vec<KeyDigest>, cut: bool, low_bound: u64) -> RangeAnswer {
    let low_bound = low_bound.max(range.low_bound);
    let inside = |key: &Key| range.through.as_ref().is_none_or(|through| key <= through);
    let reaches = !cut || own.last().is_some_and(|last| !inside(&last.key));
    let through = if reaches { range.through.clone() } else { own.last().map(|last| last.key.clone()) };
    let mut entries = own;
    entries.retain(|entry| inside(&entry.key) && entry.takes_part(low_bound));
    let same = reaches && entries.len() as u64 == range.count && range_digest(&entries) == range.digest;
    if same {
        entries.clear();
    }
    RangeAnswer { same, through, low_bound, entries }
}

/// A range as it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// It begins behind this key.
    pub after: Option<Key>,
    /// Its last key; `None`: to the end.
    pub through: Option<Key>,
    /// How many revisions the asker holds in it.
    pub count: u64,
    /// Their hash.
    pub digest: u128,
    /// Tombstones up to this time are left out.
    pub low_bound: u64,
}

/// What the other side holds in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeAnswer {
    /// Whether it holds exactly the same.
    pub same: bool,
    /// The answer is about the range up to here: the range's end, or less where there is more than an answer holds.
    pub through: Option<Key>,
    /// Tombstones up to this time are left out.
    pub low_bound: u64,
    /// If not the same: what it holds there.
    pub entries: Vec<KeyDigest>,
}
