//! Places of a document's states in its history. Versions count up by one, and begin again at 1 when the document is
//! written after its tombstone was collected: then it is in its next generation. A place is the generation in the upper
//! half and the version in the lower one, so places are ordered as the states were; version 0 is "no document".

use crate::watch::Chosen;
use coequal_protocol::tombstone_collection::is_collected;
use coequal_protocol::{Ballot, Revision};
use std::collections::BTreeMap;

const VERSION_BITS: u32 = 32;

/// States of one document by their places.
pub type Versions = BTreeMap<u64, Chosen>;

/// The place of a version in a generation.
pub const fn place(generation: u64, version: u64) -> u64 {
    generation << VERSION_BITS | version
}

/// The generation of a place.
pub const fn generation(place: u64) -> u64 {
    place >> VERSION_BITS
}

/// The version at a place.
pub const fn version(place: u64) -> u64 {
    place & ((1 << VERSION_BITS) - 1)
}

/// The newest generation that was seen.
pub fn newest(versions: &Versions) -> u64 {
    versions.last_key_value().map_or(0, |(place, _)| generation(*place))
}

/// Where the state of this version and stamp stands, if it was seen.
pub fn place_of(versions: &Versions, version: u64, stamp: Ballot) -> Option<u64> {
    let has_stamp = |place: &u64| versions.get(place).is_some_and(|chosen| chosen.stamp == stamp);
    (0..=newest(versions)).rev().map(|generation| place(generation, version)).find(has_stamp)
}

/// The generation of a revision that is seen chosen: that of any state of its history, or a new one where the last
/// state may have been collected and the history begins after it. All else belongs to the newest, whatever it says.
pub fn generation_of(versions: &Versions, revision: &Revision, collected: u64) -> u64 {
    let known = |generation: &u64| {
        let is_known = |version, stamp| {
            versions.get(&place(*generation, version)).is_some_and(|chosen: &Chosen| chosen.stamp == stamp)
        };
        revision.history.iter().any(|entry| is_known(entry.version, entry.stamp))
    };
    let newest = newest(versions);
    let begins = || {
        let last = versions.last_key_value().map(|(_, chosen)| chosen.stamp.time);
        let first = revision.history.first().filter(|entry| entry.version == 1);
        first.is_some_and(|entry| last.is_some_and(|last| last < entry.stamp.time))
    };
    let next = gone(versions, collected).filter(|_| begins()).map(generation);
    (0..=newest).rev().find(known).or(next).unwrap_or(newest)
}

/// The place of "no document" behind the last state, if that is a tombstone which may have been collected.
pub fn gone(versions: &Versions, collected: u64) -> Option<u64> {
    let (last, chosen) = versions.last_key_value()?;
    let revision = chosen.revision.as_ref()?;
    is_collected(revision.stamp, revision, collected).then(|| place(generation(*last) + 1, 0))
}

/// All places at which nothing is known of the document: before it was first written, and behind each collected
/// tombstone.
pub fn absences(versions: &Versions, collected: u64) -> Vec<u64> {
    let between = (0..=newest(versions)).map(|generation| place(generation, 0));
    between.chain(gone(versions, collected)).collect()
}
