//! Parses the arguments and calls.

use clap::{Args as _, FromArgMatches as _, Parser as _};
use coequal_operator::args::{EXIT_FAILED, OperatorArgs, OperatorCommand, RunArgs};
use coequal_operator::{crd, kubernetes, local};
use std::io::Write as _;
use std::process::ExitCode;

/// Several threads of a node hand small pieces of memory to each other; the system's allocator takes a lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match OperatorArgs::parse().command {
        Some(OperatorCommand::Run(args)) => kubernetes::main(args),
        Some(OperatorCommand::Local(args)) => local::main(args),
        Some(OperatorCommand::Check(args)) => kubernetes::check(args),
        Some(OperatorCommand::Crd) => print_definition(),
        Some(OperatorCommand::Replica(args)) => {
            local::end_with_supervisor();
            coequal_node::server::main(*args)
        }
        None => kubernetes::main(run_from_environment()),
    }
}

/// Without a command, every setting comes from the environment.
fn run_from_environment() -> RunArgs {
    let command = RunArgs::augment_args(clap::Command::new("coequal-operator"));
    let matches = command.get_matches_from(["coequal-operator"]);
    RunArgs::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn print_definition() -> ExitCode {
    let printed = crd::definition_yaml()
        .map_err(|error| error.to_string())
        .and_then(|yaml| std::io::stdout().write_all(yaml.as_bytes()).map_err(|error| error.to_string()));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coequal-operator: cannot print the definition: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
