//! Who coordinates the writes of a document that is fought for: one node at a time, so that its coordinators do not outbid each
//! other, and each in its turn, so that no node's clients are always the first to hear of a new version (a client far from the
//! coordinator would never come through with conditional writes).
//!
//! Turns go by the document's own versions: who knows the same version and reaches the same voters asks the same node, without
//! a clock. It is a hint: two that coordinate at once outbid each other, and nothing else happens.

use crate::Key;
use coequal_types::NodeId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Versions of a document that one node brings about before the next one's turn comes. Each handover costs a round or two of
/// outbidding.
pub const TURN_VERSIONS: u64 = 32;

/// The node that coordinates, of those `voters` that are reached, when `version` is the newest that is known.
pub fn coordinator(key: &Key, version: u64, voters: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let mut order: Vec<NodeId> = voters.collect();
    order.sort_unstable_by_key(|node| (weight(key, *node), *node));
    let turn = usize::try_from(version / TURN_VERSIONS % order.len().max(1) as u64).unwrap_or(0);
    order.get(turn).copied()
}

/// A number by which each key has an order of nodes of its own, the same wherever it is asked.
pub fn weight(key: &Key, node: NodeId) -> u64 {
    xxh3_64_with_seed(key.as_bytes(), node.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn key(number: u64) -> Key {
        Key::of("things", &format!("k{number}"))
    }

    fn voters() -> impl Iterator<Item = NodeId> {
        (1..=5).map(NodeId)
    }

    #[test]
    fn within_a_turn_it_is_one_node_and_then_each_of_the_others() {
        let in_turn = |turn: u64, version: u64| coordinator(&key(1), turn * TURN_VERSIONS + version, voters()).unwrap();
        let mut turns = BTreeMap::new();
        for turn in 0..10 {
            assert!((0..TURN_VERSIONS).all(|version| in_turn(turn, version) == in_turn(turn, 0)));
            *turns.entry(in_turn(turn, 0)).or_insert(0) += 1;
        }
        assert_eq!(turns, voters().map(|node| (node, 2)).collect());
    }

    #[test]
    fn documents_are_spread_and_the_order_of_the_voters_does_not_matter() {
        let mut firsts = BTreeMap::new();
        for number in 0..500 {
            let backwards = coordinator(&key(number), 0, (1..=5).rev().map(NodeId));
            assert_eq!(backwards, coordinator(&key(number), 0, voters()));
            *firsts.entry(backwards.unwrap()).or_insert(0) += 1;
        }
        assert!(firsts.len() == 5 && firsts.values().all(|count| *count > 50), "{firsts:?}");
    }

    #[test]
    fn where_nobody_is_reached_nobody_coordinates() {
        assert_eq!(coordinator(&key(1), 7, std::iter::empty()), None);
    }
}
