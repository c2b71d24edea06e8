//! Turns a `ReplicatedDatabase` into living replica nodes. Modules stand in reading order, from the
//! outside in; arrows go one way only: main, args, local and kubernetes, nodes, controller, crd, and the shared types.

pub mod args;
pub mod controller;
pub mod crd;
pub mod kubernetes;
pub mod local;
pub mod nodes;
