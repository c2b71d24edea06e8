//! The operator against a real API server, without machines: what it makes, refuses, writes and leaves alone.
//!
//! Run by `tests/run` (`tests/run reconcile_` for these alone). One server for all, a namespace and an operator for each.

mod reconcile_children;
mod reconcile_definition;
mod reconcile_kills;
mod reconcile_load;
mod reconcile_nodes;
mod reconcile_rows;
