//! What holds of a replica after every step, by the functions of the protocol: for whoever drives one step by step.

use super::Replica;
use super::slot::WAITING_MAX;
use coequal_protocol::hot_alignment::invariant_aligned_means_drained_and_settled;
use coequal_protocol::promises::invariant_held_promises_are_bounded;
use coequal_protocol::proposal::invariant_sent_accepts_are_remembered;

impl Replica {
    /// The name of an invariant that does not hold now, if there is one. Looks at everything under way.
    pub fn broken_invariant(&self) -> Option<&'static str> {
        let slots = self.slots.all();
        let mut alignments = self.alignment.iter().chain(&self.epoch_alignment);
        if !slots
            .clone()
            .filter_map(|slot| slot.active.as_ref())
            .all(|active| invariant_sent_accepts_are_remembered(&active.proposal))
        {
            return Some("sent accepts are remembered");
        }
        if !alignments.all(|running| invariant_aligned_means_drained_and_settled(running.decision())) {
            return Some("aligned means drained and settled");
        }
        if !invariant_held_promises_are_bounded(&self.promises) {
            return Some("promises in memory are below the bound on disk");
        }
        if !slots.clone().all(|slot| slot.waiting.len() <= WAITING_MAX) {
            return Some("writes that wait for a document are bounded");
        }
        None
    }
}
