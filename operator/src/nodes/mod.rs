//! Talking to nodes over their HTTP API: looking at them, and asking them to carry out a step. Local mode and
//! Kubernetes share it.

mod ask;
mod client;
mod look;

pub use ask::{ask, asked, done_words};
pub use client::{ClientError, NodeClient, http_client};
pub use look::{Look, look};
