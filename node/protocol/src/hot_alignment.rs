//! Hot alignment: how a node that was away, or is new, comes to hold every acknowledged write (G4).
//!
//! ```text
//! CONNECTING ─► (a majority adopted this epoch) ─► DRAINING ─► SETTLING ─► aligned
//!      ▲                                              │            │
//!      └────── a source's feed changed, a new epoch, too few sources ──┘
//! ```
//!
//! The feed is pulled by cursor, so "start streaming, only then sample" holds by construction: whatever enters
//! a source's feed after the sample has a higher sequence and will be pulled too. A sample is the pair of feed
//! head and pending keys: a holder of a chosen value need not know that it was chosen, so the value may be in no
//! feed yet; settling these keys by a quorum read closes that hole.

use crate::faults::{Fault, broken};
use crate::forced_recovery::is_first;
use crate::key::Key;
use crate::quorum::{NodeSet, sources_needed};
use crate::record::FeedId;
use coequal_types::settings::majority;
use coequal_types::{Configuration, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A source's sample.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceSample {
    /// Identity of its feed.
    pub feed: FeedId,
    /// Its head when sampled.
    pub head: u64,
    /// Live entries that lay behind this node's cursor.
    pub behind: u64,
    /// Keys that were accepted there and not known to be chosen.
    pub pending: Vec<Key>,
}

/// What the alignment is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignmentPhase {
    /// Waits until a majority has adopted the epoch and enough sources were sampled.
    Connecting,
    /// Pulls the sampled sources' feeds up to the sampled heads.
    Draining,
    /// Settles pending keys by quorum reads.
    Settling,
    /// Done.
    Aligned,
}

/// One alignment of one database on one node, against one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Alignment {
    /// Number of this alignment; answers to earlier ones do not count.
    pub id: u64,
    me: NodeId,
    epoch: u64,
    voters: Vec<NodeId>,
    /// In a joint epoch, the voters to come.
    successors: Vec<NodeId>,
    needed: usize,
    adopted: NodeSet,
    samples: BTreeMap<NodeId, SourceSample>,
    drained: NodeSet,
    unsettled: BTreeSet<Key>,
    /// Keys that this node itself had pending, and no source.
    own: BTreeSet<Key>,
    own_pending_taken: bool,
    settled: u64,
}

impl Alignment {
    /// An alignment of `me` under `configuration`. In a joint epoch the sources are the old voters: what was
    /// chosen so far was chosen by them. That nothing is chosen without this node in a later epoch, a majority of the
    /// new voters has to show as well. `new_disk`: this node may have forgotten something (new, restored, or
    /// not an unbroken voter of the set that it aligns with).
    pub fn new(id: u64, me: NodeId, configuration: &Configuration, new_disk: bool) -> Self {
        let voters = configuration.joint_with.clone().unwrap_or_else(|| configuration.voters.clone());
        let forgot = new_disk || !voters.contains(&me);
        let others = voters.iter().filter(|voter| **voter != me).count();
        // What was chosen before a forced recovery may be on any single survivor.
        let everybody = is_first(configuration.epoch);
        let needed = if everybody { others } else { sources_needed(voters.len(), forgot).min(others) };
        let successors = configuration.joint_with.as_ref().map_or_else(Vec::new, |_| configuration.voters.clone());
        let adopted = NodeSet::from([me]);
        Self {
            id,
            me,
            epoch: configuration.epoch,
            voters,
            successors,
            needed,
            adopted,
            samples: BTreeMap::new(),
            drained: NodeSet::new(),
            unsettled: BTreeSet::new(),
            own: BTreeSet::new(),
            own_pending_taken: false,
            settled: 0,
        }
    }

    /// Epoch that is being aligned with.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sources needed in all.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Voters to ask for a sample: those without one, while more are needed. New voters are asked for the epoch alone.
    pub fn to_sample(&self) -> Vec<NodeId> {
        let complete = self.adoption_complete();
        if complete && self.samples.len() >= self.needed {
            return Vec::new();
        }
        let asked = |node: &&NodeId| **node != self.me && !self.samples.contains_key(node);
        let silent = |node: &&NodeId| !complete && !self.voters.contains(node) && !self.adopted.contains(node);
        let successors = self.successors.iter().filter(silent);
        self.voters.iter().chain(successors).filter(asked).copied().collect()
    }

    fn adoption_complete(&self) -> bool {
        let adopted = |voters: &[NodeId]| {
            let count = voters.iter().filter(|voter| self.adopted.contains(voter)).count();
            let all = u32::try_from(voters.len()).unwrap_or(u32::MAX);
            let needed = if is_first(self.epoch) { all } else { majority(all).min(all) };
            u32::try_from(count).unwrap_or(0) >= needed
        };
        adopted(&self.voters) && adopted(&self.successors) || broken(Fault::SampleBeforeAdoption)
    }

    /// A voter answered with its sample. Samples count only once a majority of the voters is known to have
    /// adopted this epoch: before that, something may still be chosen by the former quorums alone. Whoever answers in a
    /// later epoch shows that this one is over, and that things may be chosen that it knows nothing of.
    ///
    /// True when the sample is one of those that this alignment rests on.
    pub fn on_sample(&mut self, from: NodeId, epoch: u64, sample: SourceSample) -> bool {
        let asked = self.voters.contains(&from) || self.successors.contains(&from);
        if epoch != self.epoch || from == self.me || !asked {
            return false;
        }
        if !self.adoption_complete() {
            self.adopted.insert(from);
            // The sample that completes the adoption was taken at a time when it may not have been complete.
            return false;
        }
        if self.samples.len() >= self.needed || self.samples.contains_key(&from) || !self.voters.contains(&from) {
            return false;
        }
        if !broken(Fault::SourcePendingUnsettled) {
            for key in &sample.pending {
                self.own.remove(key);
            }
            self.unsettled.extend(sample.pending.iter().cloned());
        }
        if sample.behind == 0 {
            // Nothing live lay behind this node's cursor: everything of the source is here already.
            self.drained.insert(from);
        }
        self.samples.insert(from, sample);
        true
    }

    /// Own pending keys, to be taken once all samples are there; `None` if not due (again).
    pub fn wants_own_pending(&self) -> bool {
        !self.own_pending_taken && self.adoption_complete() && self.samples.len() >= self.needed
    }

    /// This node's own pending keys: they are settled as well.
    pub fn take_own_pending(&mut self, keys: Vec<Key>) {
        self.own_pending_taken = true;
        if !broken(Fault::OwnPendingUnsettled) {
            self.own.extend(keys.into_iter().filter(|key| !self.unsettled.contains(key)));
        }
    }

    /// Of its own keys, those that are not pending any more need no quorum: what this node had accepted when it took them was
    /// chosen since, or something above it, and that is here. (What a source named may be above what this node had.)
    pub fn drop_own_decided(&mut self, is_pending: impl Fn(&Key) -> bool) {
        let before = self.own.len();
        self.own.retain(is_pending);
        self.settled += (before - self.own.len()) as u64;
    }

    /// Whether it would settle keys that only this node had pending.
    pub fn settles_own(&self) -> bool {
        self.phase() == AlignmentPhase::Settling && !self.own.is_empty()
    }

    /// A batch of `source`'s feed `feed` is applied: up to `through`, with `remaining` live entries behind it.
    ///
    /// Being behind the sampled head is not enough. A key that stood below the head and was written again since
    /// stands above it now; a batch that ends between the two has neither its old value nor its new one. Only a
    /// batch that reached the end of the feed as it was when it was read has them all.
    pub fn on_batch(&mut self, source: NodeId, feed: FeedId, through: u64, remaining: u64) {
        if remaining == 0 || broken(Fault::DrainedBehindHead) {
            self.on_cursor(source, feed, through);
        }
    }

    /// This node has applied `source`'s feed `feed` up to `sequence`, which was the end of the feed when the last
    /// batch was read (see [`Alignment::on_batch`]).
    pub fn on_cursor(&mut self, source: NodeId, feed: FeedId, sequence: u64) {
        if let Some(sample) = self.samples.get(&source)
            && (sample.feed == feed || broken(Fault::CursorOfAnotherFeed))
            && (sequence >= sample.head || broken(Fault::HeadsSampledEarly))
        {
            self.drained.insert(source);
        }
    }

    /// A source became unreachable or its feed was replaced: another one is needed in its place.
    pub fn lose_source(&mut self, source: NodeId) {
        if broken(Fault::LostSourceCounts) && self.samples.contains_key(&source) {
            self.drained.insert(source);
        }
        if !self.drained.contains(&source) && self.samples.remove(&source).is_some() {
            // Its pending keys stay: settling one key more than needed is harmless.
            self.own_pending_taken = false;
        }
    }

    /// Whether `source` is one of the sampled sources that is not drained yet.
    pub fn waits_for(&self, source: NodeId) -> bool {
        self.samples.contains_key(&source) && !self.drained.contains(&source)
    }

    /// Whether it waits for other sources, all sampled, and not for `source`.
    pub fn drains_others_than(&self, source: NodeId) -> bool {
        self.phase() == AlignmentPhase::Draining && !self.waits_for(source)
    }

    /// Keys to settle next, once everything is drained; at most `max`.
    pub fn to_settle(&self, max: usize) -> Vec<Key> {
        if self.phase() != AlignmentPhase::Settling {
            return Vec::new();
        }
        self.unsettled.iter().chain(&self.own).take(max).cloned().collect()
    }

    /// `key` was settled: its chosen state is in the local store.
    pub fn on_settled(&mut self, key: &Key) {
        let named = self.unsettled.remove(key);
        self.settled += u64::from(self.own.remove(key) || named);
    }

    /// Where this alignment is.
    pub fn phase(&self) -> AlignmentPhase {
        if !self.adoption_complete() || self.samples.len() < self.needed || !self.own_pending_taken {
            AlignmentPhase::Connecting
        } else if self.drained.len() < self.needed && !broken(Fault::OnlineUndrained) {
            AlignmentPhase::Draining
        } else if (!self.unsettled.is_empty() || !self.own.is_empty()) && !broken(Fault::OnlineUnsettled) {
            AlignmentPhase::Settling
        } else {
            AlignmentPhase::Aligned
        }
    }

    /// Live entries that lay behind the cursors when the sources were sampled.
    pub fn entries_total(&self) -> u64 {
        self.samples.values().map(|sample| sample.behind).sum()
    }

    /// Live entries that lay behind this node's cursor of `source` when it was sampled.
    pub fn behind(&self, source: NodeId) -> u64 {
        self.samples.get(&source).map_or(0, |sample| sample.behind)
    }

    /// Keys settled, and keys to settle in all.
    pub fn settling(&self) -> (u64, u64) {
        (self.settled, self.settled + (self.unsettled.len() + self.own.len()) as u64)
    }

    /// The sampled heads, for the alignment point.
    pub fn heads(&self) -> Vec<(NodeId, u64)> {
        self.samples.iter().map(|(node, sample)| (*node, sample.head)).collect()
    }
}

/// G4: aligned means enough sources drained to their heads and no pending key left.
pub fn invariant_aligned_means_drained_and_settled(alignment: &Alignment) -> bool {
    alignment.phase() != AlignmentPhase::Aligned
        || (alignment.drained.len() >= alignment.needed
            && alignment.unsettled.is_empty()
            && alignment.own.is_empty()
            && alignment.own_pending_taken
            && alignment.adoption_complete())
}
