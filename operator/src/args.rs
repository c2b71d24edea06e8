//! Command line of the operator.

use std::path::PathBuf;

/// Exit code after a failure.
pub const EXIT_FAILED: u8 = 1;
/// Exit code for wrong usage or an invalid manifest.
pub const EXIT_USAGE: u8 = 2;

const AFTER: &str =
    "Exit codes: 0 stopped as asked, 1 failed (the last line says why), 2 wrong usage or invalid manifest.

Examples:
  Three replicas on this machine, without Kubernetes (Ctrl-C stops them, the data stays):
    coequal-operator local -f crds/examples/orders.yaml
  Install the resource in Kubernetes:
    coequal-operator crd | kubectl apply -f -";

const LOCAL_AFTER: &str = "Edit the manifest while it runs: changes take effect at once (replicas: 5 adds two nodes,
replicas: 3 removes them again, replicas: 0 stops all and keeps the data).
Replicas write their logs to DATA/logs/NODE.log.

Exit codes: 0 stopped as asked, 1 failed (the last line says why), 2 wrong usage or invalid manifest.

Examples:
  coequal-operator local -f orders.yaml
  coequal-operator local -f orders.yaml --data /var/tmp/orders --port 7600";

/// Turns a ReplicatedDatabase into living replica nodes, on Kubernetes or on one machine.
#[derive(Debug, clap::Parser)]
#[command(name = "coequal-operator", version, about, after_help = AFTER, max_term_width = 100)]
pub struct OperatorArgs {
    /// What to do; without a command, run the controller in a pod.
    #[command(subcommand)]
    pub command: Option<OperatorCommand>,
}

/// What the operator can do besides being the controller.
#[derive(Debug, clap::Subcommand)]
pub enum OperatorCommand {
    /// Run the replicas of a manifest on this machine, without Kubernetes
    #[command(after_help = LOCAL_AFTER)]
    Local(LocalArgs),
    /// Print the CustomResourceDefinition
    Crd,
    /// One replica, as `local` starts it
    #[command(hide = true)]
    Replica(Box<coequal_node::args::NodeArgs>),
}

/// Settings of local mode.
#[derive(Debug, Clone, clap::Args)]
pub struct LocalArgs {
    /// Manifest with one ReplicatedDatabase
    #[arg(short = 'f', long = "file", value_name = "MANIFEST")]
    pub file: PathBuf,
    /// Directory for everything that is kept [default: ./coequal-data/NAME]
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// Port of the first node's HTTP API; node i has PORT+i, and PORT+100+i for the other nodes. By default the
    /// ports of the last time, or free ones
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65_336))]
    pub port: Option<u16>,
    /// Program that runs a replica, instead of this one
    #[arg(long, hide = true, value_name = "PROGRAM")]
    pub node_exe: Option<PathBuf>,
}
