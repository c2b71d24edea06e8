//! The judge: knows everything, and compares what clients were told with what is there.

use super::{Call, Outcome, World, expected_version};
use crate::common::settle;
use coequal_protocol::message::OperationKind;
use coequal_protocol::proposal::{Proposal, Step};
use coequal_protocol::register::invariant_one_value_per_ballot;
use coequal_protocol::revision::HISTORY_DEPTH;
use coequal_protocol::{Ballot, HistoryEntry, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;

impl World {
    /// Everybody comes back, everything late arrives, and the document is settled before and after that.
    pub(super) fn heal(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.crash_and_restart(at));
        self.settle_document();
        self.rng.clone().shuffle(&mut self.letters);
        let late: Vec<super::Letter> = std::mem::take(&mut self.letters);
        late.into_iter().for_each(|letter| self.deliver(letter));
        (0..self.nodes.len()).for_each(|at| self.sync(at));
        self.letters.clear();
        self.settle_document();
    }

    fn crash_and_restart(&mut self, at: usize) {
        let dies = self.rng.chance(500);
        if self.nodes[at].up && dies {
            self.crash(at);
        }
        self.restart(at);
        self.sync(at);
    }

    /// A proposal of the judge itself, without any loss.
    fn settle_document(&mut self) {
        let highest = self.nodes.iter().map(|node| node.live.promised.time).max().unwrap_or(0);
        let ballot = Ballot::ordinary(highest + 1, self.nodes[0].id, 1_000_000);
        let mut proposal = Proposal::new(vec![settle()]);
        proposal.prepare(ballot);
        let mut step = Step::Wait;
        for at in 0..self.nodes.len() {
            let (answer, change) = self.nodes[at].live.prepare(ballot);
            self.record(at, change);
            if let coequal_protocol::register::Answer::Promised { held, chosen } = answer {
                let id = self.nodes[at].id;
                let next = proposal.on_promised(&self.configuration, id, ballot, held, chosen);
                if next != Step::Wait {
                    step = next;
                }
            }
        }
        if let Step::Accept { ballot, revision } = step {
            for at in 0..self.nodes.len() {
                let (_, change) = self.nodes[at].live.accept(ballot, &revision, 0);
                self.record(at, change);
                self.sync(at);
            }
            self.proposed.insert(ballot, revision);
        }
    }

    /// Checks everything; gives back how many versions the document had.
    pub(super) fn judge(&mut self) -> u64 {
        if self.failure.is_some() {
            return 0;
        }
        if !invariant_one_value_per_ballot(self.nodes.iter().map(|node| &node.live)) {
            self.fail("two values under one ballot on disks (I2)".to_owned());
        }
        let chosen = self.chosen();
        if let Err(what) = succeeds(&chosen) {
            self.fail(what);
        }
        match chain(&chosen) {
            Ok(chain) => {
                let verdict = self.judge_calls(&chosen, &chain).and_then(|()| in_real_time(&self.calls));
                if let Err(what) = verdict {
                    self.fail(what);
                }
                chain.len() as u64
            }
            Err(what) => {
                self.fail(what);
                0
            }
        }
    }

    /// What a majority had accepted at one ballot, in order of ballots.
    fn chosen(&self) -> Vec<(Ballot, Arc<Revision>)> {
        let chosen = self.votes.iter().filter(|(_, voters)| voters.len() >= self.majority());
        chosen.map(|(ballot, _)| (*ballot, Arc::clone(&self.proposed[ballot]))).collect()
    }

    fn judge_calls(
        &self,
        chosen: &[(Ballot, Arc<Revision>)],
        chain: &BTreeMap<u64, HistoryEntry>,
    ) -> Result<(), String> {
        let stamp_of = |version: u64| chain.get(&version).map(|entry| entry.stamp);
        for call in &self.calls {
            match call.outcome {
                Outcome::Written { version, stamp } => {
                    if stamp_of(version) != Some(stamp) {
                        return Err(format!("an acknowledged write is lost: {call:?}"));
                    }
                    let expected = call.operation.as_ref().and_then(expected_version);
                    if expected.is_some_and(|expected| expected + 1 != version) {
                        return Err(format!("a condition did not hold: {call:?}"));
                    }
                }
                Outcome::Read(Some((version, stamp))) if stamp_of(version) != Some(stamp) => {
                    return Err(format!("a read showed what is not there: {call:?}"));
                }
                Outcome::Rejected { .. } | Outcome::NotApplied => self.not_applied(call, chosen, chain)?,
                _ => {}
            }
        }
        // Each request once, as long as the document can remember it.
        if chain.len() <= HISTORY_DEPTH {
            for call in &self.calls {
                if times_applied(call, chosen, chain) > 1 {
                    return Err(format!("applied twice: {call:?}"));
                }
            }
        }
        Ok(())
    }

    /// Every try of this request was refused or not applied: then it must be nowhere.
    fn not_applied(
        &self,
        call: &Call,
        chosen: &[(Ballot, Arc<Revision>)],
        chain: &BTreeMap<u64, HistoryEntry>,
    ) -> Result<(), String> {
        let tries = || self.calls.iter().filter(|other| other.number == call.number);
        let surely_not = tries().all(|c| matches!(c.outcome, Outcome::Rejected { .. } | Outcome::NotApplied));
        if surely_not && times_applied(call, chosen, chain) > 0 {
            return Err(format!("a refused write was applied: {call:?}"));
        }
        Ok(())
    }
}

/// Each chosen revision is the one chosen before it, or comes after it.
fn succeeds(chosen: &[(Ballot, Arc<Revision>)]) -> Result<(), String> {
    for pair in chosen.windows(2) {
        let ((low, before), (high, after)) = (&pair[0], &pair[1]);
        let far = after.version > before.version + HISTORY_DEPTH as u64 - 1;
        if after != before && !(after.version > before.version && (far || after.descends_from(before.stamp))) {
            return Err(format!("{after:?} chosen at {high} does not come after {before:?} chosen at {low}"));
        }
    }
    Ok(())
}

/// The document's one past: every version with its entry.
fn chain(chosen: &[(Ballot, Arc<Revision>)]) -> Result<BTreeMap<u64, HistoryEntry>, String> {
    let mut chain: BTreeMap<u64, HistoryEntry> = BTreeMap::new();
    for (at, revision) in chosen {
        for entry in &revision.history {
            let known = chain.entry(entry.version).or_insert_with(|| entry.clone());
            if known != entry {
                return Err(format!("two pasts: {known:?} and {entry:?}, chosen at {at}"));
            }
        }
    }
    Ok(chain)
}

/// How often a request is in the document's past: by its id, or by the bodies that named it.
fn times_applied(call: &Call, chosen: &[(Ballot, Arc<Revision>)], chain: &BTreeMap<u64, HistoryEntry>) -> usize {
    let Some(operation) = &call.operation else { return 0 };
    if let Some((id, _)) = operation.request {
        return chain.values().filter(|entry| entry.request.is_some_and(|(known, _)| known == id)).count();
    }
    let (OperationKind::Put(body) | OperationKind::Create(body)) = &operation.kind else { return 0 };
    let mut versions: Vec<u64> =
        chosen.iter().filter(|(_, r)| r.body.as_ref() == Some(body)).map(|(_, r)| r.version).collect();
    versions.dedup();
    versions.len()
}

/// G2: what ended before something else began comes before it in the document's past.
fn in_real_time(calls: &[Call]) -> Result<(), String> {
    let place = |call: &Call| match call.outcome {
        Outcome::Written { version, .. } => Some((version, true)),
        Outcome::Read(state) => Some((state.map_or(0, |(version, _)| version), false)),
        Outcome::Rejected { at_version } => Some((at_version, false)),
        _ => None,
    };
    for earlier in calls {
        let Some((before, _)) = place(earlier) else { continue };
        for later in calls.iter().filter(|later| earlier.ended < later.began && later.number != earlier.number) {
            let Some((after, writes)) = place(later) else { continue };
            if after < before || (writes && after == before) {
                return Err(format!("{later:?} began after the end of {earlier:?} and does not see it"));
            }
        }
    }
    Ok(())
}
