//! The controller on Kubernetes: the same validation and decisions as in local mode, with pods instead of processes.
//!
//! ```text
//! run ─► reconcile: security ─► observe ─► (controller: validate, decide) ─► plan, build ─► apply, act ─► status, events
//! ```
//!
//! Secrets are `security`'s. Of all else, `observe` is the only one that reads, `apply` and `act` the only ones that
//! change; `plan`, `build`, `pods`, `subset` and `status` are pure. Every change asks `leader` first.

mod act;
mod apply;
mod build;
mod calls;
mod check;
mod context;
mod error;
mod events;
mod health;
mod leader;
mod metrics;
mod names;
mod observe;
mod plan;
mod pods;
mod reconcile;
mod run;
mod security;
mod status;
mod stores;
mod subset;

pub use check::main as check;
pub use names::{API_PORT, RESTART, claim_name, selector_text};
pub use run::main;
pub use security::{ca_name, tokens_secret, visitor};
