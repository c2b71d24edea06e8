//! One replica node. Modules stand in reading order, from the outside in.

pub mod args;
pub mod server;
pub mod api;
pub mod replication;
pub mod storage;
pub mod network;
pub mod tls;
