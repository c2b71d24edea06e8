//! The operator against a real API server, without machines: what it makes, refuses, writes and leaves alone.
//!
//! Run by `tests/run` (`tests/run reconcile_` for these alone). One server for all, a namespace and an operator for each.

#[path = "reconcile/reconcile_children.rs"]
mod reconcile_children;
#[path = "reconcile/reconcile_definition.rs"]
mod reconcile_definition;
#[path = "reconcile/reconcile_kills.rs"]
mod reconcile_kills;
#[path = "reconcile/reconcile_load.rs"]
mod reconcile_load;
#[path = "reconcile/reconcile_nodes.rs"]
mod reconcile_nodes;
#[path = "reconcile/reconcile_rows.rs"]
mod reconcile_rows;
