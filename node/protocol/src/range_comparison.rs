//! Comparison of ranges by hashes: finds what two nodes silently hold differently although their feeds say that they
//! hold the same, and says which chosen revision repairs it.
//!
//! ```text
//! Reading ──own range──> Asking ──equal──────────────────────────────────────────> Reading (next range)
//!                          └─keys differ─> Draining ──> Again ──nothing is left──> Reading (next range)
//!                                                         └─real─> (Judging) ─> (Fetching) ─> (Pushing) ─> Reading
//! ```
//!
//! One range of bounded size is in work at a time, with one peer at a time, so memory and each step are bounded. Where
//! hashes differ the keys are compared; a key that differs is only a suspect, because documents change while they are
//! compared. A suspect is real when it is still the same *after the one that is behind has drained the other's feed past
//! the head of the first look*: an unchanged chosen revision has an unchanged place in its node's feed, so that a node
//! that drained past it should hold it. What changed between the two looks is on its way by the feed and is no finding.
//!
//! Repair is the spreading of a chosen revision, merged by ballot like any other: it never goes back, and shows nothing
//! that was only accepted. Two contents at one ballot are never repaired by a guess ([`crate::copy_verdict`]).
//!
//! A new feed id (a store made anew, an older image) needs no comparison: cursors into the former feed are void, and
//! the whole new feed is pulled from its beginning, in entries of key and ballot without bodies where the receiver has
//! them. That is as complete as a comparison and moves the cursor as well; what is compared here is what feeds cannot
//! tell, a revision that is gone or altered behind a cursor that says it was applied.

use crate::ballot::Ballot;
use crate::copy_verdict::{Judged, Question, QuestionKind};
use crate::key::Key;
use crate::message::{ChosenBody, Compare};
use crate::record::FeedId;
use coequal_types::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use crate::range_digest::{KeyDigest, Range, RangeAnswer, answer_range, range_digest};

/// Documents of one range at most.
pub const RANGE_ENTRIES: usize = 128;
/// Keys that an answer lists at most.
pub const LIST_ENTRIES_MAX: usize = 2 * RANGE_ENTRIES;
/// Keys that can be suspects at once: a range's own, and those that the answer lists beside them.
pub const KEYS_MAX: usize = RANGE_ENTRIES + LIST_ENTRIES_MAX;

/// How far a node is in another one's feed.
pub type Cursor = (FeedId, u64);

/// A key that two nodes held differently at the first look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    here: Option<KeyDigest>,
    there: Option<KeyDigest>,
}

/// What became of a suspect at the second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Real {
    /// Nothing: it moved meanwhile.
    No,
    /// This node lacks what the peer holds.
    BehindHere(Ballot),
    /// The peer lacks what this node holds.
    BehindThere(Ballot),
    /// Two contents at one ballot.
    TwoContents(Ballot),
}

fn ballot_of(entry: Option<&KeyDigest>) -> Ballot {
    entry.map_or(Ballot::NONE, |entry| entry.ballot)
}

impl Suspect {
    /// The second look, after both sides have drained what each had at the first.
    fn judge(&self, here: Option<&KeyDigest>, there: Option<&KeyDigest>) -> Real {
        let (here_now, there_now) = (ballot_of(here), ballot_of(there));
        if here_now == there_now {
            let differs = matches!((here, there), (Some(a), Some(b)) if a.digest != b.digest);
            return if differs { Real::TwoContents(here_now) } else { Real::No };
        }
        // Only what stands still has its old place in the feed, which the other one has drained.
        if there_now > here_now {
            let stood = ballot_of(self.there.as_ref()) == there_now;
            return if stood { Real::BehindHere(there_now) } else { Real::No };
        }
        let stood = ballot_of(self.here.as_ref()) == here_now;
        if stood { Real::BehindThere(here_now) } else { Real::No }
    }
}

/// Where a comparison is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Reading,
    Asking { own: Vec<KeyDigest>, own_head: u64, range: Range },
    Draining { here: Option<Cursor>, there: Option<u64> },
    Again,
    Judging { questions: Vec<Question> },
    Fetching,
    Pushing,
    Done,
}

/// What a comparison wants next. Asking for it again changes nothing: what was lost is wanted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// What is here behind this key, about [`RANGE_ENTRIES`] of it ([`Comparison::on_own_range`]).
    OwnRange {
        /// `None`: from the beginning.
        after: Option<Key>,
    },
    /// This message to this node.
    Send(NodeId, Compare),
    /// How far this node and the peer are in each other's feeds ([`Comparison::on_cursors`]).
    Cursors(NodeId),
    /// What a quorum says ([`Comparison::on_judged`]).
    Judge(Vec<Question>),
    /// The chosen revisions of these documents to the peer, as [`Compare::Repair`], and then the message.
    Push(NodeId, Vec<Key>, Compare),
    /// Nothing: it is over.
    Nothing,
}

/// A difference that is real, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The document.
    pub key: Key,
    /// Who lacks the newer revision, or holds another content at the same ballot.
    pub node: NodeId,
    /// Ballot of the newer revision.
    pub ballot: Ballot,
    /// Whether both hold this ballot, with two contents.
    pub two_contents: bool,
}

/// How the comparison with one peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOutcome {
    /// All ranges were compared.
    Compared,
    /// It did not answer, or did not drain, in time.
    GivenUp,
}

/// What a comparison has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ranges compared, over all peers.
    pub ranges: u64,
    /// Keys compared, over all peers.
    pub keys: u64,
    /// Differences that were real.
    pub differences: u64,
    /// Of those: repaired by a chosen revision.
    pub repaired: u64,
    /// Of those: copies found by a quorum to hold another content, which are put aside by their nodes.
    pub quarantined: u64,
}

/// The comparison of one node's store with those of its peers, one after the other.
#[derive(Debug, Clone)]
pub struct Comparison {
    id: u64,
    me: NodeId,
    own_feed: FeedId,
    low_bound: u64,
    peers: VecDeque<NodeId>,
    ended: Vec<(NodeId, PeerOutcome)>,
    step: u64,
    after: Option<Key>,
    through: Option<Key>,
    suspects: BTreeMap<Key, Suspect>,
    fetch: BTreeMap<Key, Ballot>,
    push: BTreeMap<Key, Ballot>,
    judged: BTreeSet<Key>,
    phase: Phase,
    counts: Counts,
    findings: Vec<Finding>,
}

impl Comparison {
    /// `id`: a number of its own at this node. `low_bound`: tombstones up to this time are left out.
    pub fn new(id: u64, me: NodeId, own_feed: FeedId, peers: Vec<NodeId>, low_bound: u64) -> Self {
        let phase = if peers.is_empty() { Phase::Done } else { Phase::Reading };
        Self {
            id,
            me,
            own_feed,
            low_bound,
            peers: peers.into(),
            ended: Vec::new(),
            step: 1,
            after: None,
            through: None,
            suspects: BTreeMap::new(),
            fetch: BTreeMap::new(),
            push: BTreeMap::new(),
            judged: BTreeSet::new(),
            phase,
            counts: Counts::default(),
            findings: Vec::new(),
        }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Changes with each step: what is wanted at a new one has not been asked for yet.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The peers that it is through with, and how.
    pub fn ended(&self) -> &[(NodeId, PeerOutcome)] {
        &self.ended
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Real differences since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// What it wants now.
    pub fn wanted(&self) -> Wanted {
        let Some(peer) = self.peers.front().copied() else { return Wanted::Nothing };
        let (comparison, step) = (self.id, self.step);
        let keys = |map: &BTreeMap<Key, Ballot>| map.keys().cloned().collect::<Vec<Key>>();
        match &self.phase {
            Phase::Reading => Wanted::OwnRange { after: self.after.clone() },
            Phase::Asking { range, .. } => {
                Wanted::Send(peer, Compare::Range { comparison, step, range: range.clone() })
            }
            Phase::Draining { .. } => Wanted::Cursors(peer),
            Phase::Again => {
                let keys = self.suspects.keys().cloned().collect();
                Wanted::Send(peer, Compare::Keys { comparison, step, keys })
            }
            Phase::Judging { questions } => Wanted::Judge(questions.clone()),
            Phase::Fetching => Wanted::Send(peer, Compare::Fetch { comparison, step, keys: keys(&self.fetch) }),
            Phase::Pushing => {
                let keys = keys(&self.push);
                Wanted::Push(peer, keys.clone(), Compare::Keys { comparison, step, keys })
            }
            Phase::Done => Wanted::Nothing,
        }
    }

    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.step += 1;
    }

    /// What is here behind the key that was wanted; `end`: there is nothing behind the last of them; `last`: the last
    /// key that was read; `head`: the feed's head when it was read.
    pub fn on_own_range(&mut self, mut own: Vec<KeyDigest>, last: Option<Key>, end: bool, head: u64) {
        if self.phase != Phase::Reading {
            return;
        }
        own.retain(|entry| entry.takes_part(self.low_bound));
        let (through, low_bound) = (if end { None } else { last }, self.low_bound);
        let (count, digest) = (own.len() as u64, range_digest(&own));
        let range = Range { after: self.after.clone(), through, count, digest, low_bound };
        self.go(Phase::Asking { own, own_head: head, range });
    }

    fn is_current(&self, from: NodeId, comparison: u64, step: u64) -> bool {
        self.id == comparison && self.step == step && self.peers.front() == Some(&from)
    }

    /// The peer's answer about a range; `feed` and `head`: its feed, and the feed's head when it read the range.
    pub fn on_range_answer(&mut self, from: NodeId, (comparison, step): (u64, u64), at: Cursor, answer: RangeAnswer) {
        if !self.is_current(from, comparison, step) {
            return;
        }
        let Phase::Asking { own, own_head, range } = &mut self.phase else { return };
        let (own, own_head, end) = (std::mem::take(own), *own_head, range.through.clone());
        self.low_bound = self.low_bound.max(answer.low_bound);
        self.counts.ranges += 1;
        self.counts.keys += own.len().max(answer.entries.len()) as u64;
        self.through = answer.through.clone().or(end);
        self.suspects.clear();
        self.judged.clear();
        if !answer.same {
            self.suspects = suspects(own, answer);
        }
        if self.suspects.is_empty() {
            return self.next_range();
        }
        let ahead = |a: Option<&KeyDigest>, b: Option<&KeyDigest>| ballot_of(a) > ballot_of(b);
        let behind_here = self.suspects.values().any(|s| ahead(s.there.as_ref(), s.here.as_ref()));
        let behind_there = self.suspects.values().any(|s| ahead(s.here.as_ref(), s.there.as_ref()));
        self.go(Phase::Draining { here: behind_here.then_some(at), there: behind_there.then_some(own_head) });
    }

    /// `here`: this node's cursor into the peer's feed; `there`: the peer's into this node's.
    pub fn on_cursors(&mut self, here: Option<Cursor>, there: Option<Cursor>) {
        let Phase::Draining { here: here_needed, there: there_needed } = &self.phase else { return };
        let reached = |now: Option<Cursor>, feed: FeedId, needed: u64| {
            now.is_some_and(|(known, sequence)| known == feed && sequence >= needed)
        };
        let here = here_needed.is_none_or(|(feed, head)| reached(here, feed, head));
        let there = there_needed.is_none_or(|head| reached(there, self.own_feed, head));
        if here && there {
            self.go(Phase::Again);
        }
    }

    /// The peer's answer about keys (those that it holds). `here`: what this node holds now.
    pub fn on_keys_answer(
        &mut self,
        from: NodeId,
        (comparison, step): (u64, u64),
        entries: &[KeyDigest],
        here: impl Fn(&Key) -> Option<KeyDigest>,
    ) {
        if !self.is_current(from, comparison, step) {
            return;
        }
        match self.phase {
            Phase::Again => self.second_look(from, entries, here),
            Phase::Pushing => self.on_pushed(entries),
            _ => {}
        }
    }

    fn second_look(&mut self, peer: NodeId, entries: &[KeyDigest], here: impl Fn(&Key) -> Option<KeyDigest>) {
        let there: BTreeMap<&Key, &KeyDigest> = entries.iter().map(|entry| (&entry.key, entry)).collect();
        let mut questions = Vec::new();
        for (key, suspect) in std::mem::take(&mut self.suspects) {
            let (here, there) = (here(&key), there.get(&key).copied());
            let real = suspect.judge(here.as_ref(), there);
            let absent = here.is_none() || there.is_none();
            let (node, ballot) = match real {
                Real::No => continue,
                Real::BehindHere(ballot) => (self.me, ballot),
                Real::BehindThere(ballot) | Real::TwoContents(ballot) => (peer, ballot),
            };
            let two_contents = matches!(real, Real::TwoContents(_));
            self.counts.differences += 1;
            self.findings.push(Finding { key: key.clone(), node, ballot, two_contents });
            // Below the low bound, who holds nothing may be right: a tombstone was collected. A quorum knows.
            let doubtful = absent && ballot.time <= self.low_bound;
            match real {
                Real::TwoContents(_) => questions.push(Question { key, ballot, kind: QuestionKind::Content }),
                _ if doubtful => questions.push(Question { key, ballot, kind: QuestionKind::Presence }),
                Real::BehindHere(_) => drop(self.fetch.insert(key, ballot)),
                _ => drop(self.push.insert(key, ballot)),
            }
        }
        if questions.is_empty() { self.repair_on() } else { self.go(Phase::Judging { questions }) }
    }

    /// What a quorum said to the questions; `here`: what this node holds now.
    pub fn on_judged(&mut self, judged: Vec<Judged>, here: impl Fn(&Key) -> Option<KeyDigest>) {
        if !matches!(self.phase, Phase::Judging { .. }) {
            return;
        }
        for Judged { question, minority, held_by_quorum } in judged {
            self.counts.quarantined += minority.len() as u64;
            if question.kind == QuestionKind::Presence && held_by_quorum {
                let behind_here = ballot_of(here(&question.key).as_ref()) < question.ballot;
                let repair = if behind_here { &mut self.fetch } else { &mut self.push };
                self.judged.insert(question.key.clone());
                repair.insert(question.key, question.ballot);
            }
        }
        self.repair_on();
    }

    /// What the peer sent of what was fetched; gives back what is to be learned. Only what was asked for, and never
    /// less than was seen.
    pub fn on_fetched(
        &mut self,
        from: NodeId,
        (comparison, step): (u64, u64),
        bodies: Vec<ChosenBody>,
    ) -> Vec<ChosenBody> {
        if self.phase != Phase::Fetching || !self.is_current(from, comparison, step) {
            return Vec::new();
        }
        let wanted = |body: &ChosenBody| self.fetch.get(&body.key).is_some_and(|ballot| body.ballot >= *ballot);
        let taken: Vec<ChosenBody> = bodies.into_iter().filter(wanted).collect();
        for body in &taken {
            self.fetch.remove(&body.key);
        }
        self.counts.repaired += taken.len() as u64;
        // A peer that has none of the rest any more will not have it at the next request either.
        if taken.is_empty() {
            self.fetch.clear();
        }
        self.repair_on();
        taken
    }

    /// Whether a quorum holds this document of the range in work, so that it is no late copy of a collected one.
    pub fn is_held_by_quorum(&self, key: &Key) -> bool {
        self.judged.contains(key)
    }

    fn on_pushed(&mut self, entries: &[KeyDigest]) {
        let before = self.push.len();
        for entry in entries {
            if self.push.get(&entry.key).is_some_and(|ballot| entry.ballot >= *ballot) {
                self.push.remove(&entry.key);
            }
        }
        let repaired = before - self.push.len();
        self.counts.repaired += repaired as u64;
        // Nothing yet: what was pushed is lost or still on its way; it is pushed again until the step's time is over.
        if repaired > 0 {
            self.repair_on();
        }
    }

    fn repair_on(&mut self) {
        if !self.fetch.is_empty() {
            self.go(Phase::Fetching);
        } else if !self.push.is_empty() {
            self.go(Phase::Pushing);
        } else {
            self.next_range();
        }
    }

    fn next_range(&mut self) {
        self.suspects.clear();
        match self.through.take() {
            Some(through) => {
                self.after = Some(through);
                self.go(Phase::Reading);
            }
            None => self.next_peer(PeerOutcome::Compared),
        }
    }

    fn next_peer(&mut self, outcome: PeerOutcome) {
        if let Some(peer) = self.peers.pop_front() {
            self.ended.push((peer, outcome));
        }
        (self.after, self.through) = (None, None);
        self.suspects.clear();
        self.fetch.clear();
        self.push.clear();
        self.go(if self.peers.is_empty() { Phase::Done } else { Phase::Reading });
    }

    /// What is wanted did not come in time: on with the next peer, or with the next range where only a repair was not
    /// taken. What was left is found again by the next comparison.
    pub fn on_timeout(&mut self) {
        if self.phase == Phase::Pushing {
            self.push.clear();
            self.next_range();
        } else if !self.is_done() {
            self.next_peer(PeerOutcome::GivenUp);
        }
    }

    /// Only voters are compared: nobody waits for one that is none any more.
    pub fn on_voters(&mut self, voters: &[NodeId]) {
        while self.peers.front().is_some_and(|peer| !voters.contains(peer)) {
            self.next_peer(PeerOutcome::GivenUp);
        }
    }
}

/// The keys that stand differently in what is here and what is there, up to where the answer goes.
fn suspects(own: Vec<KeyDigest>, answer: RangeAnswer) -> BTreeMap<Key, Suspect> {
    let RangeAnswer { through, low_bound, entries, .. } = answer;
    let mut suspects: BTreeMap<Key, Suspect> = BTreeMap::new();
    let inside = |key: &Key| through.as_ref().is_none_or(|through| key <= through);
    for entry in own.into_iter().filter(|entry| inside(&entry.key) && entry.takes_part(low_bound)) {
        suspects.insert(entry.key.clone(), Suspect { here: Some(entry), there: None });
    }
    for entry in entries.into_iter().filter(|entry| inside(&entry.key)) {
        let suspect = suspects.entry(entry.key.clone()).or_insert(Suspect { here: None, there: None });
        suspect.there = Some(entry);
    }
    suspects.retain(|_, suspect| suspect.here != suspect.there);
    suspects
}

/// I10 and "never backwards": what is repaired was chosen, and is newer than what stood there.
pub fn invariant_repair_goes_forward(before: Option<&KeyDigest>, after: Option<&KeyDigest>) -> bool {
    ballot_of(before) <= ballot_of(after)
        && match (before, after) {
            (Some(before), Some(after)) => before.ballot < after.ballot || before.digest == after.digest,
            (Some(_), None) => false,
            _ => true,
        }
}

/// Work in hand is bounded, whatever the stores hold.
pub fn invariant_work_is_bounded(comparison: &Comparison) -> bool {
    comparison.suspects.len() + comparison.fetch.len() + comparison.push.len() <= KEYS_MAX
}

/// Every difference is repaired, in quarantine, or left and said to be: nothing is repaired that was not found.
pub fn invariant_only_findings_are_repaired(counts: &Counts) -> bool {
    counts.repaired <= counts.differences
}

/// When the next scheduled comparison is due, in Unix milliseconds: at the same moment of each period, another one for
/// each database and node (`spread`). A moment that was missed is made up for once there was a first comparison.
pub fn is_due(now_ms: u64, every_ms: u64, spread: u64, last_started_ms: Option<u64>, running_since_ms: u64) -> bool {
    if every_ms == 0 {
        return false;
    }
    let phase = spread % every_ms;
    let Some(since_first) = now_ms.checked_sub(phase) else { return false };
    let newest_moment_ms = since_first / every_ms * every_ms + phase;
    newest_moment_ms > last_started_ms.unwrap_or(running_since_ms)
}
