//! Parses the arguments and calls.

use clap::Parser as _;
use coequal_operator::args::{EXIT_FAILED, EXIT_USAGE, OperatorArgs, OperatorCommand};
use coequal_operator::{crd, local};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match OperatorArgs::parse().command {
        Some(OperatorCommand::Local(args)) => local::main(args),
        Some(OperatorCommand::Crd) => print_definition(),
        Some(OperatorCommand::Replica(args)) => {
            local::end_with_supervisor();
            coequal_node::server::main(*args)
        }
        None => {
            eprintln!(
                "coequal-operator: the controller comes with the Kubernetes release; \
                 run replicas on this machine with: coequal-operator local -f MANIFEST (see --help)"
            );
            ExitCode::from(EXIT_USAGE)
        }
    }
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
