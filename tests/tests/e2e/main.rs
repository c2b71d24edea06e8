//! Everything on a real Kubernetes: one cluster, one operator, a namespace for each test.
//!
//! Run by `tests/run` (`tests/run e2e_` for these alone), which starts and ends the cluster. In every scenario a writer
//! and a checker run as an application would, through the client Service.

mod e2e_absence;
mod e2e_databases;
mod e2e_deletion;
mod e2e_hand;
mod e2e_helm;
mod e2e_machines;
mod e2e_operator;
mod e2e_restarts;
mod e2e_scaling;
mod e2e_security;
mod e2e_start;
mod e2e_volumes;
