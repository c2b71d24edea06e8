//! Puts a node together, runs it, and stops it in order.

use crate::api::authorization::Tokens;
use crate::api::{self, ApiSettings, ConnectionSettings};
use crate::args::NodeArgs;
use crate::network::{self, Identity, Network, NetworkSettings};
use crate::replication::{self, NodeSettings};
use crate::storage::{DataDirectory, StoreSettings};
use crate::tls::Tls;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Events of the network that may wait for the node's loop; each is a frame at most.
const NETWORK_EVENTS_MAX: usize = 256;
const MIB: usize = 1 << 20;

/// Runs a node until it is told to stop. The only place that turns a failure into an exit code.
pub fn main(args: NodeArgs) -> ExitCode {
    init_logs(args.log_json);
    refuse_huge_pages();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if args.worker_threads > 0 {
        builder.worker_threads(args.worker_threads as usize);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn init_logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COEQUAL_LOG").unwrap_or_else(|_| "info".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second node in one process finds logging set up already; that is fine.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// A huge page stays whole in memory for as long as one small piece of it is in use: with them a node takes half as much again.
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the system goes on giving huge pages");
    }
}

async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let directory = DataDirectory::open(&args.data)?;
    let listener = network::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen for clients at {}: choose another address with --listen, or stop what uses it",
            args.listen
        )
    })?;
    let api_address = listener.local_addr()?;
    if let (Some(found), Some(wanted)) = (directory.cluster(), args.cluster)
        && found != wanted
    {
        anyhow::bail!(
            "the data directory {} belongs to cluster {found}, and --cluster says {wanted}; nothing was changed: \
             give the right directory, or leave --cluster out",
            args.data.display()
        );
    }
    let (events_sender, events) = tokio::sync::mpsc::channel(NETWORK_EVENTS_MAX);
    let identity = Identity {
        node: directory.node(),
        incarnation: directory.incarnation(),
        name: args.name.clone(),
        cluster: directory.cluster().or(args.cluster),
    };
    let tls = open_tls(&args)?;
    let mut network_settings = NetworkSettings::new(args.listen_peers, identity);
    network_settings.tls = tls.clone();
    network_settings.limits.bulk_bytes_per_second = u64::from(args.deploy_mib_per_second) << 20;
    let network = Network::start(network_settings, events_sender).await?;
    let settings = node_settings(&args, network.local_address(), api_address);
    let stop = stop_signal(args.exit_with_stdin)?;
    let running = replication::start(settings, directory, network, events).await.context("the node could not start")?;
    tracing::info!(name = %args.name, node = %running.service.node_id(), api = %api_address, "node started");
    let tokens = args.token_directory.map(Tokens::open).transpose()?.map(Arc::new);
    if let Some(tokens) = &tokens {
        tokio::spawn(Arc::clone(tokens).keep_up_to_date());
    }
    let document_bytes_max = args.document_bytes_max as usize;
    let api_settings = ApiSettings { document_bytes_max, tokens, ..ApiSettings::default() };
    let router = api::router(running.service.clone(), api_settings);
    let connections = ConnectionSettings { tls: tls.filter(|_| args.tls_api), ..ConnectionSettings::default() };
    let service = running.service.clone();
    let is_over = tokio_util::sync::CancellationToken::new();
    let until = async {
        tokio::select! { () = stop => {}, () = service.renewal() => is_over.cancel() }
    };
    let served = api::serve(listener, router, connections, until).await;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    served.context("the HTTP server failed")?;
    anyhow::ensure!(!is_over.is_cancelled(), "this node was removed from its cluster; start it again as a new node");
    Ok(())
}

/// What the command line says, and where this node listens for other nodes and for clients if it does not.
fn node_settings(args: &NodeArgs, peers: SocketAddr, api: SocketAddr) -> NodeSettings {
    NodeSettings {
        name: args.name.clone(),
        peer_address: args.advertise.clone().unwrap_or_else(|| peers.to_string()),
        api_address: args.advertise_api.clone().unwrap_or_else(|| api.to_string()),
        initialize: args.initialize,
        cluster: args.cluster,
        join: args.join.clone(),
        store: StoreSettings {
            cache_bytes: args.cache_mib as usize * MIB,
            overlay_bytes: args.overlay_mib as usize * MIB,
        },
        unreachable_after_ms: args.unreachable_after_ms,
        databases_share_threads: args.worker_threads == 1,
        renew_when_removed: args.renew_when_removed,
        compare_every_seconds: u64::from(args.compare_every_seconds),
        tombstone_life_ms: args.tombstone_life_seconds.saturating_mul(1_000),
    }
}

/// The certificates, if there are to be some; they are read again when they change.
fn open_tls(args: &NodeArgs) -> anyhow::Result<Option<Arc<Tls>>> {
    let (Some(directory), Some(name)) = (args.tls_directory.clone(), &args.tls_name) else { return Ok(None) };
    let tls = Arc::new(Tls::open(directory, name)?);
    tokio::spawn(Arc::clone(&tls).keep_up_to_date());
    Ok(Some(tls))
}

/// Ends with SIGTERM, SIGINT, or (for a replica that belongs to a supervisor) the end of standard input.
fn stop_signal(exit_with_stdin: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (closed_sender, closed) = tokio::sync::oneshot::channel::<()>();
    if exit_with_stdin {
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = closed_sender.send(());
        })?;
    } else {
        std::mem::forget(closed_sender);
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Ok(()) = closed => {}
        }
    })
}
