//! A real Kubernetes under test: `tests/kubernetes/up` starts it, `COEQUAL_TEST_CLUSTER` names its folder.
//!
//! One cluster and one operator for all tests; each test has a namespace of its own ([`scenario`]).

mod access;
mod api;
mod documents;
mod faults;
mod load;
mod operator;
mod place;
mod report;
mod scenario;
mod testcluster;
mod wait;

pub use access::Access;
pub use api::{Api, at};
pub use documents::{expect_imported, import, import_after};
pub use faults::NodeProcess;
pub use load::{Load, expect_everywhere, gap_max};
pub use operator::OPERATOR_NAMESPACE;
pub use place::{Place, condition, is_ready, node_of};
pub use scenario::{With, scenario};
pub use testcluster::run;
pub use wait::{PATIENCE, until};
