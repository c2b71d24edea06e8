//! Conditions and their reasons: closed sets, because renaming one later breaks whoever waits for it.

use std::fmt;

/// Types of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionType {
    /// Everything that was asked for is there.
    Ready,
    /// Reads and writes are answered, perhaps by fewer nodes than asked for.
    Available,
    /// A change is under way.
    Reconciling,
    /// Nothing more happens until a person acts.
    Stalled,
    /// Every node holds every database that it should.
    Replicated,
}

/// Reasons, written in status, in events and in the local table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionReason {
    /// Every node serves every database.
    AllNodesOnline,
    /// The cluster was not initialised yet.
    Initializing,
    /// Nodes start.
    NodesStarting,
    /// Databases are copied or aligned.
    Synchronizing,
    /// A declared database does not exist yet.
    CreatingDatabases,
    /// Nodes are being removed.
    RemovingNodes,
    /// Some nodes are not there; a majority is.
    NodesOffline,
    /// No majority of the nodes is there: nothing can be written.
    NoQuorum,
    /// `replicas` is 0: all nodes are stopped, data is kept.
    Hibernated,
    /// A majority of the nodes serves.
    QuorumOnline,
    /// No change is under way.
    Settled,
    /// Nothing waits for a person.
    NothingBlocks,
    /// Nodes are restarted one at a time, for a new image or new settings.
    UpdatingNodes,
    /// Volumes grow.
    GrowingVolumes,
    /// The manifest breaks a rule.
    InvalidSpec,
    /// An object that is needed exists and belongs to somebody else.
    ForeignObject,
    /// The image of a node cannot be fetched or started.
    ImageNotAvailable,
    /// No machine can take a node.
    Unschedulable,
    /// The storage class or the API server refuses a larger volume.
    VolumeCannotGrow,
    /// A node's machine does not answer, and nobody has said that it is off.
    MachineLost,
    /// A smaller `replicas` waits: a node that would stay is not ONLINE.
    UnsafeScaleIn,
    /// The API server refuses an object; a person has to look at the message.
    RequestRefused,
}

impl ConditionType {
    /// The type as it stands in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Replicated => "Replicated",
        }
    }
}

impl ConditionReason {
    /// The reason as it stands in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllNodesOnline => "AllNodesOnline",
            Self::Initializing => "Initializing",
            Self::NodesStarting => "NodesStarting",
            Self::Synchronizing => "Synchronizing",
            Self::CreatingDatabases => "CreatingDatabases",
            Self::RemovingNodes => "RemovingNodes",
            Self::NodesOffline => "NodesOffline",
            Self::NoQuorum => "NoQuorum",
            Self::Hibernated => "Hibernated",
            Self::QuorumOnline => "QuorumOnline",
            Self::Settled => "Settled",
            Self::NothingBlocks => "NothingBlocks",
            Self::UpdatingNodes => "UpdatingNodes",
            Self::GrowingVolumes => "GrowingVolumes",
            Self::InvalidSpec => "InvalidSpec",
            Self::ForeignObject => "ForeignObject",
            Self::ImageNotAvailable => "ImageNotAvailable",
            Self::Unschedulable => "Unschedulable",
            Self::VolumeCannotGrow => "VolumeCannotGrow",
            Self::MachineLost => "MachineLost",
            Self::UnsafeScaleIn => "UnsafeScaleIn",
            Self::RequestRefused => "RequestRefused",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Display for ConditionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
