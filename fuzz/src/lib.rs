//! Fuzz targets: each takes any bytes, gives them to the real code and checks what must hold of the answer. libFuzzer calls
//! them with inputs that it makes up (`fuzz_targets/`), tests call them with every input of the corpora (`tests/replay.rs`).

mod documents;
mod http;
mod manifests;

use coequal_node::{api, network, storage};

/// What checks one input; it panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// All targets by name, in the order of the alphabet.
pub const TARGETS: &[(&str, Target)] = &[
    ("documents", documents::check),
    ("frames", network::fuzz_test::frames),
    ("http", http::check),
    ("manifests", manifests::check),
    ("migrations", storage::fuzz_test::migrations),
    ("records", storage::fuzz_test::records),
    ("stores", storage::fuzz_test::stores),
    ("tokens", api::fuzz_test::tokens),
];

/// Checks one input of the named target.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}
