//! Command line of the plugin.

use std::path::PathBuf;

/// Exit code when something is wrong or not ready.
pub const EXIT_NOT_WELL: u8 = 1;
/// Exit code for wrong usage.
pub const EXIT_USAGE: u8 = 2;

const AFTER: &str = "Exit codes: 0 all is well, 1 something is wrong or not ready yet, 2 wrong usage.

Examples:
  kubectl coequal status orders --watch
  kubectl coequal status -A
  kubectl coequal deploy orders archive orders-3
  kubectl coequal remove orders orders-4

Completion by kubectl itself: put a link kubectl_complete-coequal to kubectl-coequal beside it.";

/// Looks at ReplicatedDatabases and asks their operator for changes.
#[derive(Debug, clap::Parser)]
#[command(name = "kubectl coequal", bin_name = "kubectl coequal", version, about, after_help = AFTER, max_term_width = 100)]
pub struct PluginArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
    /// How to reach Kubernetes.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How to reach Kubernetes, as kubectl does.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// Namespace [default: that of the context]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// What the plugin can do.
#[derive(Debug, clap::Subcommand)]
pub enum PluginCommand {
    /// What is, what is wrong and what to do; without a name, a line for each
    Status(StatusArgs),
    /// Each node with its pod, machine and volume
    Nodes(NodesArgs),
    /// Ask for a copy of a database on a node, where autoDeploy is false
    Deploy(DeployArgs),
    /// Take the highest nodes out, one at a time, after they have handed over
    Remove(RemoveArgs),
    /// Restart the nodes one at a time, each when all others are ONLINE
    Restart(RestartArgs),
    /// The kubectl commands that show logs and events
    Logs(LogsArgs),
    /// What kubectl asks for completions
    #[command(hide = true, name = "__complete")]
    Complete(CompleteArgs),
}

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What of the status is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Name of the ReplicatedDatabase
    pub name: Option<String>,
    /// Those of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    pub all_namespaces: bool,
    /// Ask the nodes for exact numbers; status rounds them. Needs the right to forward ports to pods
    #[arg(long, requires = "name", conflicts_with = "watch")]
    pub exact: bool,
    /// Show it again at each change, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// text or json
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Of which nodes.
#[derive(Debug, Clone, clap::Args)]
pub struct NodesArgs {
    /// Name of the ReplicatedDatabase
    pub name: String,
    /// Show it again at each change, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// text or json
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Which copy.
#[derive(Debug, Clone, clap::Args)]
pub struct DeployArgs {
    /// Name of the ReplicatedDatabase
    pub name: String,
    /// Name of the database
    pub database: String,
    /// Name of the node: NAME-ORDINAL
    pub node: String,
}

/// Which nodes go.
#[derive(Debug, Clone, clap::Args)]
pub struct RemoveArgs {
    /// Name of the ReplicatedDatabase
    pub name: String,
    /// Names of the nodes, the highest ones
    #[arg(required = true)]
    pub nodes: Vec<String>,
    /// Yes, also if their volumes are deleted or too few nodes remain to lose one
    #[arg(long)]
    pub yes: bool,
}

/// What restarts.
#[derive(Debug, Clone, clap::Args)]
pub struct RestartArgs {
    /// Name of the ReplicatedDatabase
    pub name: String,
}

/// Whose logs.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArgs {
    /// Name of the ReplicatedDatabase
    pub name: String,
    /// Name of a node
    pub node: Option<String>,
}

/// What was typed so far.
#[derive(Debug, Clone, clap::Args)]
pub struct CompleteArgs {
    /// The words, the last of which is not finished
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}
