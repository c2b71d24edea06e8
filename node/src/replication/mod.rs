//! Drives the protocol: one loop turns events into steps and commands into effects, in order.

pub mod error;
pub mod service;

pub use error::ServiceError;
pub use service::{DatabaseService, NodeService};
