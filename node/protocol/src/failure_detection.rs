//! Whom this node reaches: by its own monotonic clock, and by nobody else's word.

use coequal_types::{Incarnation, NodeId};
use std::collections::BTreeMap;

/// What a node knows of a peer's liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// When it was last heard of, in milliseconds of the local monotonic clock.
    pub heard_ms: u64,
    /// Since when it has been unreachable, if it is.
    pub unreachable_since_ms: Option<u64>,
    /// Its incarnation when last heard of.
    pub incarnation: Incarnation,
}

/// Contacts of one node.
#[derive(Debug, Clone, Default)]
pub struct FailureDetector {
    after_ms: u64,
    contacts: BTreeMap<NodeId, Contact>,
    ticked_ms: Option<u64>,
}

/// What a tick found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Peers that have just become unreachable.
    pub lost: Vec<NodeId>,
    /// This process itself stood still for longer than a peer may: it was away, whatever it believes.
    pub stood_still_ms: Option<u64>,
}

impl FailureDetector {
    /// A detector that calls a peer unreachable after `after_ms` without a word.
    pub fn new(after_ms: u64) -> Self {
        Self { after_ms, contacts: BTreeMap::new(), ticked_ms: None }
    }

    /// Something came from `node`. True when it was unreachable (or unknown) before.
    pub fn heard(&mut self, node: NodeId, incarnation: Incarnation, now_ms: u64) -> bool {
        let fresh = Contact { heard_ms: now_ms, unreachable_since_ms: None, incarnation };
        let before = self.contacts.insert(node, fresh);
        before.is_none_or(|contact| contact.unreachable_since_ms.is_some())
    }

    /// The connection to `node` broke: not a proof of death, but until it is heard of again it is not reachable.
    pub fn disconnected(&mut self, node: NodeId, now_ms: u64) {
        if let Some(contact) = self.contacts.get_mut(&node) {
            contact.unreachable_since_ms.get_or_insert(now_ms);
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now_ms: u64) -> Findings {
        let mut findings = Findings::default();
        if let Some(before) = self.ticked_ms.replace(now_ms) {
            let gap = now_ms.saturating_sub(before);
            findings.stood_still_ms = (gap > self.after_ms).then_some(gap);
        }
        for (node, contact) in &mut self.contacts {
            let silent = now_ms.saturating_sub(contact.heard_ms) > self.after_ms;
            if silent && contact.unreachable_since_ms.is_none() {
                contact.unreachable_since_ms = Some(now_ms);
                findings.lost.push(*node);
            }
        }
        findings
    }

    /// When the next peer becomes unreachable unless something comes from it before, in milliseconds of the same clock.
    pub fn due_ms(&self) -> Option<u64> {
        let reached = self.contacts.values().filter(|contact| contact.unreachable_since_ms.is_none());
        reached.map(|contact| contact.heard_ms + self.after_ms + 1).min()
    }

    /// Whether `node` is reachable now.
    pub fn reaches(&self, node: NodeId) -> bool {
        self.contacts.get(&node).is_some_and(|contact| contact.unreachable_since_ms.is_none())
    }

    /// The contact with `node`, if it was ever heard of.
    pub fn contact(&self, node: NodeId) -> Option<&Contact> {
        self.contacts.get(&node)
    }

    /// For how long `node` has been unreachable; a node never heard of counts from `started_ms`.
    pub fn unreachable_ms(&self, node: NodeId, started_ms: u64, now_ms: u64) -> u64 {
        match self.contacts.get(&node) {
            Some(contact) => contact.unreachable_since_ms.map_or(0, |since| now_ms.saturating_sub(since)),
            None => now_ms.saturating_sub(started_ms),
        }
    }

    /// Forgets nodes that are not in `nodes` any more.
    pub fn retain(&mut self, nodes: &[NodeId]) {
        self.contacts.retain(|node, _| nodes.contains(node));
    }
}

/// After a tick, whoever is called reachable was heard of within the allowed silence.
pub fn invariant_reached_were_heard_lately(detector: &FailureDetector, now_ms: u64) -> bool {
    let lately = |contact: &Contact| now_ms.saturating_sub(contact.heard_ms) <= detector.after_ms;
    detector.contacts.values().all(|contact| contact.unreachable_since_ms.is_some() || lately(contact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_a_peer_unreachable_and_one_word_brings_it_back() {
        let mut detector = FailureDetector::new(1000);
        assert!(detector.heard(NodeId(1), 1, 0));
        assert!(!detector.heard(NodeId(1), 1, 500));
        detector.tick(1000);
        assert!(detector.reaches(NodeId(1)));
        assert_eq!(detector.due_ms(), Some(1501));
        assert_eq!(detector.tick(1501).lost, vec![NodeId(1)]);
        assert_eq!(detector.due_ms(), None);
        assert_eq!(detector.unreachable_ms(NodeId(1), 0, 2501), 1000);
        assert!(detector.heard(NodeId(1), 1, 3000));
        assert!(detector.reaches(NodeId(1)));
    }

    #[test]
    fn a_process_that_stood_still_finds_out_by_itself() {
        let mut detector = FailureDetector::new(1000);
        assert_eq!(detector.tick(10).stood_still_ms, None);
        assert_eq!(detector.tick(900).stood_still_ms, None);
        assert_eq!(detector.tick(9000).stood_still_ms, Some(8100));
    }

    #[test]
    fn a_node_never_heard_of_is_unreachable_since_the_start() {
        let detector = FailureDetector::new(1000);
        assert!(!detector.reaches(NodeId(7)));
        assert_eq!(detector.unreachable_ms(NodeId(7), 100, 600), 500);
    }
}
