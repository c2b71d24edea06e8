//! What clients did and what they were told: the only thing that the judge of documents sees, besides the revisions
//! that were found chosen.

use coequal_protocol::message::{Operation, Rejection};
use coequal_protocol::{Ballot, Effect, Held, Key};
use coequal_types::NodeId;

/// What a client asked for.
#[derive(Debug, Clone)]
pub enum Call {
    /// A write. `generated`: of a key that the node made up.
    Write {
        /// What to do.
        operation: Operation,
        /// Whether the key is the node's own.
        generated: bool,
    },
    /// A read confirmed by a majority.
    Read,
    /// A read of the local store; `token` is the newest stamp that the client's session has seen.
    LocalRead {
        /// The session's token.
        token: Option<Ballot>,
    },
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Chosen.
    Written {
        /// Version of the document that it made.
        version: u64,
        /// Stamp of it.
        stamp: Ballot,
        /// What it did.
        effect: Effect,
    },
    /// What was read, tombstones too.
    Found(Option<Held>),
    /// The document's state refuses it.
    Rejected(Rejection),
    /// Certainly nothing was done; try again.
    NotDone(String),
    /// Nobody knows (G7): the client waits no longer, or was told so.
    Unknown,
}

/// One call of one client.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which client: each makes one call after the other.
    pub client: usize,
    /// The document.
    pub key: Key,
    /// The node that was asked.
    pub node: NodeId,
    /// What was asked.
    pub call: Call,
    /// The call that this one repeats with the same request id.
    pub retry_of: Option<usize>,
    /// When it began, in microseconds of the world.
    pub began_us: u64,
    /// When it ended and how; `None` while it lasts.
    pub ended: Option<(u64, Answer)>,
}

impl Record {
    /// The first call of this request.
    pub fn first(&self, own: usize) -> usize {
        self.retry_of.unwrap_or(own)
    }

    /// What it was told.
    pub fn answer(&self) -> Option<&Answer> {
        self.ended.as_ref().map(|(_, answer)| answer)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: &'static str,
    /// What happened.
    pub text: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn new(rule: &'static str, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}
