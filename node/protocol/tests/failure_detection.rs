//! Whom a node reaches, by its own clock alone.

mod common;

use coequal_protocol::failure_detection::{FailureDetector, invariant_reached_were_heard_lately};
use coequal_types::NodeId;
use proptest::prelude::*;

const AFTER_MS: u64 = 1_000;
const PEER: NodeId = NodeId(2);

fn heard_at_zero() -> FailureDetector {
    let mut detector = FailureDetector::new(AFTER_MS);
    detector.heard(PEER, 1, 0);
    detector
}

#[test]
fn a_loss_is_reported_once() {
    let mut detector = heard_at_zero();
    assert!(detector.tick(AFTER_MS).lost.is_empty(), "as long as allowed");
    assert_eq!(detector.tick(AFTER_MS + 1).lost, vec![PEER]);
    assert!(detector.tick(AFTER_MS + 2).lost.is_empty());
}

#[test]
fn a_broken_connection_makes_a_peer_unreachable_until_it_is_heard_of() {
    let mut detector = heard_at_zero();
    detector.disconnected(PEER, 100);
    detector.disconnected(PEER, 300);
    assert!(!detector.reaches(PEER));
    assert_eq!(detector.unreachable_ms(PEER, 0, 600), 500, "since the first time");
    assert!(detector.heard(PEER, 2, 700), "it came back");
    assert!(!detector.heard(PEER, 2, 800), "it was there");
    assert_eq!((detector.reaches(PEER), detector.unreachable_ms(PEER, 0, 900)), (true, 0));
    assert_eq!(detector.contact(PEER).map(|contact| contact.incarnation), Some(2));
}

#[test]
fn a_connection_to_somebody_unknown_that_breaks_is_nothing() {
    let mut detector = FailureDetector::new(AFTER_MS);
    detector.disconnected(PEER, 5);
    assert!(detector.contact(PEER).is_none() && !detector.reaches(PEER));
}

#[test]
fn forgotten_nodes_are_as_if_never_heard_of() {
    let mut detector = heard_at_zero();
    detector.heard(NodeId(3), 1, 0);
    detector.retain(&[NodeId(3)]);
    assert!(!detector.reaches(PEER) && detector.reaches(NodeId(3)));
    assert_eq!(detector.unreachable_ms(PEER, 100, 400), 300);
}

proptest! {
    #[test]
    fn whoever_is_reached_was_heard_lately_and_silence_grows_with_time(
        events in prop::collection::vec((0u8..3, 1u64..4, 0u64..900), 1..60),
    ) {
        let (mut detector, mut now) = (FailureDetector::new(AFTER_MS), 0);
        for (kind, node, pause) in events {
            now += pause;
            match kind {
                0 => { detector.heard(NodeId(node), 1, now); }
                1 => detector.disconnected(NodeId(node), now),
                _ => {
                    let findings = detector.tick(now);
                    prop_assert!(findings.lost.iter().all(|lost| !detector.reaches(*lost)));
                    prop_assert!(invariant_reached_were_heard_lately(&detector, now), "{:?} at {now}", detector);
                }
            }
            for id in (1..4).map(NodeId) {
                let silent = detector.unreachable_ms(id, 0, now);
                prop_assert_eq!(silent + 7, detector.unreachable_ms(id, 0, now + 7) + if detector.reaches(id) { 7 } else { 0 });
            }
        }
    }
}
