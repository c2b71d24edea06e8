//! Words that the nodes and the operator share. No I/O, no Kubernetes.
//!
//! Modules stand in reading order.

pub mod names;
pub mod ids;
pub mod settings;
pub mod status;
pub mod configuration;
pub mod document;
pub mod rest;

pub use configuration::{Configuration, LowBound, NodeEntry};
pub use document::{Document, DocumentError};
pub use ids::{ClusterId, DatabaseId, Incarnation, NodeId};
pub use names::{CollectionName, DatabaseName, DocumentKey, NameError, NodeName};
pub use settings::{DatabaseSettings, QuorumError, ReadQuorum, WriteQuorum};
pub use status::{DatabaseStatus, NodeStatus, Progress, SynchronizationPhase};
