//! The collection of tombstones as a node and its caretaker drive it: what members say of themselves, and the next low
//! bound. The decisions are `protocol::tombstone_collection`; the steps follow `replication::tombstones`.

use super::World;
use super::caretaker::{Directory, REPORT_AGE_MAX_MS};
use crate::faults::FaultKind;
use crate::history::Violation;
use coequal_protocol::tombstone_collection::{
    MemberWord, NextBound, invariant_bound_step_is_safe, invariant_collected_is_complete_everywhere, next_bound,
};
use coequal_types::{Configuration, LowBound, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bound moves by a part of the life of request ids, and at least by this.
const LIFE_PARTS: u64 = 4;
const INTERVAL_MIN_MS: u64 = 50;

/// The time of a ballot at a Unix time.
pub fn time_at(unix_ms: u64) -> u64 {
    unix_ms << 16
}

impl World {
    /// A node's word on its copy, if that is open.
    pub(super) fn bound_word(&self, at: usize) -> Option<MemberWord> {
        let node = &self.nodes[at];
        let open = node.open().filter(|_| self.plan.tombstone_life_ms > 0)?;
        let view = open.replica.view();
        let unix_ms = node.clock.now(self.now_us).unix_ms;
        Some(MemberWord {
            epoch: view.epoch,
            complete: view.complete,
            horizon: time_at(unix_ms.saturating_sub(self.plan.tombstone_life_ms)),
            tombstones: open.store.counts().tombstones,
        })
    }

    fn words(&self, at: usize, configuration: &Configuration) -> BTreeMap<NodeId, MemberWord> {
        let node = &self.nodes[at];
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let of = |member: &NodeId| {
            if *member == node.id {
                return self.bound_word(at);
            }
            let (report, at_ms) = node.reports.get(member)?;
            let fresh = node.detector.reaches(*member) && now_ms.saturating_sub(*at_ms) < REPORT_AGE_MAX_MS;
            report.bound_word.filter(|_| fresh)
        };
        configuration.members().into_iter().filter_map(|member| Some((member, of(&member)?))).collect()
    }

    /// The caretaker's part: at most one step.
    pub(super) fn step_bound(&mut self, at: usize, configuration: &Configuration) {
        let life_ms = self.plan.tombstone_life_ms;
        if life_ms == 0 || self.bound_rests || self.directory.configuration.epoch != configuration.epoch {
            return;
        }
        let words = self.words(at, configuration);
        let interval = time_at((life_ms / LIFE_PARTS).max(INTERVAL_MIN_MS));
        let NextBound::Step(next) = next_bound(configuration, &words, interval) else { return };
        if !invariant_bound_step_is_safe(configuration, &next)
            || !invariant_collected_is_complete_everywhere(configuration, &next, &words)
        {
            let text = format!("{configuration:?} to {next:?} by {words:?}");
            return self.found(Violation::new("a step of the low bound is safe", text));
        }
        let LowBound { agreed, collected } = next.low_bound;
        self.trace(|| format!("epoch {}: low bound agreed {agreed} collected {collected}", next.epoch));
        self.statistics.count(FaultKind::LowBoundStep);
        self.watch.collected = self.watch.collected.max(collected);
        let entries = self.directory.entries.clone();
        self.directory = Arc::new(Directory { configuration: *next, entries });
    }
}
