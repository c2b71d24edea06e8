//! A closed-loop load generator for the HTTP API: a fixed number of connections, each with one request at a time.

mod connection;
mod workload;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use hdrhistogram::Histogram;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use workload::Workload;

/// Loads nodes with single-document requests and says rate and latencies.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "coequal-bench",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.\n\nExample:\n  \
coequal-bench --nodes 127.0.0.1:7600,127.0.0.1:7601,127.0.0.1:7602 --connections 64 --seconds 10 --workload insert"
)]
struct Args {
    /// API addresses of the nodes, `ip:port`; connections are spread over them.
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<SocketAddr>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// What to do.
    #[arg(long, value_enum, default_value_t = Workload::Insert)]
    workload: Workload,
    /// Size of a document's value, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    value_bytes: u32,
    /// Keys that updates and reads use.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Database.
    #[arg(long, default_value = "orders")]
    database: String,
    /// Also load nodes that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
}

/// What one connection saw.
struct Seen {
    latencies_us: Histogram<u64>,
    errors: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.allow_remote && args.nodes.iter().any(|node| !matches!(node.ip(), ip if is_loopback(ip))) {
        bail!("a node is not on this machine; give --allow-remote if you mean it");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

async fn run(args: Args) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    let mut tasks = Vec::new();
    for (number, node) in (0..args.connections).zip(args.nodes.iter().copied().cycle()) {
        tasks.push(tokio::spawn(one_connection(args.clone(), number, node, deadline)));
    }
    let mut all = Histogram::<u64>::new(3).context("histogram")?;
    let mut errors = 0;
    for task in tasks {
        let seen = task.await??;
        all.add(&seen.latencies_us).context("histogram")?;
        errors += seen.errors;
    }
    let elapsed = started.elapsed().as_secs_f64();
    report(&args, &all, errors, elapsed, cpu_seconds() - cpu_before);
    Ok(())
}

async fn one_connection(args: Args, number: u32, node: SocketAddr, deadline: Instant) -> anyhow::Result<Seen> {
    let mut connection = connection::Connection::open(node).await?;
    let mut seen = Seen { latencies_us: Histogram::new(3).context("histogram")?, errors: 0 };
    let mut requests = workload::Requests::new(&args.database, args.workload, args.value_bytes, args.keys, number);
    while Instant::now() < deadline {
        let request = requests.next();
        let started = Instant::now();
        let status = connection.ask(&request).await?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if (200..300).contains(&status) || (status == 404 && args.workload.reads()) {
            seen.latencies_us.saturating_record(micros);
        } else {
            seen.errors += 1;
        }
    }
    Ok(seen)
}

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn report(args: &Args, all: &Histogram<u64>, errors: u64, elapsed: f64, cpu: f64) {
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{:?} connections={} value={}B: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, errors {errors}, generator {:.0} % of one core",
        args.workload,
        args.connections,
        args.value_bytes,
        all.len() as f64 / elapsed,
        ms(0.5),
        ms(0.99),
        all.max() as f64 / 1000.0,
        100.0 * cpu / elapsed,
    );
}

/// User and system time of this process so far.
#[allow(clippy::cast_precision_loss)]
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // Clock ticks are 1/100 s on Linux.
    (ticks(11) + ticks(12)) as f64 / 100.0
}
