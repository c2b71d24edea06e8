//! A node that aligns, driven by the real rules: samples, feeds by cursor, settling of pending keys.

use super::rounds::{Field, Progress, Reading, Round};
use super::settle;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::hot_alignment::{
    Alignment, AlignmentPhase, SourceSample, invariant_aligned_means_drained_and_settled,
};
use coequal_protocol::query::QueryStep;
use coequal_protocol::{Held, Key};
use coequal_types::{Configuration, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

enum Settling {
    Reading(Reading),
    Deciding(Box<Round>),
}

/// One alignment on its way.
pub struct Aligning {
    pub alignment: Alignment,
    pub me: NodeId,
    /// When the first sample that counts was taken.
    pub point: Option<u64>,
    configuration: Arc<Configuration>,
    cursors: BTreeMap<NodeId, u64>,
    settling: Option<Settling>,
}

impl Aligning {
    pub fn new(me: NodeId, alignment: Alignment, configuration: Arc<Configuration>) -> Self {
        Self { alignment, me, point: None, configuration, cursors: BTreeMap::new(), settling: None }
    }

    pub fn is_aligned(&self) -> bool {
        assert!(invariant_aligned_means_drained_and_settled(&self.alignment));
        self.alignment.phase() == AlignmentPhase::Aligned
    }

    /// One small thing: a sample, an entry of a feed, a contact of a read.
    pub fn step(&mut self, field: &mut Field, time: u64) {
        let Some(me) = field.site(self.me) else { return };
        let to_sample = self.alignment.to_sample();
        if !to_sample.is_empty() && field.rng.chance(500) {
            let from = *field.rng.pick(&to_sample);
            self.sample(field, from, time);
        }
        if self.alignment.wants_own_pending() {
            self.alignment.take_own_pending(field.sites[me].pending());
        }
        if self.alignment.settles_own() && field.rng.chance(500) {
            let pending = field.sites[me].pending();
            self.alignment.drop_own_decided(|key| pending.contains(key));
        }
        if field.rng.chance(700) {
            self.pull(field, me);
        } else {
            self.settle(field, me);
        }
    }

    fn sample(&mut self, field: &Field, from: NodeId, time: u64) {
        let Some(at) = field.site(from) else { return };
        let site = &field.sites[at];
        let early = broken(Fault::SampleBeforeAdoption);
        if !site.up || (site.epoch < self.alignment.epoch() && !early) {
            return;
        }
        let behind = site.feed.len() as u64;
        let sample = SourceSample { feed: 1, head: site.head, behind, pending: site.pending() };
        let before = self.alignment.heads().len();
        let epoch = site.epoch.max(if early { self.alignment.epoch() } else { 0 });
        self.alignment.on_sample(from, epoch, sample);
        if self.alignment.heads().len() > before {
            self.point.get_or_insert(time);
        }
    }

    /// The next entry of some sampled source's feed.
    fn pull(&mut self, field: &mut Field, me: usize) {
        let sources: Vec<NodeId> = self.alignment.heads().into_iter().map(|(source, _)| source).collect();
        if sources.is_empty() {
            return;
        }
        let source = *field.rng.pick(&sources);
        let Some(at) = field.site(source).filter(|at| field.sites[*at].up) else { return };
        let cursor = self.cursors.entry(source).or_insert(0);
        let next = field.sites[at].feed.range(*cursor + 1..).next().map(|(sequence, key)| (*sequence, key.clone()));
        match next {
            Some((sequence, key)) => {
                *cursor = sequence;
                if let Some(held) = field.sites[at].register(&key).chosen {
                    field.sites[me].learn(&key, &held);
                }
            }
            None => *cursor = field.sites[at].head,
        }
        let remaining = field.sites[at].feed.range(*cursor + 1..).count() as u64;
        self.alignment.on_batch(source, 1, *cursor, remaining);
    }

    fn settle(&mut self, field: &mut Field, me: usize) {
        let configuration = Arc::clone(&self.configuration);
        match self.settling.take() {
            None => {
                if let Some(key) = self.alignment.to_settle(1).pop() {
                    self.settling = Some(Settling::Reading(Reading::new(key, configuration, field)));
                }
            }
            Some(Settling::Reading(mut reading)) => match reading.step(field) {
                Some(QueryStep::Wait) => self.settling = Some(Settling::Reading(reading)),
                Some(QueryStep::Done(held)) => self.settled(field, me, &reading.key, held),
                Some(QueryStep::Settle) => {
                    let round = Round::new(self.me, reading.key, settle(), configuration);
                    self.settling = Some(Settling::Deciding(Box::new(round)));
                }
                None => {}
            },
            Some(Settling::Deciding(mut round)) => match round.step(field) {
                Progress::Going => self.settling = Some(Settling::Deciding(round)),
                Progress::Done(held) => self.settled(field, me, &round.key, held),
                Progress::Over => {}
            },
        }
    }

    fn settled(&mut self, field: &mut Field, me: usize, key: &Key, held: Option<Held>) {
        if let Some(held) = held {
            field.sites[me].learn(key, &held);
        }
        self.alignment.on_settled(key);
    }
}
