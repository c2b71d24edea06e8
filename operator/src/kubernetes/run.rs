//! The process: takes part in the choice of a leader, reconciles while it leads, and stops in order.

use super::context::Context;
use super::health::{self, Health};
use super::leader::{Candidate, Leadership};
use super::metrics::Metrics;
use super::reconcile::{after_failure, reconcile};
use super::stores;
use crate::args::RunArgs;
use crate::crd::ReplicatedDatabase;
use anyhow::Context as _;
use futures::StreamExt as _;
use kube::Client;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::{Predicate as _, WatchStreamExt as _, predicates, reflector, watcher};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Resources that are worked on at the same time.
const AT_ONCE: u16 = 8;
/// Changes that come this close together are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Time for reconciles under way when the process stops.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

const NO_CLUSTER: &str = "no way to a Kubernetes API server: run in a pod, or set KUBECONFIG; \
                          without Kubernetes: coequal-operator local -f MANIFEST";

/// Runs the controller until it is told to stop. The only place that turns a failure into an exit code.
pub fn main(args: RunArgs) -> ExitCode {
    init_logs(args.log_text);
    // Two providers, or none, would be a panic at the first connection.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime could not be started");
            return ExitCode::from(crate::args::EXIT_FAILED);
        }
    };
    let result = runtime.block_on(run(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(crate::args::EXIT_FAILED)
        }
    }
}

fn init_logs(as_text: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COEQUAL_LOG")
        .unwrap_or_else(|_| "info,kube_client=warn,kube_runtime=warn".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match as_text {
        true => builder.with_ansi(false).try_init(),
        false => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let config = kube::Config::infer().await.context(NO_CLUSTER)?;
    let lease_namespace = args.lease.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the Kubernetes client cannot be made")?;
    let listener = tokio::net::TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen at {}: choose another address with --listen, or stop what uses it", args.listen)
    })?;
    let health = Health {
        leadership: Leadership::new(),
        metrics: Arc::new(Metrics::new()),
        listed: Arc::new(AtomicBool::new(false)),
        resources: Arc::new(OnceLock::new()),
    };
    let server = tokio::spawn(health::serve(listener, health.clone()));
    let identity = identity();
    let leadership = health.leadership.clone();
    let mut candidate =
        Candidate::new(client.clone(), &lease_namespace, &args.lease.lease_name, identity.clone(), leadership);
    tracing::info!(identity, lease = args.lease.lease_name, namespace = lease_namespace, "standing by");
    let led = tokio::select! {
        () = candidate.lead() => true,
        () = stop.cancelled() => false,
    };
    let result = if led { lead(&args, client, health, &mut candidate, identity, stop).await } else { Ok(()) };
    candidate.release().await;
    server.abort();
    result
}

/// Reconciles for as long as this process leads.
async fn lead(
    args: &RunArgs,
    client: Client,
    health: Health,
    candidate: &mut Candidate,
    identity: String,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!("leading");
    let ended = CancellationToken::new();
    let mut controller = tokio::spawn(control(args.clone(), client, health, identity, ended.clone()));
    let over = tokio::select! {
        () = candidate.keep() => Err(anyhow::anyhow!("another operator leads now, or the lease could not be renewed; starting again")),
        () = stop.cancelled() => Ok(()),
        ended = &mut controller => return ended.context("the controller broke off")?,
    };
    ended.cancel();
    if over.is_ok() {
        tracing::info!("stopping");
        // Reconciles under way may end; they stay leader for so long.
        let finished = async {
            tokio::select! { _ = &mut controller => {}, () = candidate.keep() => {} }
        };
        let _ = tokio::time::timeout(STOP_DEADLINE, finished).await;
    }
    over
}

async fn control(
    args: RunArgs,
    client: Client,
    health: Health,
    identity: String,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let namespace = args.namespace.as_deref();
    let (store, writer) = reflector::store();
    // Our own writes of status are no reason to look again.
    let changes = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
    let resources = watcher(stores::api::<ReplicatedDatabase>(&client, namespace), stores::resources())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(changes, kube::runtime::utils::PredicateConfig::default());
    let _ = health.resources.set(store.clone());
    let controller =
        Controller::for_stream(resources, store).with_config(Config::default().concurrency(AT_ONCE).debounce(DEBOUNCE));
    let (controller, stores) = stores::watch(controller, &client, namespace);
    note_when_listed(&stores, &health);
    let context = Arc::new(Context {
        identity,
        client,
        stores,
        leadership: health.leadership.clone(),
        health,
        node_image: args.node_image,
        memory: Mutex::new(BTreeMap::new()),
    });
    controller
        .graceful_shutdown_on(async move { ended.cancelled().await })
        .run(traced, after_failure, context)
        .for_each(async |result| {
            if let Err(error) = result
                && !matches!(error, kube::runtime::controller::Error::ReconcilerFailed(..))
            {
                tracing::debug!(%error, "a watch or a resource is gone for a moment");
            }
        })
        .await;
    Ok(())
}

/// A reconcile with an id of its own in every line that it logs.
async fn traced(
    resource: Arc<ReplicatedDatabase>,
    context: Arc<Context>,
) -> Result<kube::runtime::controller::Action, super::error::ReconcileError> {
    use kube::ResourceExt as _;
    use tracing::Instrument as _;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let span = tracing::info_span!(
        "reconcile",
        id = id.get(..8).unwrap_or_default(),
        namespace = resource.namespace().unwrap_or_default(),
        name = resource.name_any(),
    );
    reconcile(resource, context).instrument(span).await
}

fn note_when_listed(stores: &stores::Stores, health: &Health) {
    let (stores, listed) = (stores.clone(), Arc::clone(&health.listed));
    tokio::spawn(async move {
        if stores.ready().await.is_ok() {
            listed.store(true, Ordering::Release);
            tracing::info!("everything was listed");
        }
    });
}

/// The pod's name, and something that no other start has.
fn identity() -> String {
    let host =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "operator".to_owned());
    let start = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", start.get(..8).unwrap_or_default())
}

fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind).context("signals cannot be listened for")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stream.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}
