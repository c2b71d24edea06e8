//! How two nodes introduce themselves: one frame each way before anything else.
//!
//! The layout of these two frames never changes its meaning; everything behind them may, with the version.

use super::codec::append_frame;
use super::error::ConnectionError;
use super::wire::{WireError, read_uuid};
use bytes::{Bytes, BytesMut};
use coequal_protocol::identity::Start;
use coequal_types::{ClusterId, Incarnation, NodeId, NodeName};
use prost::Message as _;
use std::fmt;
use std::ops::RangeInclusive;

/// Versions of the protocol that this build understands. 2: histories travel in few bytes (`wire::history`).
pub const PROTOCOL_VERSIONS: RangeInclusive<u32> = 1..=2;

/// How the story begins when a process meets another one with its own identity.
const TWO_PROCESSES: &str = "two processes are node";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Everything that somebody waits for.
    Protocol,
    /// Copies of databases.
    Bulk,
    /// One question of a node that need not be a peer yet, and its answer on the same connection.
    Ask,
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol",
            Self::Bulk => "bulk",
            Self::Ask => "ask",
        })
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the protocol that it understands.
    pub versions: RangeInclusive<u32>,
    /// Its identity.
    pub node: NodeId,
    /// Which start of it this is.
    pub incarnation: Incarnation,
    /// Drawn at random by each process: two live processes with one identity differ in this if in nothing else.
    pub process: u64,
    /// Its name.
    pub name: NodeName,
    /// Its cluster, if it belongs to one.
    pub cluster: Option<ClusterId>,
    /// What the connection is for.
    pub channel: ChannelKind,
    /// Which node the dialer believes to be dialing.
    pub wanted: Option<NodeId>,
}

/// Why two nodes do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// No version that both understand.
    Version,
    /// They belong to different clusters.
    OtherCluster,
    /// A node met itself, or another process with its identity.
    SameNode,
    /// Another node lives at this address now.
    NotWanted,
    /// A later start of the same node was seen.
    OldIncarnation,
    /// Another live process has the same identity and the same incarnation.
    DuplicateIdentity,
    /// More connections or nodes than the settings permit.
    Busy,
    /// A reason of a newer version.
    Other,
}

/// A refusal with its story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it is.
    pub kind: RefusalKind,
    /// Both sides of it, in words.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RefusalKind::Version => "version",
            RefusalKind::OtherCluster => "other cluster",
            RefusalKind::SameNode => "same node",
            RefusalKind::NotWanted => "not the node you wanted",
            RefusalKind::OldIncarnation => "old incarnation",
            RefusalKind::DuplicateIdentity => "duplicate identity",
            RefusalKind::Busy => "busy",
            RefusalKind::Other => "refused",
        };
        write!(f, "{kind}: {}", self.detail)
    }
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Whether two processes seem to use one data directory or copies of it.
    pub fn is_duplicate(&self) -> bool {
        let two_processes = self.kind == RefusalKind::SameNode && self.detail.starts_with(TWO_PROCESSES);
        two_processes || matches!(self.kind, RefusalKind::OldIncarnation | RefusalKind::DuplicateIdentity)
    }
}

impl Hello {
    /// Which start of its node this is, and which process.
    pub(super) fn start(&self) -> Start {
        Start { incarnation: self.incarnation, process: self.process }
    }

    /// The newest version of the protocol that both understand, once they were checked against each other.
    pub(super) fn common_version(&self, own: &RangeInclusive<u32>) -> u32 {
        *self.versions.end().min(own.end())
    }

    /// Whether the node that says `own` can talk to the one that says `self`.
    pub(super) fn check(&self, own: &Self) -> Result<(), Refusal> {
        let (theirs, ours) = (&self.versions, &own.versions);
        if theirs.is_empty() || theirs.end() < ours.start() || ours.end() < theirs.start() {
            let detail = format!(
                "{} speaks protocol versions {} to {}, {} speaks {} to {}; upgrade the older one",
                self.name,
                theirs.start(),
                theirs.end(),
                own.name,
                ours.start(),
                ours.end()
            );
            return Err(Refusal::new(RefusalKind::Version, detail));
        }
        if self.node == own.node {
            let detail = if self.process == own.process {
                format!("node {} ({}) met itself; take its own address out of its peers", own.node, own.name)
            } else {
                format!(
                    "{TWO_PROCESSES} {}: {} incarnation {} and {} incarnation {}; one runs on a copy of the \
                     other's data directory: stop it and give it an empty one",
                    own.node, self.name, self.incarnation, own.name, own.incarnation
                )
            };
            return Err(Refusal::new(RefusalKind::SameNode, detail));
        }
        if let (Some(theirs), Some(ours)) = (self.cluster, own.cluster)
            && theirs != ours
        {
            let detail = format!("{} belongs to cluster {theirs}, {} to cluster {ours}", self.name, own.name);
            return Err(Refusal::new(RefusalKind::OtherCluster, detail));
        }
        Ok(())
    }

    /// Whether the dialer, who says `self`, reached the node that it wanted.
    pub(super) fn check_wanted(&self, reached: &Self) -> Result<(), Refusal> {
        match self.wanted {
            Some(wanted) if wanted != reached.node => {
                let detail = format!("wanted node {wanted}, here is node {} ({})", reached.node, reached.name);
                Err(Refusal::new(RefusalKind::NotWanted, detail))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireHello {
    #[prost(uint32, tag = "1")]
    version_min: u32,
    #[prost(uint32, tag = "2")]
    version_max: u32,
    #[prost(fixed64, tag = "3")]
    node: u64,
    #[prost(uint32, tag = "4")]
    incarnation: u32,
    #[prost(fixed64, tag = "5")]
    process: u64,
    #[prost(string, tag = "6")]
    name: String,
    #[prost(bytes = "bytes", optional, tag = "7")]
    cluster: Option<Bytes>,
    #[prost(uint32, tag = "8")]
    channel: u32,
    #[prost(fixed64, optional, tag = "9")]
    wanted: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRefusal {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    detail: String,
}

/// The first frame of either side: the dialer's always says hello.
#[derive(Clone, PartialEq, prost::Message)]
struct WireGreeting {
    #[prost(message, optional, tag = "1")]
    hello: Option<WireHello>,
    #[prost(message, optional, tag = "2")]
    refusal: Option<WireRefusal>,
}

/// The first frame of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Greeting {
    Hello(Hello),
    Refusal(Refusal),
}

impl Greeting {
    /// The greeting as a frame.
    pub fn frame(&self) -> BytesMut {
        let wire = match self {
            Self::Hello(hello) => WireGreeting { hello: Some(hello.into()), refusal: None },
            Self::Refusal(refusal) => WireGreeting { hello: None, refusal: Some(refusal.into()) },
        };
        let mut out = BytesMut::new();
        append_frame(&mut out, |out| out.extend_from_slice(&wire.encode_to_vec()));
        out
    }

    /// Reads a frame's payload.
    pub fn decode(payload: Bytes) -> Result<Self, ConnectionError> {
        let wire = WireGreeting::decode(payload).map_err(WireError::from)?;
        match (wire.hello, wire.refusal) {
            (_, Some(refusal)) => Ok(Self::Refusal(refusal.into())),
            (Some(hello), None) => Ok(Self::Hello(hello.try_into()?)),
            (None, None) => Err(ConnectionError::Unexpected("the first frame is neither a hello nor a refusal")),
        }
    }
}

impl From<&Hello> for WireHello {
    fn from(hello: &Hello) -> Self {
        let Hello { versions, node, incarnation, process, name, cluster, channel, wanted } = hello;
        Self {
            version_min: *versions.start(),
            version_max: *versions.end(),
            node: node.0,
            incarnation: *incarnation,
            process: *process,
            name: name.as_str().to_owned(),
            cluster: cluster.map(|id| Bytes::copy_from_slice(id.as_bytes())),
            channel: match channel {
                ChannelKind::Protocol => 1,
                ChannelKind::Bulk => 2,
                ChannelKind::Ask => 3,
            },
            wanted: wanted.map(|node| node.0),
        }
    }
}

impl TryFrom<WireHello> for Hello {
    type Error = ConnectionError;
    fn try_from(wire: WireHello) -> Result<Self, ConnectionError> {
        let channel = match wire.channel {
            1 => ChannelKind::Protocol,
            2 => ChannelKind::Bulk,
            3 => ChannelKind::Ask,
            value => return Err(WireError::Unknown { field: "channel", value }.into()),
        };
        Ok(Self {
            versions: wire.version_min..=wire.version_max,
            node: NodeId(wire.node),
            incarnation: wire.incarnation,
            process: wire.process,
            name: wire.name.parse().map_err(|_| ConnectionError::Unexpected("the hello has no valid node name"))?,
            cluster: wire.cluster.map(|id| read_uuid("cluster", &id)).transpose()?,
            channel,
            wanted: wire.wanted.map(NodeId),
        })
    }
}

impl From<&Refusal> for WireRefusal {
    fn from(Refusal { kind, detail }: &Refusal) -> Self {
        let kind = match kind {
            RefusalKind::Version => 1,
            RefusalKind::OtherCluster => 2,
            RefusalKind::SameNode => 3,
            RefusalKind::NotWanted => 4,
            RefusalKind::OldIncarnation => 5,
            RefusalKind::DuplicateIdentity => 6,
            RefusalKind::Busy => 7,
            RefusalKind::Other => 0,
        };
        Self { kind, detail: detail.clone() }
    }
}

impl From<WireRefusal> for Refusal {
    fn from(wire: WireRefusal) -> Self {
        let kind = match wire.kind {
            1 => RefusalKind::Version,
            2 => RefusalKind::OtherCluster,
            3 => RefusalKind::SameNode,
            4 => RefusalKind::NotWanted,
            5 => RefusalKind::OldIncarnation,
            6 => RefusalKind::DuplicateIdentity,
            7 => RefusalKind::Busy,
            _ => RefusalKind::Other,
        };
        Self::new(kind, wire.detail)
    }
}
