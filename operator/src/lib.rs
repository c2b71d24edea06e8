//! Turns a `ReplicatedDatabase` into living replica nodes. Modules stand in reading order, from the
//! outside in; arrows go one way only: main, args, local, kubernetes and plugin, nodes, controller, crd, and the
//! shared types.

pub mod args;
pub mod controller;
pub mod crd;
pub mod kubernetes;
pub mod local;
pub mod nodes;
pub mod plugin;
