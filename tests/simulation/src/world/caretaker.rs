//! The node around the database: heartbeats, who reaches whom, and the caretaker that changes the configuration.
//!
//! The decisions are `protocol::failure_detection` and `protocol::membership`. What the system database does for a node
//! stands here as one register that a node reads late and writes only where nothing has changed since, and only while
//! it is connected with a majority: what a replicated document looks like to those who use it.

use super::network::{Packet, Payload, Report};
use super::node::Place;
use super::{Happening, World};
use crate::faults::FaultKind;
use crate::history::Violation;
use coequal_node::replication::replica::Event;
use coequal_protocol::Message;
use coequal_protocol::failure_detection::invariant_reached_were_heard_lately;
use coequal_protocol::forced_recovery::invariant_first_epoch_ends_aligned;
use coequal_protocol::membership::{MemberView, invariant_joint_ends_aligned, invariant_step_is_safe, next_change};
use coequal_protocol::quorum::invariant_quorums_intersect;
use coequal_types::{Configuration, DatabaseStatus, NodeEntry, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

const TICK_US: u64 = 50_000;
const PING_EVERY_MS: u64 = 150;
const CARETAKE_EVERY_MS: u64 = 100;
pub(super) const REPORT_AGE_MAX_MS: u64 = 3_000;

/// What the system database holds.
#[derive(Debug, Clone)]
pub struct Directory {
    /// The configuration of the database.
    pub configuration: Configuration,
    /// The nodes of the cluster.
    pub entries: Vec<NodeEntry>,
}

impl World {
    /// The node's own loop looks around.
    pub(super) fn on_tick(&mut self, at: usize, process: u64) {
        let node = &mut self.nodes[at];
        if node.process != process {
            return;
        }
        if node.paused_until_us > self.now_us {
            let left = node.paused_until_us - self.now_us;
            return self.schedule(left, Happening::Tick { node: at, process });
        }
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let findings = node.detector.tick(now_ms);
        if !invariant_reached_were_heard_lately(&node.detector, now_ms) {
            self.found(Violation::new("reached were heard lately", format!("node {at}")));
        }
        let node = &mut self.nodes[at];
        if findings.stood_still_ms.is_some() {
            node.inbox.push(Event::StoodStill);
        }
        for peer in node.entries.iter().map(|entry| entry.id).filter(|peer| *peer != node.id) {
            let reachable = node.detector.reaches(peer);
            node.inbox.push(Event::Reachable { node: peer, reachable });
        }
        self.wake(at, 0);
        if now_ms.saturating_sub(self.nodes[at].pinged_ms) >= PING_EVERY_MS {
            self.nodes[at].pinged_ms = now_ms;
            self.ping(at);
        }
        self.refresh(at);
        self.keep(at);
        let cares = self.plan.membership || self.plan.tombstone_life_ms > 0;
        if cares && now_ms.saturating_sub(self.nodes[at].caretook_ms) >= CARETAKE_EVERY_MS {
            self.nodes[at].caretook_ms = now_ms;
            self.take_care(at);
        }
        self.schedule(TICK_US, Happening::Tick { node: at, process });
    }

    fn report(&self, at: usize) -> Report {
        let node = &self.nodes[at];
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let (epoch, aligned_epoch) = match &node.place {
            Place::Open(open) => open.replica.epochs(),
            _ => (0, 0),
        };
        let others = node.entries.iter().map(|entry| entry.id).filter(|peer| *peer != node.id);
        let unreachable = others.map(|peer| (peer, node.detector.unreachable_ms(peer, 0, now_ms)));
        let unreachable_ms = unreachable.filter(|(_, ms)| *ms > 0).collect();
        Report { status: node.status(), epoch, aligned_epoch, unreachable_ms, bound_word: self.bound_word(at) }
    }

    fn ping(&mut self, at: usize) {
        let report = Arc::new(self.report(at));
        let me = self.nodes[at].id;
        let peers: Vec<NodeId> = self.nodes[at].entries.iter().map(|entry| entry.id).filter(|id| *id != me).collect();
        for peer in peers {
            self.send(at, peer, Payload::Report(Arc::clone(&report)));
        }
    }

    /// Something arrives at a node.
    pub(super) fn on_packet(&mut self, at: usize, packet: Packet) {
        let now_ms = self.nodes[at].clock.now(self.now_us).monotonic_ms;
        let Packet { from, incarnation, payload, .. } = packet;
        if self.nodes[at].detector.heard(from, incarnation, now_ms) {
            self.nodes[at].inbox.push(Event::Reachable { node: from, reachable: true });
        }
        match payload {
            Payload::Report(report) => {
                self.tell_newer_configuration(at, from, &report);
                self.nodes[at].reports.insert(from, (report, now_ms));
            }
            Payload::Notice(configuration) => self.note_configuration(at, &configuration),
            Payload::Message(message @ Message::RangeRequest { .. }) => self.serve_range(at, from, &message),
            Payload::Message(message @ Message::RangeAnswer { .. }) => self.take_range(at, from, message),
            Payload::Message(message) => {
                if let Message::ConfigurationNotice { configuration } | Message::StaleEpoch { configuration, .. } =
                    &message
                    && let Ok(configuration) = serde_json::from_slice::<Configuration>(configuration)
                {
                    self.note_configuration(at, &configuration);
                }
                if self.nodes[at].open().is_some() {
                    self.nodes[at].inbox.push(Event::Peer { from, incarnation, message });
                }
            }
        }
        let gathering_us = self.random.below(200);
        self.wake(at, gathering_us);
    }

    fn tell_newer_configuration(&mut self, at: usize, to: NodeId, report: &Report) {
        let Some(own) = &self.nodes[at].configuration else { return };
        let newest = self.nodes[at].open().map(|open| open.replica.configuration()).filter(|c| c.epoch > own.epoch);
        let newest = newest.unwrap_or(own);
        let behind = report.epoch > 0 && report.epoch < newest.epoch;
        let ought_to_know = newest.is_member(to) || newest.excluded.contains(&to);
        if behind || report.epoch == 0 && ought_to_know {
            let notice = Arc::new(newest.clone());
            self.send(at, to, Payload::Notice(notice));
        }
    }

    /// Whether a node has two ways to a majority of the voters.
    fn is_connected(&self, at: usize) -> bool {
        let me = self.nodes[at].id;
        let voters = self.directory.configuration.all_voters();
        let there = |voter: &&NodeId| {
            **voter == me
                || self.index_of(**voter).is_some_and(|other| self.nodes[other].is_up() && self.listens(other, at))
                    && !self.network.is_blocked(me, **voter)
                    && !self.network.is_blocked(**voter, me)
        };
        voters.iter().filter(there).count() > voters.len() / 2
    }

    /// Reads the register; the answer is late, and may be outdated when it comes.
    fn refresh(&mut self, at: usize) {
        let node = &self.nodes[at];
        let known = node.configuration.as_ref().map_or(0, |configuration| configuration.epoch);
        let news = known < self.directory.configuration.epoch || node.entries != self.directory.entries;
        if news && !self.lost.contains(&at) && self.is_connected(at) {
            let directory = Arc::clone(&self.directory);
            let (delay, process) = (self.random.between(500, 40_000), node.process);
            self.schedule(delay, Happening::Directory { node: at, process, directory });
        }
    }

    pub(super) fn on_directory(&mut self, at: usize, process: u64, directory: &Directory) {
        if self.nodes[at].process != process {
            return;
        }
        self.note_configuration(at, &directory.configuration);
        let node = &mut self.nodes[at];
        node.entries = directory.entries.iter().filter(|entry| !entry.removed).cloned().collect();
        node.removed = directory.entries.iter().filter(|entry| entry.removed).map(|entry| entry.id).collect();
        let ids: Vec<NodeId> = node.entries.iter().map(|entry| entry.id).collect();
        node.detector.retain(&ids);
        node.reports.retain(|id, _| ids.contains(id));
    }

    /// The caretaker's step, if this node is it and there is something to do.
    fn take_care(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(configuration) = node.configuration.clone() else { return };
        let reachable = |voter: &NodeId| *voter == node.id || node.detector.reaches(*voter);
        if self.lost.contains(&at) || configuration.all_voters().into_iter().find(reachable) != Some(node.id) {
            return;
        }
        self.record_forced(&configuration);
        if !self.is_connected(at) {
            return;
        }
        if !self.plan.membership {
            return self.step_bound(at, &configuration);
        }
        self.note_learners(at, &configuration);
        let views = self.views(at, &configuration);
        let Some(next) = next_change(&configuration, &views) else {
            self.forget_removed();
            return self.step_bound(at, &configuration);
        };
        if self.directory.configuration.epoch != configuration.epoch {
            return;
        }
        let aligned = |node: &NodeId| views.get(node).map_or(0, |view| view.aligned_epoch);
        if !invariant_step_is_safe(&configuration, &next)
            || !invariant_joint_ends_aligned(&configuration, &next, aligned)
            || !invariant_first_epoch_ends_aligned(&configuration, &next, aligned)
            || !invariant_quorums_intersect(&configuration, &next)
        {
            return self
                .found(Violation::new("a step of membership is safe", format!("{configuration:?} to {next:?}")));
        }
        self.trace(|| {
            let Configuration { epoch, voters, learners, joint_with, .. } = &next;
            format!("epoch {epoch}: voters {voters:?} learners {learners:?} joint with {joint_with:?}")
        });
        self.statistics.count(FaultKind::MembershipStep);
        let entries = self.directory.entries.clone();
        self.directory = Arc::new(Directory { configuration: next, entries });
    }

    fn note_learners(&mut self, at: usize, configuration: &Configuration) {
        let node = &mut self.nodes[at];
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        node.learners_since.retain(|learner, _| configuration.learners.contains(learner));
        for learner in &configuration.learners {
            node.learners_since.entry(*learner).or_insert(now_ms);
        }
    }

    fn views(&self, at: usize, configuration: &Configuration) -> BTreeMap<NodeId, MemberView> {
        let node = &self.nodes[at];
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let own = self.report(at);
        let view = |entry: &NodeEntry| {
            let id = entry.id;
            let report = if id == node.id { Some(&own) } else { node.reports.get(&id).map(|(report, _)| &**report) };
            MemberView {
                stays: !entry.removed && !entry.leaving,
                reachable: !entry.leaving && (id == node.id || node.detector.reaches(id)),
                unreachable_by_majority_ms: self.unreachable_by_majority(at, configuration, id, now_ms),
                status: report.map(|report| report.status),
                aligned_epoch: report.map_or(0, |report| report.aligned_epoch),
                learner_ms: node.learners_since.get(&id).map_or(0, |since| now_ms.saturating_sub(*since)),
            }
        };
        // Somebody who had not heard of it yet may have taken in again who was removed for good.
        let gone = MemberView { unreachable_by_majority_ms: u64::MAX, ..MemberView::default() };
        let removed = node.removed.iter().map(|id| (*id, gone));
        removed.chain(node.entries.iter().map(|entry| (entry.id, view(entry)))).collect()
    }

    fn unreachable_by_majority(&self, at: usize, configuration: &Configuration, id: NodeId, now_ms: u64) -> u64 {
        let node = &self.nodes[at];
        let mut times: Vec<u64> = Vec::new();
        for voter in configuration.all_voters().into_iter().filter(|voter| *voter != id) {
            if voter == node.id {
                times.push(node.detector.unreachable_ms(id, 0, now_ms));
            } else if let Some((report, at_ms)) = node.reports.get(&voter)
                && now_ms.saturating_sub(*at_ms) < REPORT_AGE_MAX_MS
            {
                times.push(report.unreachable_ms.get(&id).copied().unwrap_or(0));
            }
        }
        let majority = configuration.all_voters().len() / 2 + 1;
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(majority - 1).copied().unwrap_or(0)
    }

    /// A leaving node that no configuration names any more is removed for good.
    fn forget_removed(&mut self) {
        let configuration = &self.directory.configuration;
        let goes = |entry: &NodeEntry| entry.leaving && !entry.removed && !configuration.is_member(entry.id);
        if !self.directory.entries.iter().any(goes) {
            return;
        }
        let mut directory = (*self.directory).clone();
        let gone: Vec<NodeId> = directory.entries.iter().filter(|entry| goes(entry)).map(|entry| entry.id).collect();
        directory.entries.iter_mut().filter(|entry| gone.contains(&entry.id)).for_each(|entry| entry.removed = true);
        self.directory = Arc::new(directory);
        for id in gone {
            if let Some(at) = self.index_of(id).filter(|at| !self.lost.contains(at)) {
                self.stop_for_good(at);
            }
        }
    }

    /// What is seen of a change of status.
    pub(super) fn on_status(&mut self, at: usize, from: DatabaseStatus, to: DatabaseStatus) {
        self.trace(|| format!("node {at} {from} -> {to}"));
        self.note(&[7, at as u64, from as u64, to as u64]);
        if !from.may_become(to) {
            self.found(Violation::new("statuses change as the table allows", format!("node {at}: {from} to {to}")));
        }
        if to == DatabaseStatus::Online {
            self.statistics.onlines += 1;
            self.check_online(at);
        }
    }
}
