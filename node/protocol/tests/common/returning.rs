//! A node that comes back, with its disk or with a new one, while others write: it aligns, and must hold everything
//! that was acknowledged before the alignment point.

use super::aligning::Aligning;
use super::rounds::{Field, Progress, Round, Site};
use super::{Rng, configuration, key, put};
use coequal_protocol::hot_alignment::Alignment;
use coequal_protocol::{Ballot, Held, Key};
use coequal_types::{Configuration, NodeId};
use std::sync::Arc;

/// Which schedules.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    voters: u64,
    new_disk: bool,
}

pub fn shape(voters: u64, new_disk: bool) -> Shape {
    Shape { voters, new_disk }
}

/// A chosen revision on its way to the nodes that shall learn it.
struct Telling {
    key: Key,
    held: Held,
    to: Vec<usize>,
}

struct World {
    field: Field,
    configuration: Arc<Configuration>,
    rounds: Vec<Round>,
    tellings: Vec<Telling>,
    aligning: Option<Aligning>,
    acknowledged: Vec<(u64, Key, Ballot)>,
    time: u64,
    serial: u64,
}

impl World {
    fn spin(&mut self, steps: usize, more_per_thousand: u64) {
        for _ in 0..steps {
            self.time += 1;
            if self.field.rng.chance(more_per_thousand) {
                self.write();
            }
            let jobs = self.rounds.len() + self.tellings.len() + usize::from(self.aligning.is_some());
            // An alignment goes on while many others do, but it does go on.
            let at = if self.field.rng.chance(150) { jobs } else { self.field.rng.below(jobs) };
            if at < self.rounds.len() {
                self.step_round(at);
            } else if at < self.rounds.len() + self.tellings.len() {
                self.tell(at - self.rounds.len());
            } else if let Some(mut aligning) = self.aligning.take() {
                aligning.step(&mut self.field, self.time);
                self.aligning = Some(aligning);
            }
        }
    }

    fn write(&mut self) {
        let up: Vec<NodeId> = self.field.sites.iter().filter(|site| site.up).map(|site| site.id).collect();
        let by = *self.field.rng.pick(&up);
        self.serial += 1;
        let key = key(self.field.rng.pick::<&str>(&["a", "b"]));
        let operation = put(&self.serial.to_string());
        self.rounds.push(Round::new(by, key, operation, Arc::clone(&self.configuration)));
    }

    fn step_round(&mut self, at: usize) {
        match self.rounds[at].step(&mut self.field) {
            Progress::Going => {}
            Progress::Over => drop(self.rounds.swap_remove(at)),
            Progress::Done(held) => {
                let round = self.rounds.swap_remove(at);
                let Some(held) = held else { return };
                self.acknowledged.push((self.time, round.key.clone(), held.ballot));
                let mut to: Vec<usize> = (0..self.field.sites.len()).collect();
                self.field.rng.shuffle(&mut to);
                self.tellings.push(Telling { key: round.key, held, to });
            }
        }
    }

    fn tell(&mut self, at: usize) {
        let telling = &mut self.tellings[at];
        let Some(to) = telling.to.pop() else {
            self.tellings.swap_remove(at);
            return;
        };
        if self.field.sites[to].up && !self.field.rng.chance(self.field.loss) {
            self.field.sites[to].learn(&telling.key, &telling.held);
        }
    }
}

/// One schedule: `None` when the alignment did not end, else the hole that was found, if any.
pub fn run(seed: u64, shape: Shape) -> Option<Option<String>> {
    let mut rng = Rng::new(seed);
    let ids: Vec<u64> = (1..=shape.voters).collect();
    let configuration = Arc::new(configuration(&ids, None));
    let loss = *rng.pick(&[0, 100, 300]);
    let sites = ids.iter().map(|id| Site::new(*id)).collect();
    let mut world = World {
        field: Field { sites, rng, loss, last_ballot: 0 },
        configuration: Arc::clone(&configuration),
        rounds: vec![],
        tellings: vec![],
        aligning: None,
        acknowledged: vec![],
        time: 0,
        serial: 0,
    };
    let before = world.field.rng.below(40);
    world.spin(before, 300);
    world.field.sites[0].up = false;
    if shape.new_disk {
        // A node that forgot is another node (I7): the old one stays away, the new one does not vote.
        world.field.sites.push(Site { up: false, ..Site::new(100) });
    }
    let absence = world.field.rng.below(80);
    world.spin(absence, 300);
    let back = if shape.new_disk { shape.voters as usize } else { 0 };
    world.field.sites[back].up = true;
    let me = world.field.sites[back].id;
    let alignment = Alignment::new(1, me, &configuration, false);
    world.aligning = Some(Aligning::new(me, alignment, configuration));
    for _ in 0..4_000 {
        world.spin(1, 90 / shape.voters);
        let aligning = world.aligning.as_ref()?;
        if aligning.is_aligned() {
            let point = aligning.point.unwrap_or(world.time);
            return Some(hole(&world, seed, back, point));
        }
    }
    None
}

/// A write that was acknowledged before the point and is not on the aligned node.
fn hole(world: &World, seed: u64, back: usize, point: u64) -> Option<String> {
    let site = &world.field.sites[back];
    let missing = |(at, key, ballot): &&(u64, Key, Ballot)| *at < point && site.register(key).chosen_ballot() < *ballot;
    let (at, key, ballot) = world.acknowledged.iter().find(missing)?;
    Some(format!("seed {seed}: the write of {key:?} at {ballot}, acknowledged at {at}, is not there at {point}"))
}

/// Alignments that ended, and holes among them.
pub fn search(count: u64, shape: Shape) -> (u64, Vec<String>) {
    let ended: Vec<Option<String>> = (0..count).filter_map(|seed| run(seed, shape)).collect();
    (ended.len() as u64, ended.into_iter().flatten().collect())
}
