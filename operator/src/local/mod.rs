//! Local mode: the same resource, validation and decisions as on Kubernetes, with processes instead of pods.
//! Data lies in one directory, by default `./coequal-data/<name>`; everything listens on the loopback interface only.

mod backoff;
mod clock;
mod data;
mod error;
mod lock;
mod log_file;
mod look;
mod manifest;
mod manifest_file;
mod node;
mod ports;
mod process;
mod replica;
mod rows;
mod screen;
mod steps;
mod summary;
mod supervisor;
mod table;

pub use replica::end_with_supervisor;

use crate::args::LocalArgs;
use data::DataDirectory;
use error::LocalError;
use manifest::ManifestWatch;
use process::Program;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use supervisor::{StopRequest, Supervisor};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long replicas of a killed supervisor are waited for before other ports are taken.
const LEFT_BEHIND_DEADLINE: Duration = Duration::from_secs(5);

/// Runs the replicas of a manifest until it is told to stop.
pub fn main(args: LocalArgs) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coequal-operator: {error}");
            error.exit_code()
        }
    }
}

fn run(args: &LocalArgs) -> Result<(), LocalError> {
    let (manifest, reading) = ManifestWatch::begin(&args.file);
    let wish = reading.map_err(|faults| LocalError::InvalidManifest { file: args.file.clone(), faults })?;
    let default = Path::new("coequal-data").join(&wish.name);
    let data = DataDirectory::open(args.data.as_deref().unwrap_or(&default), &wish.name)?;
    if let Some(first) = args.port {
        for ordinal in 0..wish.replicas {
            ports::fixed(first, ordinal, &|_| true)?;
        }
    }
    let program = Program::find(args.node_exe.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| LocalError::setup("start the runtime", error))?;
    let result = runtime.block_on(async {
        let signals = signals()?;
        wait_for_left_behind(args.port, &data).await;
        let http_client =
            crate::nodes::http_client().map_err(|error| LocalError::setup("make an HTTP client", error))?;
        Supervisor::new(wish, data, program, args.port, http_client)?.run(manifest, signals).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Replicas whose supervisor was killed notice it and stop; their ports are free a moment later.
async fn wait_for_left_behind(first_port: Option<u16>, data: &DataDirectory) {
    if !data.left_behind() {
        return;
    }
    let fixed = |ordinal: &u32| ports::fixed(first_port?, *ordinal, &|_| true).ok();
    let known = data.record.ports.iter().map(|(ordinal, ports)| fixed(ordinal).unwrap_or(*ports));
    let wanted: Vec<u16> = known.flat_map(|ports| [ports.api, ports.peers]).collect();
    let deadline = tokio::time::Instant::now() + LEFT_BEHIND_DEADLINE;
    while tokio::time::Instant::now() < deadline && !wanted.iter().all(|port| ports::is_free(*port)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ctrl-C, SIGTERM and a closed terminal all ask to stop.
fn signals() -> Result<mpsc::Receiver<StopRequest>, LocalError> {
    let (sender, receiver) = mpsc::channel(8);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut stream: Signal = signal(kind).map_err(|error| LocalError::setup("listen for signals", error))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(StopRequest::Stop).await.is_err() {
                    break;
                }
            }
        });
    }
    Ok(receiver)
}
