//! Drives this node's comparison of ranges (decisions: `protocol::range_comparison`): one range of bounded size at a time,
//! read in a short transaction, at the pace of the replica's ticks and more slowly while writers are at work. What
//! others ask is answered in `compared`, what only a quorum can say is asked in `verdict`.

use super::event::{CompareReply, ComparisonTotals, ComparisonView};
use super::{Replica, verdict};
use crate::replication::error::ServiceError;
use bytes::Bytes;
use coequal_protocol::message::{Compare, Message};
use coequal_protocol::range_comparison::{Comparison, Finding, KeyDigest, PeerOutcome, RANGE_ENTRIES, Wanted};
use coequal_protocol::record::LogRecord;
use coequal_protocol::{Ballot, Key};
use coequal_types::rest::{ComparedPeer, ComparisonRun};
use coequal_types::{DatabaseStatus, NodeId};
use std::collections::BTreeMap;

/// A range ends after about so much, whatever the number of its documents.
const RANGE_BYTES_MAX: usize = 256 << 10;
/// What was not answered is asked again after this long.
const RESEND_MS: u64 = 500;
/// How long one step may take, with all repetitions, before the peer is given up.
const STEP_MS_MAX: u64 = 20_000;
/// With more documents than this being written, ranges come more slowly.
const BUSY_WRITES: usize = 8;
const BUSY_PAUSE_MS: u64 = 100;
/// Differences that are told in words.
const FINDINGS_MAX: usize = 16;
/// Name of the stored value that tells of the last comparison.
const META_COMPARISON: &str = "comparison";
/// Stands while a comparison is under way: after a restart it begins again.
const META_BEGUN: &str = "comparison-begun";

/// All that a replica knows of comparisons.
#[derive(Default)]
pub(super) struct Comparing {
    running: Option<Running>,
    last: Option<ComparisonRun>,
    interrupted: bool,
    pub totals: ComparisonTotals,
    pub verdicts: verdict::Verdicts,
}

impl Comparing {
    /// Whether anything is compared, asked or about to be.
    pub fn is_under_way(&self) -> bool {
        self.running.is_some() || self.interrupted || self.verdicts.is_under_way()
    }
}

/// The comparison under way.
struct Running {
    comparison: Comparison,
    started_unix_ms: u64,
    ranges_total: u64,
    /// The step that is being waited for, since when, and when it was asked for last.
    step: u64,
    since_ms: u64,
    asked_ms: Option<u64>,
    read_at_ms: u64,
    findings: Vec<String>,
}

impl Replica {
    /// What this node remembers of the last comparison, after a restart.
    pub(super) fn recall_last_comparison(&mut self) {
        let stored = self.store.meta(META_COMPARISON);
        self.comparing.last = stored.and_then(|json| serde_json::from_slice(&json).ok());
        self.comparing.interrupted = self.store.meta(META_BEGUN).is_some();
    }

    /// Tombstones up to this time take no part: one node may have collected them, and another not yet.
    pub(super) fn compared_above(&self) -> u64 {
        self.configuration.low_bound.collected
    }

    /// Somebody wants a comparison; the one under way serves as well.
    pub(super) fn on_compare_wanted(&mut self, reply: Option<CompareReply>) {
        let begun = self.begin_comparison();
        if let Some(reply) = reply {
            reply(begun.map(|()| self.comparison_view()));
        }
    }

    /// Begins, if none is under way.
    pub(super) fn begin_comparison(&mut self) -> Result<(), ServiceError> {
        let name = self.configuration.name.clone();
        if let Some(reason) = &self.fault {
            return Err(ServiceError::Faulty { name, reason: reason.clone() });
        }
        if self.comparing.running.is_some() {
            return Ok(());
        }
        if self.status != DatabaseStatus::Online {
            return Err(ServiceError::Synchronizing { name, status: self.status, progress: self.progress() });
        }
        if !self.compares() {
            return Err(ServiceError::Conflict(format!(
                "node {} does not vote in database {name} yet, so nobody drains its feed; compare on a voter (GET /v1/databases/{name}/replication lists them)",
                self.me
            )));
        }
        let peers: Vec<NodeId> = self.configuration.all_voters().into_iter().filter(|peer| *peer != self.me).collect();
        let counts = self.store.counts();
        let ranges = (counts.documents + counts.tombstones) / RANGE_ENTRIES as u64 + 1;
        let ranges_total = ranges * peers.len() as u64;
        tracing::info!(database = %name, peers = peers.len(), ranges_total, "comparison with the other voters begins");
        let id = self.id();
        self.comparing.running = Some(Running {
            comparison: Comparison::new(id, self.me, self.store.feed_id(), peers, self.compared_above()),
            started_unix_ms: self.now.unix_ms,
            ranges_total,
            step: 0,
            since_ms: self.now.monotonic_ms,
            asked_ms: None,
            read_at_ms: 0,
            findings: Vec::new(),
        });
        self.comparing.interrupted = false;
        self.append(LogRecord::Meta { name: META_BEGUN.to_owned(), value: Bytes::from_static(b"1") });
        self.next_tick_ms = self.now.monotonic_ms;
        Ok(())
    }

    /// Whether this copy can be compared: an aligned voter's, whose feed the others drain.
    pub(super) fn compares(&self) -> bool {
        self.status == DatabaseStatus::Online && self.configuration.is_voter(self.me) && self.own_disk.may_vote()
    }

    /// One step of what is under way.
    pub(super) fn run_comparison(&mut self) {
        self.run_verdicts();
        if self.comparing.interrupted && self.compares() && self.begin_comparison().is_err() {
            self.comparing.interrupted = false;
        }
        let Some(mut running) = self.comparing.running.take() else { return };
        if self.fault.is_some() {
            return;
        }
        if !self.compares() || self.disk_full {
            // It goes on when this node is aligned again; the peer is not to blame for the pause.
            running.since_ms = self.now.monotonic_ms;
            self.comparing.running = Some(running);
            return;
        }
        running.comparison.on_voters(&self.configuration.all_voters());
        self.drive(&mut running);
        self.note_findings(&mut running);
        if running.comparison.is_done() {
            self.finish_comparison(&running);
        } else {
            self.comparing.running = Some(running);
        }
    }

    fn drive(&mut self, running: &mut Running) {
        let now_ms = self.now.monotonic_ms;
        if running.step != running.comparison.step() {
            running.step = running.comparison.step();
            running.since_ms = now_ms;
            running.asked_ms = None;
        }
        if now_ms.saturating_sub(running.since_ms) >= STEP_MS_MAX {
            return running.comparison.on_timeout();
        }
        let due = running.asked_ms.is_none_or(|asked_ms| now_ms.saturating_sub(asked_ms) >= RESEND_MS);
        match running.comparison.wanted() {
            Wanted::OwnRange { after } => self.read_own_range(running, after.as_ref()),
            Wanted::Send(peer, message) if due => {
                running.asked_ms = Some(now_ms);
                self.send(peer, Message::Compare(message));
            }
            Wanted::Cursors(peer) => {
                let here = self.store.cursor(peer);
                let there = self.peers.get(&peer).and_then(|peer| peer.serve.confirmed);
                running.comparison.on_cursors(here, there);
            }
            Wanted::Judge(questions) => self.ask_all(questions, verdict::Purpose::Comparison),
            Wanted::Push(peer, keys, message) if due => {
                running.asked_ms = Some(now_ms);
                if let Some(bodies) = self.compared_bodies(keys) {
                    self.send(peer, Message::Compare(Compare::Repair { bodies }));
                    self.send(peer, Message::Compare(message));
                }
            }
            Wanted::Send(..) | Wanted::Push(..) | Wanted::Nothing => {}
        }
    }

    fn read_own_range(&mut self, running: &mut Running, after: Option<&Key>) {
        let now_ms = self.now.monotonic_ms;
        if now_ms < running.read_at_ms {
            // A pause of ours, not of the peer's.
            running.since_ms = now_ms;
            return;
        }
        running.read_at_ms = if self.slots.len() > BUSY_WRITES { now_ms + BUSY_PAUSE_MS } else { now_ms };
        let Some((own, cut)) = self.own_digests(after, RANGE_ENTRIES, RANGE_BYTES_MAX) else { return };
        let last = own.last().map(|entry| entry.key.clone());
        running.comparison.on_own_range(own, last, !cut, self.store.feed_head());
        // What was read is asked about at once.
        self.drive(running);
    }

    /// What is chosen here behind `after`, and whether there may be more behind that.
    pub(super) fn own_digests(
        &mut self,
        after: Option<&Key>,
        entries_max: usize,
        bytes_max: usize,
    ) -> Option<(Vec<KeyDigest>, bool)> {
        let found = self.stored(self.store.scan(after, b"", entries_max, bytes_max))?;
        let size = |body: &coequal_protocol::message::ChosenBody| {
            body.key.as_bytes().len() + body.revision.body.as_ref().map_or(0, Bytes::len)
        };
        let cut = found.len() >= entries_max || found.iter().map(size).sum::<usize>() >= bytes_max;
        let digest = |body: coequal_protocol::message::ChosenBody| {
            KeyDigest::of(&body.key, &coequal_protocol::Held { ballot: body.ballot, revision: body.revision })
        };
        Some((found.into_iter().map(digest).collect(), cut))
    }

    /// What is chosen here of these documents.
    pub(super) fn held_digests(&mut self, keys: &[Key]) -> Option<BTreeMap<Key, KeyDigest>> {
        let mut held = BTreeMap::new();
        for key in keys {
            if let Some(found) = self.stored(self.store.chosen(key))? {
                held.insert(key.clone(), KeyDigest::of(key, &found));
            }
        }
        Some(held)
    }

    /// An answer to this node's comparison.
    pub(super) fn on_compare_answer(&mut self, from: NodeId, message: Compare) {
        let Some(mut running) = self.comparing.running.take() else { return };
        match message {
            Compare::RangeAnswer { comparison, step, feed, head, answer } => {
                running.comparison.on_range_answer(from, (comparison, step), (feed, head), answer);
            }
            Compare::KeysAnswer { comparison, step, entries } => {
                let asked = match running.comparison.wanted() {
                    Wanted::Send(_, Compare::Keys { keys, .. }) => keys,
                    _ => Vec::new(),
                };
                if let Some(held) = self.held_digests(&asked) {
                    let at = (comparison, step);
                    running.comparison.on_keys_answer(from, at, &entries, |key| held.get(key).cloned());
                }
            }
            Compare::Fetched { comparison, step, bodies } if !self.disk_full => {
                for body in running.comparison.on_fetched(from, (comparison, step), bodies) {
                    let held_by_quorum = running.comparison.is_held_by_quorum(&body.key);
                    self.learn_compared(&body, held_by_quorum);
                }
            }
            _ => {}
        }
        self.note_findings(&mut running);
        self.comparing.running = Some(running);
    }

    /// What a quorum said to the comparison's questions.
    pub(super) fn on_comparison_judged(&mut self, judged: Vec<coequal_protocol::copy_verdict::Judged>) {
        let keys: Vec<Key> = judged.iter().map(|judged| judged.question.key.clone()).collect();
        let Some(held) = self.held_digests(&keys) else { return };
        if let Some(running) = &mut self.comparing.running {
            running.comparison.on_judged(judged, |key| held.get(key).cloned());
        }
    }

    fn note_findings(&mut self, running: &mut Running) {
        for finding in running.comparison.take_findings() {
            let text = self.describe(&finding);
            tracing::warn!(database = %self.configuration.name, finding = %text, "comparison");
            if running.findings.len() < FINDINGS_MAX {
                running.findings.push(text);
            }
        }
    }

    fn describe(&self, finding: &Finding) -> String {
        let Finding { key, node, ballot, two_contents } = finding;
        let document = format!("document {} of collection {}", key.document_key(), key.collection());
        if *two_contents {
            let me = self.me;
            return format!(
                "{document}: nodes {me} and {node} hold two contents at ballot {ballot}; a quorum is asked"
            );
        }
        let what = if *ballot == Ballot::NONE { "nothing".to_owned() } else { ballot.to_string() };
        format!("{document}: node {node} lacks the chosen revision {what}, which its feeds had told it")
    }

    fn finish_comparison(&mut self, running: &Running) {
        let mut run = run_of(running);
        run.ended_unix_ms = Some(self.now.unix_ms);
        let totals = &mut self.comparing.totals;
        totals.ended += 1;
        totals.keys += run.keys_compared;
        totals.differences += run.differences;
        totals.repaired += run.repaired;
        totals.quarantined += run.quarantined;
        totals.unresolved += run.unresolved;
        let ComparisonRun { keys_compared, differences, repaired, quarantined, unresolved, .. } = run;
        let given_up = run.peers.iter().filter(|peer| !peer.compared).count();
        let name = &self.configuration.name;
        if differences == 0 && given_up == 0 {
            tracing::info!(database = %name, keys_compared, "comparison ended: no difference");
        } else {
            tracing::warn!(database = %name, keys_compared, differences, repaired, quarantined, unresolved, given_up, "comparison ended");
        }
        // Numbers and ids always serialise; an empty value would only forget when the last one was.
        let value = serde_json::to_vec(&run).unwrap_or_default().into();
        self.append(LogRecord::Meta { name: META_COMPARISON.to_owned(), value });
        self.append(LogRecord::Meta { name: META_BEGUN.to_owned(), value: Bytes::new() });
        self.comparing.last = Some(run);
    }

    pub(super) fn comparison_view(&self) -> ComparisonView {
        let running = self.comparing.running.as_ref().filter(|_| self.fault.is_none());
        ComparisonView {
            running: running.map(run_of),
            last: self.comparing.last.clone(),
            totals: self.comparing.totals,
        }
    }
}

fn run_of(running: &Running) -> ComparisonRun {
    let counts = running.comparison.counts();
    let peer = |(node, outcome): &(NodeId, PeerOutcome)| ComparedPeer {
        node: *node,
        compared: *outcome == PeerOutcome::Compared,
    };
    ComparisonRun {
        started_unix_ms: running.started_unix_ms,
        ended_unix_ms: None,
        ranges_done: counts.ranges,
        ranges_total: running.ranges_total.max(counts.ranges),
        keys_compared: counts.keys,
        differences: counts.differences,
        repaired: counts.repaired,
        quarantined: counts.quarantined,
        unresolved: counts.differences.saturating_sub(counts.repaired + counts.quarantined),
        peers: running.comparison.ended().iter().map(peer).collect(),
        findings: running.findings.clone(),
    }
}
