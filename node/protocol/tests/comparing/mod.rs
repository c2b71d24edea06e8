//! Three nodes' chosen revisions with their feeds and cursors, writers, and a network that loses, repeats and reorders
//! what a comparison says.

use crate::common::{Rng, ballot, configuration, key, revision};
use coequal_protocol::copy_verdict::{Judged, Question, Verdict};
use coequal_protocol::message::{ChosenBody, Compare};
use coequal_protocol::range_comparison::*;
use coequal_protocol::{Held, Key, Revision};
use coequal_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Default)]
pub struct Node {
    pub chosen: BTreeMap<Key, Held>,
    pub feed: BTreeMap<u64, Key>,
    sequences: BTreeMap<Key, u64>,
    head: u64,
    /// How far it is in each other one's feed.
    pub cursors: BTreeMap<u64, u64>,
    /// How far each other one says that it is in this one's.
    confirmed: BTreeMap<u64, u64>,
}

impl Node {
    /// Merges by ballot, as every chosen revision is.
    pub fn learn(&mut self, key: &Key, held: &Held) {
        let before = self.chosen.get(key).map(|held| KeyDigest::of(key, held));
        if before.as_ref().is_some_and(|before| before.ballot >= held.ballot) {
            return;
        }
        self.head += 1;
        if let Some(old) = self.sequences.insert(key.clone(), self.head) {
            self.feed.remove(&old);
        }
        self.feed.insert(self.head, key.clone());
        self.chosen.insert(key.clone(), held.clone());
        assert!(invariant_repair_goes_forward(before.as_ref(), self.digest(key).as_ref()));
    }

    /// Behind everybody's back, as a bug or a bad disk does it.
    pub fn silently(&mut self, key: &Key, older: Option<Held>) {
        match older {
            Some(older) => drop(self.chosen.insert(key.clone(), older)),
            None => {
                self.chosen.remove(key);
                if let Some(sequence) = self.sequences.remove(key) {
                    self.feed.remove(&sequence);
                }
            }
        }
    }

    pub fn digest(&self, key: &Key) -> Option<KeyDigest> {
        self.chosen.get(key).map(|held| KeyDigest::of(key, held))
    }

    fn behind(&self, after: Option<&Key>, max: usize) -> (Vec<KeyDigest>, bool) {
        let behind = self.chosen.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let found: Vec<KeyDigest> = behind.take(max).map(|(key, held)| KeyDigest::of(key, held)).collect();
        let cut = found.len() == max;
        (found, cut)
    }
}

pub struct World {
    pub nodes: BTreeMap<u64, Node>,
    pub rng: Rng,
    pub written: BTreeMap<Key, Vec<Held>>,
    pub network: Vec<(u64, u64, Compare)>,
    pub findings: Vec<Finding>,
    time: u64,
    keys: usize,
}

pub const NODES: [u64; 3] = [1, 2, 3];

impl World {
    pub fn new(seed: u64, keys: usize) -> Self {
        let nodes = NODES.iter().map(|node| (*node, Node::default())).collect();
        let (rng, written, network) = (Rng::new(seed), BTreeMap::new(), Vec::new());
        Self { nodes, rng, written, network, findings: Vec::new(), time: 0, keys }
    }

    pub fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    /// Somewhere a revision is chosen; the others learn it by the feeds.
    pub fn write(&mut self, at: usize) {
        self.time += 1;
        let key = key(&format!("k{at:04}"));
        let stamp = ballot(self.time, 1);
        let mut value: Revision = (*revision(stamp, &format!("{{\"n\":{}}}", self.time))).clone();
        value.version = self.time;
        if self.rng.chance(150) {
            value.body = None;
        }
        let held = Held { ballot: stamp, revision: Arc::new(value) };
        self.written.entry(key.clone()).or_default().push(held.clone());
        let node = *self.rng.pick(&NODES);
        self.node(node).learn(&key, &held);
    }

    pub fn write_any(&mut self) {
        let at = self.rng.below(self.keys);
        self.write(at);
    }

    /// One pull of a few entries; the request tells the source how far the asker is.
    pub fn pull(&mut self, to: u64, from: u64, max: usize) {
        let after = *self.node(to).cursors.entry(from).or_default();
        self.node(from).confirmed.insert(to, after);
        let source = &self.nodes[&from];
        let found: Vec<(u64, Key)> = source.feed.range(after + 1..).take(max).map(|(s, k)| (*s, k.clone())).collect();
        let through = if found.len() < max { source.head } else { found[found.len() - 1].0 };
        let held: Vec<(Key, Held)> =
            found.into_iter().map(|(_, key)| (key.clone(), source.chosen[&key].clone())).collect();
        for (key, held) in held {
            self.node(to).learn(&key, &held);
        }
        self.node(to).cursors.insert(from, through);
    }

    pub fn pull_any(&mut self) {
        let (to, from) = (*self.rng.pick(&NODES), *self.rng.pick(&NODES));
        let max = 1 + self.rng.below(40);
        if to != from {
            self.pull(to, from, max);
        }
    }

    pub fn drain(&mut self) {
        for _ in 0..3 {
            for to in NODES {
                for from in NODES.into_iter().filter(|from| *from != to) {
                    self.pull(to, from, usize::MAX >> 1);
                }
            }
        }
    }

    /// A silent loss, or a silent step back to an older revision.
    pub fn damage(&mut self) -> Option<(u64, Key)> {
        let node = *self.rng.pick(&NODES);
        let keys: Vec<Key> = self.nodes[&node].chosen.keys().cloned().collect();
        let key = self.rng.pick(&keys).clone();
        let elsewhere =
            self.nodes.iter().any(|(id, n)| *id != node && n.digest(&key) == self.nodes[&node].digest(&key));
        if !elsewhere {
            return None;
        }
        let older: Vec<Held> =
            self.written[&key].iter().filter(|h| h.ballot < self.nodes[&node].chosen[&key].ballot).cloned().collect();
        let older = if older.is_empty() || self.rng.chance(500) { None } else { Some(self.rng.pick(&older).clone()) };
        self.node(node).silently(&key, older);
        Some((node, key))
    }

    /// What the comparing node does now: asks, or asks again.
    pub fn act(&mut self, me: u64, comparison: &mut Comparison) {
        match comparison.wanted() {
            Wanted::OwnRange { after } => {
                let (own, cut) = self.nodes[&me].behind(after.as_ref(), RANGE_ENTRIES);
                let last = own.last().map(|entry| entry.key.clone());
                comparison.on_own_range(own, last, !cut, self.nodes[&me].head);
            }
            Wanted::Send(to, message) => self.network.push((me, to.0, message)),
            Wanted::Cursors(peer) => {
                let here = self.nodes[&me].cursors.get(&peer.0).map(|sequence| (peer.0, *sequence));
                let there = self.nodes[&me].confirmed.get(&peer.0).map(|sequence| (me, *sequence));
                comparison.on_cursors(here, there);
            }
            Wanted::Judge(questions) => {
                let judged = self.judge(questions, &NODES);
                comparison.on_judged(judged, |key| self.nodes[&me].digest(key));
            }
            Wanted::Push(to, keys, message) => {
                let bodies = self.bodies(me, keys);
                self.network.push((me, to.0, Compare::Repair { bodies }));
                self.network.push((me, to.0, message));
            }
            Wanted::Nothing => {}
        }
        self.check(comparison);
    }

    fn check(&mut self, comparison: &mut Comparison) {
        assert!(invariant_work_is_bounded(comparison));
        assert!(invariant_only_findings_are_repaired(&comparison.counts()));
        self.findings.extend(comparison.take_findings());
    }

    pub fn judge(&self, questions: Vec<Question>, voters: &[u64]) -> Vec<Judged> {
        let mut verdict = Verdict::new(questions);
        for voter in voters {
            let entries = verdict.keys().iter().filter_map(|key| self.nodes[voter].digest(key)).collect();
            verdict.on_answer(NodeId(*voter), entries);
        }
        verdict.judge(&configuration(&NODES, None))
    }

    fn bodies(&self, node: u64, keys: Vec<Key>) -> Vec<ChosenBody> {
        let held = keys.into_iter().filter_map(|key| Some((key.clone(), self.nodes[&node].chosen.get(&key)?.clone())));
        held.take(20).map(|(key, held)| ChosenBody { key, ballot: held.ballot, revision: held.revision }).collect()
    }

    /// One message arrives, anyone of those under way; perhaps it stays there to arrive once more.
    pub fn deliver(&mut self, me: u64, comparison: &mut Comparison) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.below(self.network.len());
        let (from, to, message) =
            if self.rng.chance(150) { self.network[at].clone() } else { self.network.swap_remove(at) };
        if self.rng.chance(100) {
            return;
        }
        if to == me {
            self.answered(me, from, message, comparison)
        } else {
            self.answer(from, to, message)
        }
        self.check(comparison);
    }

    fn answer(&mut self, from: u64, to: u64, message: Compare) {
        let answer = match message {
            Compare::Range { comparison, step, range } => {
                let (own, cut) = self.nodes[&to].behind(range.after.as_ref(), RANGE_ENTRIES + 8);
                let answer = answer_range(&range, own, cut, 0);
                Compare::RangeAnswer { comparison, step, feed: to, head: self.nodes[&to].head, answer }
            }
            Compare::Keys { comparison, step, keys } => {
                let entries = keys.iter().filter_map(|key| self.nodes[&to].digest(key)).collect();
                Compare::KeysAnswer { comparison, step, entries }
            }
            Compare::Fetch { comparison, step, keys } => {
                Compare::Fetched { comparison, step, bodies: self.bodies(to, keys) }
            }
            Compare::Repair { bodies } => return self.learn(to, bodies),
            other => panic!("{other:?}"),
        };
        self.network.push((to, from, answer));
    }

    fn learn(&mut self, node: u64, bodies: Vec<ChosenBody>) {
        for ChosenBody { key, ballot, revision } in bodies {
            self.node(node).learn(&key, &Held { ballot, revision });
        }
    }

    fn answered(&mut self, me: u64, from: u64, message: Compare, comparison: &mut Comparison) {
        match message {
            Compare::RangeAnswer { comparison: id, step, feed, head, answer } => {
                comparison.on_range_answer(NodeId(from), (id, step), (feed, head), answer);
            }
            Compare::KeysAnswer { comparison: id, step, entries } => {
                comparison.on_keys_answer(NodeId(from), (id, step), &entries, |key| self.nodes[&me].digest(key));
            }
            Compare::Fetched { comparison: id, step, bodies } => {
                let taken = comparison.on_fetched(NodeId(from), (id, step), bodies);
                self.learn(me, taken);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Runs a comparison to its end while `meanwhile` happens.
    pub fn compare(&mut self, me: u64, id: u64, mut meanwhile: impl FnMut(&mut Self)) -> Comparison {
        let peers = NODES.into_iter().filter(|node| *node != me).map(NodeId).collect();
        let mut comparison = Comparison::new(id, NodeId(me), me, peers, 0);
        for _ in 0..200_000 {
            if comparison.is_done() {
                return comparison;
            }
            meanwhile(self);
            if self.rng.chance(300) {
                self.act(me, &mut comparison);
            }
            self.deliver(me, &mut comparison);
            if self.rng.chance(700) {
                self.pull_any();
            }
        }
        panic!("no end: {comparison:?}");
    }

    pub fn all_equal(&self) -> bool {
        let digests = |node: &Node| node.chosen.iter().map(|(k, h)| KeyDigest::of(k, h)).collect::<Vec<_>>();
        let all: Vec<_> = self.nodes.values().map(digests).collect();
        all.windows(2).all(|two| two[0] == two[1])
    }

    pub fn newest_everywhere(&self) -> bool {
        self.nodes.values().all(|node| self.written.iter().all(|(key, all)| node.chosen.get(key) == all.last()))
    }

    pub fn found(&self) -> BTreeSet<(u64, Key)> {
        self.findings.iter().map(|finding| (finding.node.0, finding.key.clone())).collect()
    }
}
