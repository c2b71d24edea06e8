//! Helpers of the black-box tests: clusters of real processes, a client, writers that remember, checkers.

pub mod binaries;
pub mod client;
pub mod cluster;
pub mod source;
pub mod writers;
