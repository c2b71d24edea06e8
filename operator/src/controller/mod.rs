//! From a wish to the next step: validate, then decide. No I/O here; Kubernetes and local mode share it.

pub mod cluster_status;
pub mod decisions;
pub mod node_status;
pub mod observed;
pub mod quantity;
pub mod validate;
