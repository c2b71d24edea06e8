//! Command line of a node. Every flag has an environment variable.

use coequal_types::{ClusterId, NodeName};
use std::net::SocketAddr;
use std::path::PathBuf;

/// One replica node of a Coequal cluster.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "coequal-node",
    version,
    about = "One replica node of a Coequal cluster: a full master with its own storage.",
    after_help = "Exit codes: 0 stopped as asked, 1 failed (the last line says why), 2 wrong usage.\n\n\
Examples:\n  First node of a new cluster:\n    coequal-node --name a --data /var/lib/coequal --listen 127.0.0.1:7601 --listen-peers 127.0.0.1:7701 --initialize\n  \
Another node that joins it:\n    coequal-node --name b --data /var/lib/coequal-b --listen 127.0.0.1:7602 --listen-peers 127.0.0.1:7702 --join 127.0.0.1:7701"
)]
pub struct NodeArgs {
    /// Name of this node, unique in its cluster.
    #[arg(long, env = "COEQUAL_NAME")]
    pub name: NodeName,
    /// Data directory; made if it does not exist.
    #[arg(long, env = "COEQUAL_DATA")]
    pub data: PathBuf,
    /// Where the HTTP API listens; [::]:PORT is every address of both families.
    #[arg(long, env = "COEQUAL_LISTEN", default_value = "127.0.0.1:7600")]
    pub listen: SocketAddr,
    /// Where other nodes connect; [::]:PORT is every address of both families.
    #[arg(long, env = "COEQUAL_LISTEN_PEERS", default_value = "127.0.0.1:7700")]
    pub listen_peers: SocketAddr,
    /// Address that other nodes use to reach this one, `host:port`; by default the listening address.
    #[arg(long, env = "COEQUAL_ADVERTISE")]
    pub advertise: Option<String>,
    /// Address that clients use to reach the HTTP API, `host:port`; by default the listening address.
    #[arg(long, env = "COEQUAL_ADVERTISE_API")]
    pub advertise_api: Option<String>,
    /// Peer addresses of nodes whose cluster to join, until one of them takes this node in.
    #[arg(long, env = "COEQUAL_JOIN", value_delimiter = ',', value_name = "HOST:PORT")]
    pub join: Vec<String>,
    /// Make a new cluster of this one node if the data directory belongs to none yet.
    #[arg(long, env = "COEQUAL_INITIALIZE")]
    pub initialize: bool,
    /// UUID of the cluster that this node belongs to: it makes no other, joins no other, and answers no other. Without
    /// it, the first cluster that takes the node in.
    #[arg(long, env = "COEQUAL_CLUSTER", value_name = "UUID")]
    pub cluster: Option<ClusterId>,
    /// Directory with tls.crt, tls.key and ca.crt: nodes talk to each other over mutual TLS, with certificates that are
    /// read again when they change.
    #[arg(long, env = "COEQUAL_TLS_DIRECTORY", value_name = "DIR", requires = "tls_name")]
    pub tls_directory: Option<PathBuf>,
    /// DNS name that the certificates of all nodes of this cluster, and of no other, are for.
    #[arg(long, env = "COEQUAL_TLS_NAME", value_name = "NAME", requires = "tls_directory")]
    pub tls_name: Option<String>,
    /// Serve the HTTP API over TLS too, with the same certificate. A client that shows a certificate of this cluster
    /// needs no token.
    #[arg(long, env = "COEQUAL_TLS_API", requires = "tls_directory")]
    pub tls_api: bool,
    /// Directory with the files admin and (optional) read-only: tokens that clients of the HTTP API have to send as
    /// `Authorization: Bearer`. Read again when they change.
    #[arg(long, env = "COEQUAL_TOKEN_DIRECTORY", value_name = "DIR")]
    pub token_directory: Option<PathBuf>,
    /// Memory for each database's page cache, in MiB.
    #[arg(long, env = "COEQUAL_CACHE_MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..=65536))]
    pub cache_mib: u32,
    /// Memory for writes that are not yet in a checkpoint, per database, in MiB.
    #[arg(long, env = "COEQUAL_OVERLAY_MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub overlay_mib: u32,
    /// Threads that serve clients and other nodes; each database has two more of its own, or one where this is 1: that thread
    /// runs the databases too, which saves switches of threads, and waits with them for a disk that is slow to read. 0 is one
    /// for each processor: give less where several nodes share a machine.
    #[arg(long, env = "COEQUAL_WORKER_THREADS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub worker_threads: u32,
    /// Largest document, in bytes (at most 16 MiB).
    #[arg(long, env = "COEQUAL_DOCUMENT_BYTES_MAX", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub document_bytes_max: u32,
    /// A peer that was not heard of for this long counts as unreachable, in milliseconds.
    #[arg(long, env = "COEQUAL_UNREACHABLE_AFTER_MS", default_value_t = 1500, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub unreachable_after_ms: u64,
    /// How fast this node copies databases to others at most, in MiB per second; 0 is unlimited.
    #[arg(long, env = "COEQUAL_DEPLOY_MIB_PER_SECOND", default_value_t = 0)]
    pub deploy_mib_per_second: u32,
    /// How long a deleted document is remembered at least, in seconds, and with it the ids of the requests that wrote it: a
    /// retry within this time finds its answer. The longest of all nodes of a database counts.
    #[arg(long, env = "COEQUAL_TOMBSTONE_LIFE_SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=315_360_000))]
    pub tombstone_life_seconds: u64,
    /// When this node finds that it was removed from its cluster while it was away: put its data aside and end; the next
    /// start is that of a new node.
    #[arg(long, env = "COEQUAL_RENEW_WHEN_REMOVED")]
    pub renew_when_removed: bool,
    /// How often this node compares each database with the other nodes' copies, by hashes of key ranges, in seconds, each
    /// database at a moment of its own; 0 is never. POST /v1/databases/{db}/compare does it at once.
    #[arg(long, env = "COEQUAL_COMPARE_EVERY_SECONDS", default_value_t = 86_400)]
    pub compare_every_seconds: u32,
    /// Stop when standard input ends: for a replica that belongs to a supervisor.
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
    /// Logs as JSON, one object a line.
    #[arg(long, env = "COEQUAL_LOG_JSON")]
    pub log_json: bool,
}
