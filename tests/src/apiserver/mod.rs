//! A real API server and etcd on loopback, without machines: fast tests of what the operator does with objects.
//!
//! One server for all tests of a program, a namespace and an operator for each test. Controllers that turn StatefulSets
//! into pods and collect what has lost its owner run too; instead of a kubelet there is, where a test wants one, a
//! [`Machine`] that runs real nodes behind the pods. Nothing here needs to be root.

mod fakes;
mod gate;
mod guard;
mod machine;
mod namespace;
mod operator;
mod server;

pub use fakes::Fakes;
pub use gate::{Change, Gate};
pub use machine::Machine;
pub use namespace::{Namespace, database};
pub use operator::Operator;
pub use server::{Server, documents};
