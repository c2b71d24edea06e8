//! Forwarded writes and their results.

use super::error::WireError;
use super::values::{WireBallot, WireRequest, effect_number, keep, read_ballot, read_effect};
use bytes::Bytes;
use coequal_protocol::message::{Condition, ForwardResult, Operation, OperationKind, Rejection};

/// A value that has no content of its own.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WirePatch {
    #[prost(bytes = "bytes", tag = "1")]
    patch: Bytes,
    #[prost(uint32, tag = "2")]
    bytes_max: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireSize {
    #[prost(uint64, tag = "1")]
    bytes: u64,
    #[prost(uint32, tag = "2")]
    bytes_max: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireOperation {
    #[prost(oneof = "WireKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<WireKind>,
    #[prost(oneof = "WireCondition", tags = "6, 7, 8, 9, 10, 11")]
    condition: Option<WireCondition>,
    #[prost(message, optional, tag = "11")]
    request: Option<WireRequest>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireKind {
    #[prost(bytes = "bytes", tag = "1")]
    Put(Bytes),
    #[prost(bytes = "bytes", tag = "2")]
    Create(Bytes),
    #[prost(message, tag = "3")]
    Patch(WirePatch),
    #[prost(message, tag = "4")]
    Delete(Nothing),
    #[prost(message, tag = "5")]
    Settle(Nothing),
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireCondition {
    #[prost(message, tag = "6")]
    Any(Nothing),
    #[prost(message, tag = "7")]
    Absent(Nothing),
    #[prost(message, tag = "8")]
    Present(Nothing),
    #[prost(message, tag = "9")]
    Stamp(WireBallot),
    #[prost(uint64, tag = "10")]
    Version(u64),
    #[prost(message, tag = "11")]
    Revision(WireRevisionName),
}

/// What an entity tag names.
#[derive(Clone, PartialEq, prost::Message)]
struct WireRevisionName {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(message, optional, tag = "2")]
    stamp: Option<WireBallot>,
}

impl From<&Operation> for WireOperation {
    fn from(Operation { kind, condition, request }: &Operation) -> Self {
        let kind = match kind {
            OperationKind::Put(body) => WireKind::Put(body.clone()),
            OperationKind::Create(body) => WireKind::Create(body.clone()),
            OperationKind::Patch { patch, bytes_max } => {
                WireKind::Patch(WirePatch { patch: patch.clone(), bytes_max: *bytes_max })
            }
            OperationKind::Delete => WireKind::Delete(Nothing {}),
            OperationKind::Settle => WireKind::Settle(Nothing {}),
        };
        let condition = match condition {
            Condition::Any => WireCondition::Any(Nothing {}),
            Condition::Absent => WireCondition::Absent(Nothing {}),
            Condition::Present => WireCondition::Present(Nothing {}),
            Condition::Stamp(stamp) => WireCondition::Stamp((*stamp).into()),
            Condition::Revision { version, stamp } => {
                WireCondition::Revision(WireRevisionName { version: *version, stamp: Some((*stamp).into()) })
            }
            Condition::Version(version) => WireCondition::Version(*version),
        };
        Self { kind: Some(kind), condition: Some(condition), request: request.map(WireRequest::from) }
    }
}

impl TryFrom<WireOperation> for Operation {
    type Error = WireError;
    fn try_from(wire: WireOperation) -> Result<Self, WireError> {
        let kind = match wire.kind.ok_or(WireError::Missing { field: "kind of an operation" })? {
            WireKind::Put(body) => OperationKind::Put(keep(body)),
            WireKind::Create(body) => OperationKind::Create(keep(body)),
            WireKind::Patch(WirePatch { patch, bytes_max }) => OperationKind::Patch { patch: keep(patch), bytes_max },
            WireKind::Delete(Nothing {}) => OperationKind::Delete,
            WireKind::Settle(Nothing {}) => OperationKind::Settle,
        };
        // A condition that this version does not know must not become "no condition".
        let condition = match wire.condition.ok_or(WireError::Missing { field: "condition of an operation" })? {
            WireCondition::Any(Nothing {}) => Condition::Any,
            WireCondition::Absent(Nothing {}) => Condition::Absent,
            WireCondition::Present(Nothing {}) => Condition::Present,
            WireCondition::Stamp(stamp) => Condition::Stamp(stamp.try_into()?),
            WireCondition::Revision(WireRevisionName { version, stamp }) => {
                let stamp = stamp.ok_or(WireError::Missing { field: "stamp of a condition" })?;
                Condition::Revision { version, stamp: stamp.try_into()? }
            }
            WireCondition::Version(version) => Condition::Version(version),
        };
        Ok(Self { kind, condition, request: wire.request.map(Into::into) })
    }
}

/// Version and stamp of a document, and for a write what it did.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireState {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(message, optional, tag = "2")]
    stamp: Option<WireBallot>,
    #[prost(uint32, tag = "3")]
    effect: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireCurrent {
    #[prost(message, optional, tag = "1")]
    current: Option<WireState>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireResult {
    #[prost(oneof = "WireOutcome", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    outcome: Option<WireOutcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireOutcome {
    #[prost(message, tag = "1")]
    Written(WireState),
    #[prost(message, tag = "2")]
    NotFound(Nothing),
    #[prost(message, tag = "3")]
    Exists(WireState),
    #[prost(message, tag = "4")]
    PreconditionFailed(WireCurrent),
    #[prost(string, tag = "5")]
    NotAcceptable(String),
    #[prost(message, tag = "6")]
    NotApplied(Nothing),
    #[prost(message, tag = "7")]
    Unknown(Nothing),
    #[prost(message, tag = "8")]
    TooLarge(WireSize),
}

impl From<&ForwardResult> for WireResult {
    fn from(result: &ForwardResult) -> Self {
        let state = |version, stamp, effect| WireState { version, stamp: Some(WireBallot::from(stamp)), effect };
        let outcome = match result {
            ForwardResult::Written { version, stamp, effect } => {
                WireOutcome::Written(state(*version, *stamp, effect_number(*effect)))
            }
            ForwardResult::Rejected(Rejection::NotFound) => WireOutcome::NotFound(Nothing {}),
            ForwardResult::Rejected(Rejection::Exists { version, stamp }) => {
                WireOutcome::Exists(state(*version, *stamp, 0))
            }
            ForwardResult::Rejected(Rejection::PreconditionFailed { current }) => {
                let current = current.map(|(version, stamp)| state(version, stamp, 0));
                WireOutcome::PreconditionFailed(WireCurrent { current })
            }
            ForwardResult::Rejected(Rejection::NotAcceptable(why)) => WireOutcome::NotAcceptable(why.clone()),
            ForwardResult::Rejected(Rejection::TooLarge { bytes, bytes_max }) => {
                WireOutcome::TooLarge(WireSize { bytes: *bytes, bytes_max: *bytes_max })
            }
            ForwardResult::NotApplied => WireOutcome::NotApplied(Nothing {}),
            ForwardResult::Unknown => WireOutcome::Unknown(Nothing {}),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<WireResult> for ForwardResult {
    type Error = WireError;
    fn try_from(wire: WireResult) -> Result<Self, WireError> {
        let stamp = |stamp| read_ballot("stamp of a result", stamp);
        Ok(match wire.outcome.ok_or(WireError::Missing { field: "outcome of a forwarded write" })? {
            WireOutcome::Written(state) => {
                Self::Written { version: state.version, stamp: stamp(state.stamp)?, effect: read_effect(state.effect)? }
            }
            WireOutcome::NotFound(Nothing {}) => Self::Rejected(Rejection::NotFound),
            WireOutcome::Exists(state) => {
                Self::Rejected(Rejection::Exists { version: state.version, stamp: stamp(state.stamp)? })
            }
            WireOutcome::PreconditionFailed(WireCurrent { current }) => {
                let current =
                    current.map(|state| stamp(state.stamp).map(|stamp| (state.version, stamp))).transpose()?;
                Self::Rejected(Rejection::PreconditionFailed { current })
            }
            WireOutcome::NotAcceptable(why) => Self::Rejected(Rejection::NotAcceptable(why)),
            WireOutcome::TooLarge(WireSize { bytes, bytes_max }) => {
                Self::Rejected(Rejection::TooLarge { bytes, bytes_max })
            }
            WireOutcome::NotApplied(Nothing {}) => Self::NotApplied,
            WireOutcome::Unknown(Nothing {}) => Self::Unknown,
        })
    }
}
