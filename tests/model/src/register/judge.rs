//! What must hold in every state: the judge knows all disks and all values, and compares them with what clients were
//! told.

use super::{Bounds, Outcome, State, What};
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::register::invariant_one_value_per_ballot;
use coequal_protocol::{Ballot, HistoryEntry, Revision};
use coequal_types::settings::majority;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The document's one past: every version with its entry.
type Past = BTreeMap<u64, HistoryEntry>;

impl Bounds {
    /// `None` when everything is as it must be.
    pub fn judge(&self, state: &State) -> Option<String> {
        state.violation.clone().or_else(|| self.compare(state).err())
    }

    fn compare(&self, state: &State) -> Result<(), String> {
        if !invariant_one_value_per_ballot(state.nodes.iter().flat_map(|node| [&node.live, &node.durable])) {
            return Err("two values at one ballot on disks (I2)".to_owned());
        }
        let chosen = self.chosen(state);
        let past = one_past(&chosen)?;
        self.local_reads_are_chosen(state, &chosen)?;
        for call in 0..state.calls.len() {
            self.call_is_honest(state, call, &chosen, &past)?;
        }
        in_real_time(state)
    }

    /// What enough voters had accepted at one ballot, in order of ballots. Counted here by plain numbers: the code's own
    /// counting is on trial.
    fn chosen<'a>(&self, state: &'a State) -> Vec<(Ballot, &'a Arc<Revision>)> {
        let needed = majority(u32::try_from(state.nodes.len()).unwrap()) as usize;
        let enough = |voters: usize| voters >= needed;
        let chosen = state.votes.iter().filter(|(_, voters)| enough(voters.len()));
        chosen.filter_map(|(ballot, _)| state.proposed.get(ballot).map(|revision| (*ballot, revision))).collect()
    }

    /// I10: what a node would show was chosen.
    fn local_reads_are_chosen(&self, state: &State, chosen: &[(Ballot, &Arc<Revision>)]) -> Result<(), String> {
        for (at, node) in state.nodes.iter().enumerate() {
            let Some(held) = &node.live.chosen else { continue };
            if !chosen.iter().any(|(ballot, revision)| *ballot == held.ballot && **revision == held.revision) {
                return Err(format!("node {at} shows a revision that was not chosen at {} (I10)", held.ballot));
            }
        }
        Ok(())
    }

    /// G1: some accept round that has the write in it reached as many disks as `writeQuorum` says.
    fn is_on_write_quorum(&self, state: &State, stamp: Ballot) -> bool {
        let voters = u32::try_from(state.nodes.len()).unwrap();
        let needed = self.configuration.settings.write_quorum.accepts_needed(voters) as usize;
        let holds = |ballot: &Ballot| state.proposed.get(ballot).is_some_and(|revision| revision.descends_from(stamp));
        state.votes.iter().any(|(ballot, votes)| votes.len() >= needed && holds(ballot))
    }

    fn call_is_honest(
        &self,
        state: &State,
        call: usize,
        chosen: &[(Ballot, &Arc<Revision>)],
        past: &Past,
    ) -> Result<(), String> {
        let stamp_of = |version: u64| past.get(&version).map(|entry| entry.stamp);
        let operation = self.operation(call);
        let outcome = state.calls[call].outcome;
        match outcome {
            Outcome::Written { version, stamp } => {
                if stamp_of(version) != Some(stamp) {
                    return Err(format!("call {call} was acknowledged and is lost: {outcome:?}"));
                }
                if !self.is_on_write_quorum(state, stamp) {
                    return Err(format!("call {call} was acknowledged below writeQuorum (G1): {outcome:?}"));
                }
                let expected = operation.as_ref().and_then(expected_version);
                if expected.is_some_and(|expected| expected + 1 != version) {
                    return Err(format!("call {call} was written although its condition did not hold: {outcome:?}"));
                }
            }
            Outcome::Read(Some((version, stamp))) if stamp_of(version) != Some(stamp) => {
                return Err(format!("call {call} read what is not there: {outcome:?}"));
            }
            _ => {}
        }
        let times = times_applied(operation.as_ref(), chosen, past);
        let denied = |call: &super::Call| matches!(call.outcome, Outcome::Rejected { .. } | Outcome::NotApplied);
        let mut tries = (0..state.calls.len()).filter(|other| self.first_of(*other) == self.first_of(call));
        let begun = tries.clone().any(|other| state.calls[other].outcome != Outcome::NotBegun);
        let all_denied =
            tries.all(|other| denied(&state.calls[other]) || state.calls[other].outcome == Outcome::NotBegun);
        match times {
            0 | 1 if !(times == 1 && begun && all_denied) => Ok(()),
            1 => Err(format!("call {call} was refused and applied (I8, I9): {outcome:?}")),
            _ => Err(format!("call {call} was applied {times} times (I9): {outcome:?}")),
        }
    }

    /// The call with which a request was made first.
    fn first_of(&self, call: usize) -> usize {
        match self.plan[call].what {
            What::Again(first) => first,
            _ => call,
        }
    }

    fn operation(&self, call: usize) -> Option<Operation> {
        match &self.plan[self.first_of(call)].what {
            What::Write { operation, .. } => Some(operation.clone()),
            _ => None,
        }
    }
}

/// What a conditional write expects to find.
fn expected_version(operation: &Operation) -> Option<u64> {
    match operation.condition {
        Condition::Version(version) => Some(version),
        Condition::Absent => Some(0),
        _ => None,
    }
}

/// Each chosen revision is the one chosen before it, or comes after it.
fn one_past(chosen: &[(Ballot, &Arc<Revision>)]) -> Result<Past, String> {
    for pair in chosen.windows(2) {
        let ((low, before), (high, after)) = (&pair[0], &pair[1]);
        if after != before && !(after.version > before.version && after.descends_from(before.stamp)) {
            return Err(format!("what was chosen at {high} does not come after what was chosen at {low} (G1)"));
        }
    }
    let mut past = Past::new();
    for (ballot, revision) in chosen {
        for entry in &revision.history {
            let known = past.entry(entry.version).or_insert_with(|| entry.clone());
            if known != entry {
                return Err(format!("there are two pasts of version {}, one chosen at {ballot}", entry.version));
            }
        }
    }
    Ok(past)
}

/// How often a request is in the document's past: by its id, or by the body that only it writes.
fn times_applied(operation: Option<&Operation>, chosen: &[(Ballot, &Arc<Revision>)], past: &Past) -> usize {
    let Some(operation) = operation else { return 0 };
    let mut versions: Vec<u64> = match (&operation.kind, operation.request) {
        (OperationKind::Put(body) | OperationKind::Create(body), _) => {
            chosen.iter().filter(|(_, r)| r.body.as_ref() == Some(body)).map(|(_, r)| r.version).collect()
        }
        _ => Vec::new(),
    };
    if let Some((id, _)) = operation.request {
        versions.extend(past.values().filter(|e| e.request.is_some_and(|(known, _)| known == id)).map(|e| e.version));
    }
    versions.sort_unstable();
    versions.dedup();
    versions.len()
}

/// G2: what ended before something else began comes before it in the document's past.
fn in_real_time(state: &State) -> Result<(), String> {
    let place = |outcome: Outcome| match outcome {
        Outcome::Written { version, .. } => Some((version, true)),
        Outcome::Read(state) => Some((state.map_or(0, |(version, _)| version), false)),
        Outcome::Rejected { at_version } => Some((at_version, false)),
        _ => None,
    };
    for (at, later) in state.calls.iter().enumerate() {
        let Some((after, writes)) = place(later.outcome) else { continue };
        for (number, earlier) in state.calls.iter().enumerate() {
            let Some((before, _)) = place(earlier.outcome) else { continue };
            let is_before = later.ended_before & (1 << number) != 0;
            if is_before && (after < before || (writes && after == before)) {
                return Err(format!("call {at} began after the end of call {number} and does not see it (G2)"));
            }
        }
    }
    Ok(())
}
