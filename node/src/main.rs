//! The node as a program of its own: parses its arguments and runs.

use clap::Parser as _;

/// Several threads of a node hand small pieces of memory to each other; the system's allocator takes a lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    coequal_node::server::main(coequal_node::args::NodeArgs::parse())
}
