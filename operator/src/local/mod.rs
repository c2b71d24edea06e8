//! Local mode: the same decisions with processes on this machine. Its supervisor follows.

use std::process::ExitCode;

/// Runs the replicas of a manifest.
pub fn main(_args: crate::args::LocalArgs) -> ExitCode {
    eprintln!("coequal-operator: local mode is not built yet");
    ExitCode::from(crate::args::EXIT_FAILED)
}

/// Lets a replica end with its supervisor.
pub fn end_with_supervisor() {}
