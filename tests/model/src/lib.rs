//! Models of the replication protocol on its real code, and what they find when a rule is broken on purpose.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::should_implement_trait)]

pub mod alignment;
pub mod changes;
pub mod checking;
pub mod explore;
pub mod finders;
pub mod register;
pub mod scenarios;
pub mod tombstones;

/// The worlds of the protocol's own random tests.
#[path = "../../../node/protocol/tests/common/mod.rs"]
pub mod common;
#[path = "../../../node/protocol/tests/collecting/mod.rs"]
pub mod collecting;
#[path = "../../../node/protocol/tests/simulation/mod.rs"]
pub mod simulation;
