//! The node as a program of its own: parses its arguments and runs.

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    coequal_node::server::main(coequal_node::args::NodeArgs::parse())
}
