//! Command line of the load generator.

use anyhow::{Context as _, ensure};
use std::net::{SocketAddr, ToSocketAddrs as _};

/// A closed-loop load generator: each connection sends its next request when the last one was answered.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "coequal-bench",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.\n\nExamples:\n  \
coequal-bench --urls http://127.0.0.1:7600,http://127.0.0.1:7601,http://127.0.0.1:7602 --workload insert\n  \
coequal-bench --urls http://127.0.0.1:7600 --connections 1 --workload linearizable --seconds 5 --json"
)]
pub struct BenchArgs {
    /// API addresses of the nodes; connections are spread over them in turn.
    #[arg(long, alias = "nodes", value_delimiter = ',', required = true, value_name = "URL")]
    pub urls: Vec<String>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// What to do.
    #[arg(long, value_enum, default_value_t = Workload::Insert)]
    pub workload: Workload,
    /// Size of a document's value.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=900_000))]
    pub value_bytes: u32,
    /// Documents that updates and reads choose from; written before the measurement.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// Database; made with default settings if it does not exist.
    #[arg(long, default_value = "orders")]
    pub database: String,
    /// Collection.
    #[arg(long, default_value = "bench")]
    pub collection: String,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Load nodes that are not on this machine.
    #[arg(long)]
    pub allow_remote: bool,
}

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Writes documents under new keys.
    Insert,
    /// Replaces documents.
    Update,
    /// Reads documents from the node that is asked.
    Read,
    /// Reads documents with consistency=linearizable.
    Linearizable,
    /// One update for each read.
    Mixed,
}

impl Workload {
    /// Whether documents have to be there first.
    pub fn needs_documents(self) -> bool {
        self != Self::Insert
    }
}

impl BenchArgs {
    /// The nodes' addresses; others than loopback only if that was asked for.
    pub fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        self.urls.iter().map(|url| self.address(url)).collect()
    }

    fn address(&self, url: &str) -> anyhow::Result<SocketAddr> {
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let mut found =
            host.to_socket_addrs().with_context(|| format!("{url:?} is no address; write http://host:port"))?;
        let address = found.next().with_context(|| format!("{url:?} has no address"))?;
        ensure!(
            self.allow_remote || address.ip().is_loopback(),
            "{url:?} is not on this machine; a load test takes everything that a node can give, so say --allow-remote if it is meant"
        );
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn parse(more: &[&str]) -> BenchArgs {
        BenchArgs::try_parse_from([&["coequal-bench"], more].concat()).unwrap()
    }

    #[test]
    fn only_loopback_is_loaded_unless_it_is_asked_for() {
        assert_eq!(parse(&["--urls", "http://127.0.0.1:7600,[::1]:7601"]).addresses().unwrap().len(), 2);
        let refused = parse(&["--urls", "http://192.0.2.1:7600"]).addresses().unwrap_err();
        assert!(refused.to_string().contains("--allow-remote"), "{refused}");
        assert_eq!(parse(&["--urls", "http://192.0.2.1:7600", "--allow-remote"]).addresses().unwrap().len(), 1);
        assert!(parse(&["--urls", "nonsense"]).addresses().is_err());
    }
}
