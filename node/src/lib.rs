//! One replica node. Modules stand in reading order, from the outside in.

pub mod api;
pub mod args;
pub mod network;
pub mod replication;
pub mod server;
pub mod storage;
