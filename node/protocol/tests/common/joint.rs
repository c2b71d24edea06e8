//! {1,2,3} becomes {1,2,4} by way of a joint epoch, while writes of the old epoch are under way and node 3 dies: every
//! acknowledged value has to be found by every majority of the new voters.

use super::aligning::Aligning;
use super::rounds::{Field, Progress, Round, Site};
use super::{Rng, configuration, key, put};
use coequal_protocol::hot_alignment::Alignment;
use coequal_protocol::membership::{MemberView, invariant_joint_ends_aligned, invariant_step_is_safe, next_change};
use coequal_protocol::quorum::invariant_quorums_intersect;
use coequal_protocol::{Ballot, Held, Key};
use coequal_types::{Configuration, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

struct World {
    field: Field,
    /// The configurations of the epochs that exist so far.
    epochs: Vec<Arc<Configuration>>,
    rounds: Vec<Round>,
    tellings: Vec<(Key, Held, usize)>,
    aligning: Vec<Aligning>,
    aligned: BTreeMap<NodeId, u64>,
    acknowledged: Vec<(Key, Ballot)>,
    serial: u64,
}

impl World {
    fn configuration_of(&self, at: usize) -> Arc<Configuration> {
        Arc::clone(&self.epochs[self.field.sites[at].epoch as usize - 1])
    }

    fn spin(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.field.rng.chance(20) {
                self.write();
            }
            if self.field.rng.chance(40) {
                self.adopt_one();
            }
            if !self.rounds.is_empty() && self.field.rng.chance(500) {
                let at = self.field.rng.below(self.rounds.len());
                self.step_round(at);
            } else if !self.tellings.is_empty() && self.field.rng.chance(300) {
                let (key, held, to) = self.tellings.swap_remove(0);
                if self.field.sites[to].up {
                    self.field.sites[to].learn(&key, &held);
                }
            } else if !self.aligning.is_empty() {
                let at = self.field.rng.below(self.aligning.len());
                self.step_aligning(at);
            }
        }
    }

    fn write(&mut self) {
        let by = self.field.rng.below(self.field.sites.len());
        if !self.field.sites[by].up {
            return;
        }
        self.serial += 1;
        let key = key(self.field.rng.pick::<&str>(&["a", "b", "c"]));
        let configuration = self.configuration_of(by);
        let id = self.field.sites[by].id;
        self.rounds.push(Round::new(id, key, put(&self.serial.to_string()), configuration));
    }

    /// Some node hears of the newest epoch; its rounds begin again.
    fn adopt_one(&mut self) {
        let at = self.field.rng.below(self.field.sites.len());
        let newest = Arc::clone(self.epochs.last().unwrap());
        let site = &mut self.field.sites[at];
        if !site.up || site.epoch == newest.epoch {
            return;
        }
        site.epoch = newest.epoch;
        let id = site.id;
        self.rounds.iter_mut().filter(|round| round.by == id).for_each(|round| round.restart(Arc::clone(&newest)));
        if newest.joint_with.is_some() && newest.voters.contains(&id) {
            let alignment = Alignment::new(newest.epoch, id, &newest, id == NodeId(4));
            self.aligning.push(Aligning::new(id, alignment, newest));
        }
    }

    fn step_round(&mut self, at: usize) {
        match self.rounds[at].step(&mut self.field) {
            Progress::Going => {}
            Progress::Over => drop(self.rounds.swap_remove(at)),
            Progress::Done(held) => {
                let round = self.rounds.swap_remove(at);
                let Some(held) = held else { return };
                self.acknowledged.push((round.key.clone(), held.ballot));
                for to in 0..self.field.sites.len() {
                    if self.field.rng.chance(500) {
                        self.tellings.push((round.key.clone(), held.clone(), to));
                    }
                }
            }
        }
    }

    fn step_aligning(&mut self, at: usize) {
        self.aligning[at].step(&mut self.field, 0);
        if self.aligning[at].is_aligned() {
            let done = self.aligning.swap_remove(at);
            self.aligned.insert(done.me, done.alignment.epoch());
        }
        let newest = Arc::clone(self.epochs.last().unwrap());
        let view = |id: &NodeId| MemberView {
            stays: true,
            reachable: true,
            aligned_epoch: self.aligned.get(id).copied().unwrap_or(0),
            learner_ms: 0,
            ..MemberView::default()
        };
        let views = newest.all_voters().iter().map(|id| (*id, view(id))).collect();
        if newest.joint_with.is_some()
            && let Some(next) = next_change(&newest, &views)
        {
            assert!(invariant_step_is_safe(&newest, &next) && invariant_quorums_intersect(&newest, &next));
            assert!(invariant_joint_ends_aligned(&newest, &next, |id| views[id].aligned_epoch));
            self.epochs.push(Arc::new(next));
        }
    }

    /// An acknowledged value that some majority of the new voters knows nothing of.
    fn lost(&self, seed: u64) -> Option<String> {
        let voters = &self.epochs.last().unwrap().voters;
        for (key, ballot) in &self.acknowledged {
            let lacks = |id: &&NodeId| {
                let site = &self.field.sites[self.field.site(**id).unwrap()];
                site.register(key).accepted_ballot() < *ballot
            };
            let lacking: Vec<&NodeId> = voters.iter().filter(lacks).collect();
            if lacking.len() > voters.len() / 2 {
                return Some(format!("seed {seed}: {key:?} at {ballot} is unknown to {lacking:?}"));
            }
        }
        None
    }
}

/// `None` when the joint epoch did not end.
pub fn run(seed: u64) -> Option<Option<String>> {
    let mut rng = Rng::new(seed);
    let loss = *rng.pick(&[0, 100, 300]);
    let sites = (1..=4).map(Site::new).collect();
    let old = configuration(&[1, 2, 3], None);
    let mut world = World {
        field: Field { sites, rng, loss, last_ballot: 0 },
        epochs: vec![Arc::new(old.clone())],
        rounds: vec![],
        tellings: vec![],
        aligning: vec![],
        aligned: BTreeMap::new(),
        acknowledged: vec![],
        serial: 0,
    };
    let before = world.field.rng.below(80);
    world.spin(before);
    let dies_before_the_change = world.field.rng.chance(500);
    world.field.sites[2].up = !dies_before_the_change;
    let joint = Configuration { joint_with: Some(old.voters.clone()), ..configuration(&[1, 2, 4], None) };
    let joint = Configuration { epoch: 2, ..joint };
    assert!(invariant_step_is_safe(&old, &joint) && invariant_quorums_intersect(&old, &joint));
    world.epochs.push(Arc::new(joint));
    let dies_after = world.field.rng.below(400);
    for step in 0..4_000 {
        if step == dies_after {
            world.field.sites[2].up = false;
        }
        world.spin(1);
        if world.epochs.len() == 3 {
            world.field.sites[2].up = false;
            let lost = world.lost(seed);
            world.spin(60);
            return Some(lost.or_else(|| world.lost(seed)));
        }
    }
    None
}

pub fn search(count: u64) -> (usize, Vec<String>) {
    let ended: Vec<Option<String>> = (0..count).filter_map(run).collect();
    (ended.len(), ended.into_iter().flatten().collect())
}
