//! The collection of tombstones seen from the node: what the members say, the next low bound, and what people see of it.
//! The decisions are `protocol::tombstone_collection`; the caretaker writes them into the configurations.

use super::clock::NodeClock;
use super::node::{LocalDatabase, Node, Place, State};
use super::report::LowBoundWord;
use super::system::{self, Stored};
use coequal_protocol::clock::physical_ms;
use coequal_protocol::tombstone_collection::{
    MemberWord, NextBound, invariant_bound_step_is_safe, invariant_collected_is_complete_everywhere, next_bound,
};
use coequal_types::rest::TombstoneCollection;
use coequal_types::{Configuration, LowBound, NodeId};
use std::collections::BTreeMap;

const WRITE_DEADLINE_MS: u64 = 3_000;
/// A report older than this says nothing about now.
const REPORT_AGE_MAX_MS: u64 = 3_000;
/// The bound moves by a part of the life of request ids, and at most this often: each step is two epochs.
const LIFE_PARTS: u64 = 24;
const INTERVAL_MIN_MS: u64 = 1_000;

/// The time of a ballot at a Unix time.
fn time_at(unix_ms: u64) -> u64 {
    unix_ms << 16
}

/// What was deleted before this is old enough for this node.
pub(super) fn horizon(clock: NodeClock, life_ms: u64) -> u64 {
    time_at(clock.now().unix_ms.saturating_sub(life_ms))
}

/// A new database: nothing in it is as old as that.
pub(super) fn first_bound(node: &Node) -> LowBound {
    let time = horizon(node.clock, node.settings.tombstone_life_ms);
    LowBound { agreed: time, collected: time }
}

impl LocalDatabase {
    /// This node's word on one of its databases, if it is open.
    pub fn low_bound_word(&self, horizon: u64) -> Option<LowBoundWord> {
        let Place::Open(handle) = &self.place else { return None };
        let view = handle.view();
        let tombstones = handle.store.counts().tombstones;
        Some(LowBoundWord { epoch: view.epoch, complete: view.complete, horizon, tombstones })
    }
}

/// The members' words of late, this node's own included.
fn words(node: &Node, state: &State, configuration: &Configuration) -> BTreeMap<NodeId, MemberWord> {
    let now_ms = node.now_ms();
    let uuid = configuration.uuid;
    let own = state.databases.get(&configuration.name).filter(|known| known.configuration.uuid == uuid);
    let own = own.and_then(|known| known.low_bound_word(horizon(node.clock, node.settings.tombstone_life_ms)));
    let of = |member: &NodeId| {
        if *member == node.id {
            return own;
        }
        let (report, at_ms) = state.reports.get(member)?;
        let fresh = state.detector.reaches(*member) && now_ms.saturating_sub(*at_ms) < REPORT_AGE_MAX_MS;
        report.low_bounds.get(&uuid).copied().filter(|_| fresh)
    };
    let word = |word: LowBoundWord| MemberWord {
        epoch: word.epoch,
        complete: word.complete,
        horizon: word.horizon,
        tombstones: word.tombstones,
    };
    configuration.members().into_iter().filter_map(|member| Some((member, word(of(&member)?)))).collect()
}

fn interval(node: &Node) -> u64 {
    time_at((node.settings.tombstone_life_ms / LIFE_PARTS).max(INTERVAL_MIN_MS))
}

/// The caretaker's part: at most one step for each database.
pub(super) async fn run(node: &Node, configurations: &[Stored<Configuration>]) {
    let Ok(handle) = node.system() else { return };
    for stored in configurations {
        let words = words(node, &node.state(), &stored.value);
        let NextBound::Step(next) = next_bound(&stored.value, &words, interval(node)) else { continue };
        let safe = invariant_bound_step_is_safe(&stored.value, &next)
            && invariant_collected_is_complete_everywhere(&stored.value, &next, &words);
        if !safe {
            tracing::error!(database = %next.name, from = ?stored.value, to = ?next, "unsafe low bound refused");
            continue;
        }
        let LowBound { agreed, collected } = next.low_bound;
        tracing::info!(database = %next.name, epoch = next.epoch, agreed = physical_ms(agreed), collected = physical_ms(collected), "low bound moves");
        let deadline_ms = node.now_ms() + WRITE_DEADLINE_MS;
        let key = system::configuration_key(&next.name);
        if let Err(error) = system::write(&handle, key, &*next, Some(stored.stamp), deadline_ms).await {
            tracing::debug!(%error, database = %next.name, "low bound not written; looked at again");
        }
        node.wake.notify_one();
    }
}

/// Members without which the bound does not move.
pub(super) fn waits_for(node: &Node, state: &State, configuration: &Configuration) -> Vec<NodeId> {
    match next_bound(configuration, &words(node, state, configuration), interval(node)) {
        NextBound::WaitsFor(members) => members,
        NextBound::Nothing | NextBound::Step(_) => Vec::new(),
    }
}

/// What people see of it.
pub(super) fn describe(node: &Node, state: &State, configuration: &Configuration) -> TombstoneCollection {
    let known = state.databases.get(&configuration.name);
    let word = known.and_then(|known| known.low_bound_word(0)).unwrap_or_default();
    TombstoneCollection {
        tombstones: word.tombstones,
        life_seconds: node.settings.tombstone_life_ms / 1_000,
        refused_before_unix_ms: physical_ms(configuration.low_bound.agreed),
        complete_before_unix_ms: physical_ms(word.complete),
        collected_before_unix_ms: physical_ms(configuration.low_bound.collected),
        waits_for: waits_for(node, state, configuration),
    }
}
