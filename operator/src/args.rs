//! Command line of the operator.

use std::path::PathBuf;

/// Exit code after a failure.
pub const EXIT_FAILED: u8 = 1;
/// Exit code for wrong usage or an invalid manifest.
pub const EXIT_USAGE: u8 = 2;

/// Image of nodes whose manifest names none: the one of this version.
const NODE_IMAGE: &str = concat!("coequal-node:", env!("CARGO_PKG_VERSION"));

const RUN_AFTER: &str = "One of several operators leads, by a lease; the others stand by and take over within 15 s.
Probes are at /livez and /readyz, metrics at /metrics (coequal_operator_*). Logs are one JSON object a line on standard
error; every line of a reconcile has its id. COEQUAL_LOG=debug shows more.

Exit codes: 0 stopped as asked, 1 failed or not leading any more (start it again), 2 wrong usage.

Examples:
  coequal-operator run
  KUBECONFIG=~/.kube/config coequal-operator run --namespace orders --log-text";

const CHECK_AFTER: &str =
    "In a pod with the operator's service account it needs no more rights than the operator has; helm test runs it so.

Exit codes: 0 all is well, 1 not (the last line says what), 2 wrong usage.

Example:
  kubectl exec -n coequal-system deploy/coequal-operator -- coequal-operator check";

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
    /// What to do; without a command, run the controller.
    #[command(subcommand)]
    pub command: Option<OperatorCommand>,
}

/// What the operator can do.
#[derive(Debug, clap::Subcommand)]
pub enum OperatorCommand {
    /// Run the controller: in a pod, or anywhere with a KUBECONFIG
    #[command(after_help = RUN_AFTER)]
    Run(RunArgs),
    /// Run the replicas of a manifest on this machine, without Kubernetes
    #[command(after_help = LOCAL_AFTER)]
    Local(LocalArgs),
    /// Check an installation: the resource can be read, and an operator leads
    #[command(after_help = CHECK_AFTER)]
    Check(CheckArgs),
    /// Print the CustomResourceDefinition
    Crd,
    /// One replica, as `local` starts it
    #[command(hide = true)]
    Replica(Box<coequal_node::args::NodeArgs>),
}

/// Settings of the controller.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Look after this namespace alone; a Role is enough then. By default all namespaces
    #[arg(long, env = "COEQUAL_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Image of nodes whose manifest names none
    #[arg(long, env = "COEQUAL_NODE_IMAGE", default_value = NODE_IMAGE, value_name = "IMAGE")]
    pub node_image: String,
    /// Where probes and metrics listen
    #[arg(long, env = "COEQUAL_OPERATOR_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// The lease by which one of several operators leads.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Logs as text instead of JSON
    #[arg(long, env = "COEQUAL_LOG_TEXT")]
    pub log_text: bool,
}

/// The lease by which one of several operators leads.
#[derive(Debug, Clone, clap::Args)]
pub struct LeaseArgs {
    /// Namespace of the lease by which one of several operators leads [default: the operator's own]
    #[arg(long, env = "COEQUAL_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of that lease
    #[arg(long, env = "COEQUAL_LEASE_NAME", default_value = "coequal-operator", value_name = "NAME")]
    pub lease_name: String,
}

/// What of an installation is checked.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The namespace that the operator looks after. By default all namespaces
    #[arg(long, env = "COEQUAL_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The lease by which one of several operators leads.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// How long an operator may take to renew its lease, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub wait_seconds: u32,
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
