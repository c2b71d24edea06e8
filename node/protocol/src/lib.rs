//! Every decision of a Coequal node. No I/O, no clock, no randomness: what happens comes in as values,
//! what to do goes out as values, so that the same code runs in a model checker, in a simulation and in
//! production.
//!
//! Modules stand in reading order: a document's register first, then what is built on registers.

pub mod faults;
pub mod ballot;
pub mod key;
pub mod clock;
pub mod revision;
pub mod register;
pub mod record;
pub mod message;
pub mod operation;
pub mod quorum;
pub mod proposal;
pub mod hot_key;
pub mod query;
pub mod session;
pub mod hot_alignment;
pub mod pull_size;
pub mod background_pace;
pub mod failure_detection;
pub mod membership;
pub mod forced_recovery;
pub mod identity;
pub mod disk_check;
pub mod sharing;
pub mod auto_deploy;
pub mod range_digest;
pub mod range_comparison;
pub mod copy_verdict;
pub mod tombstone_collection;
pub mod promises;

pub use ballot::{Ballot, BallotClass};
pub use key::Key;
pub use message::Message;
pub use record::{Change, LogRecord};
pub use register::{Held, Register};
pub use revision::{Effect, HistoryEntry, RequestId, Revision};
