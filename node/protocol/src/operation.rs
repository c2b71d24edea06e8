//! What a write makes of a document: pure, so that any coordinator comes to the same result.

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use crate::message::{Condition, Operation, OperationKind, Rejection};
use crate::revision::{Effect, HISTORY_DEPTH, HistoryEntry, RequestId, Revision, remember};
use bytes::Bytes;
use coequal_types::document;

/// What came of applying an operation to a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// A new revision.
    Changed(Revision),
    /// The document stays (settling).
    Unchanged,
    /// This request was done before: its first result.
    Already(HistoryEntry),
    /// The document's state refuses it.
    Rejected(Rejection),
}

/// Applies `operation` to the current revision; a new one carries `stamp`.
pub fn apply(current: Option<&Revision>, operation: &Operation, stamp: Ballot) -> Applied {
    if let Some((id, fingerprint)) = operation.request
        && let Some(entry) = current.and_then(|revision| revision.find_request(id))
    {
        return replay(entry, id, fingerprint);
    }
    let live = current.filter(|revision| !revision.is_tombstone());
    if let Err(rejection) = check_condition(live, &operation.condition) {
        return Applied::Rejected(rejection);
    }
    let body = match new_body(live, &operation.kind) {
        Ok(Some(body)) => body,
        Ok(None) => return Applied::Unchanged,
        Err(rejection) => return Applied::Rejected(rejection),
    };
    let effect = match (&body, live) {
        (None, _) => Effect::Deleted,
        (Some(_), Some(_)) => Effect::Replaced,
        (Some(_), None) => Effect::Created,
    };
    Applied::Changed(successor(current, body, effect, stamp, operation.request))
}

/// Whether the operation's condition names a state before `current`: no write that follows makes it hold again.
pub fn names_the_past(current: &Revision, operation: &Operation) -> bool {
    let is_done = operation.request.is_some_and(|(id, _)| current.find_request(id).is_some());
    let is_past = match operation.condition {
        Condition::Any | Condition::Absent | Condition::Present => false,
        Condition::Stamp(stamp) => stamp < current.stamp,
        Condition::Revision { version, .. } | Condition::Version(version) => version < current.version,
    };
    is_past && !is_done
}

fn replay(entry: &HistoryEntry, id: RequestId, fingerprint: u64) -> Applied {
    if entry.request == Some((id, fingerprint)) || broken(Fault::RequestOfAnotherReplayed) {
        Applied::Already(entry.clone())
    } else {
        let text = "this Idempotency-Key was used for another request; use a new key for a new request";
        Applied::Rejected(Rejection::NotAcceptable(text.to_owned()))
    }
}

fn check_condition(live: Option<&Revision>, condition: &Condition) -> Result<(), Rejection> {
    let holds = match condition {
        Condition::Any => true,
        Condition::Absent => live.is_none(),
        Condition::Present => live.is_some(),
        Condition::Stamp(stamp) => live.is_some_and(|revision| revision.stamp == *stamp),
        Condition::Revision { version, stamp } => {
            live.is_some_and(|revision| (revision.version, revision.stamp) == (*version, *stamp))
        }
        Condition::Version(version) => live.is_some_and(|revision| revision.version == *version),
    };
    if holds || broken(Fault::ConditionIgnored) {
        return Ok(());
    }
    Err(Rejection::PreconditionFailed { current: live.map(|revision| (revision.version, revision.stamp)) })
}

/// `None` outside: nothing changes. `None` inside: a tombstone.
fn new_body(live: Option<&Revision>, kind: &OperationKind) -> Result<Option<Option<Bytes>>, Rejection> {
    match (kind, live) {
        (OperationKind::Settle, _) => Ok(None),
        (OperationKind::Put(body), _) => Ok(Some(Some(body.clone()))),
        (OperationKind::Create(body), None) => Ok(Some(Some(body.clone()))),
        (OperationKind::Create(_), Some(revision)) => {
            Err(Rejection::Exists { version: revision.version, stamp: revision.stamp })
        }
        (OperationKind::Patch { .. } | OperationKind::Delete, None) => Err(Rejection::NotFound),
        (OperationKind::Delete, Some(_)) => Ok(Some(None)),
        (OperationKind::Patch { patch, bytes_max }, Some(revision)) => {
            let old = revision.body.as_deref().unwrap_or(b"{}");
            let body =
                document::merge_patch(old, patch).map_err(|error| Rejection::NotAcceptable(error.to_string()))?;
            // A document from a time of wider limits may still be made smaller, bit by bit.
            if body.len() > old.len().max(*bytes_max as usize) {
                return Err(Rejection::TooLarge { bytes: body.len() as u64, bytes_max: *bytes_max });
            }
            Ok(Some(Some(body)))
        }
    }
}

fn successor(
    current: Option<&Revision>,
    body: Option<Bytes>,
    effect: Effect,
    stamp: Ballot,
    request: Option<(RequestId, u64)>,
) -> Revision {
    let request = request.filter(|_| !broken(Fault::RequestIdForgotten));
    let current = current.filter(|revision| !revision.is_tombstone() || !broken(Fault::RecreationStartsAtOne));
    let version = current.map_or(0, |revision| revision.version) + 1;
    let before = current.map_or(&[] as &[HistoryEntry], |revision| &revision.history);
    // No larger than it is: most documents remember one write, and a list that grows by itself has room for four.
    let mut history = Vec::with_capacity(before.len() + 1);
    history.extend_from_slice(before);
    remember(&mut history, HistoryEntry { stamp, version, effect, request });
    Revision { version, stamp, body, history }
}

/// A document's versions count up by one and its history ends with its own stamp.
pub fn invariant_history_ends_with_own_stamp(revision: &Revision) -> bool {
    revision.history.len() <= HISTORY_DEPTH
        && revision.history.last().is_some_and(|e| e.stamp == revision.stamp && e.version == revision.version)
        && revision.history.windows(2).all(|pair| pair[0].version < pair[1].version)
}

/// A revision's history is its predecessor's with one more entry, and nothing else but the oldest forgotten.
pub fn invariant_successor_extends_history(current: Option<&Revision>, next: &Revision) -> bool {
    let before = current.map_or(&[] as &[HistoryEntry], |revision| &revision.history);
    let Some((_, kept)) = next.history.split_last() else { return false };
    next.version == current.map_or(0, |revision| revision.version) + 1
        && before.ends_with(kept)
        && kept.len() == before.len().min(HISTORY_DEPTH - 1)
}
