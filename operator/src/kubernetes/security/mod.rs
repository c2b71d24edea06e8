//! Certificates and tokens of a resource: made once, renewed in time, never logged. Modules stand in reading order.
//!
//! ```text
//! ensure: read Secrets ─► held (what is in them) ─► plan (one step) ─► issue ─► write ─► trust (the client for nodes)
//! ```
//!
//! | object | holds | who reads it |
//! |---|---|---|
//! | Secret `<name>-ca` | the authority, and its key | this operator alone |
//! | Secret `<name>-tls` | the nodes' certificate and key, and whom they trust | pods, this operator |
//! | Secret `<name>-tokens` | the tokens `admin` and `read-only` | pods, and whoever may use the API |
//! | ConfigMap `<name>-ca` | whom clients trust | clients |
//!
//! `held`, `names`, `plan`, `verify` and `tokens` decide on values alone; `issue` makes keys; `trust` and `secrets`
//! speak with nodes and Kubernetes.

mod ensure;
mod held;
mod issue;
mod names;
mod plan;
mod secrets;
mod tokens;
mod trust;
mod verify;

#[cfg(test)]
mod tests;

pub use ensure::{Secured, ensure};
pub use names::{ca_name, tls_name, tls_secret, tokens_secret};
pub use trust::visitor;
