//! `coequal-operator check`: does an installation work? The definition is served, its resources may be read, and an
//! operator leads and renews its lease. `helm test` runs it in a pod with the operator's own rights.

use super::stores;
use crate::args::CheckArgs;
use crate::crd::ReplicatedDatabase;
use anyhow::{Context as _, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Api, Client};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Deadline of one call.
const CALL: Duration = Duration::from_secs(10);
/// Time between two looks at the lease.
const EVERY: Duration = Duration::from_millis(500);

/// Checks, says what was found, and ends with 0 or 1.
pub fn main(args: CheckArgs) -> ExitCode {
    // Two providers, or none, would be a panic at the first connection.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(check(&args)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coequal-operator check: {error:#}");
            ExitCode::from(crate::args::EXIT_FAILED)
        }
    }
}

async fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let config =
        kube::Config::infer().await.context("no way to a Kubernetes API server: run in a pod, or set KUBECONFIG")?;
    let namespace = args.lease.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the Kubernetes client cannot be made")?;
    let resources: Api<ReplicatedDatabase> = stores::api(&client, args.namespace.as_deref());
    let seen = within("list ReplicatedDatabases", resources.list(&ListParams::default().limit(1))).await?;
    let count = seen.items.len() as u64 + seen.metadata.remaining_item_count.unwrap_or(0).unsigned_abs();
    say(&format!("ReplicatedDatabases can be read; there are {count}"))?;
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let name = &args.lease.lease_name;
    let deadline = Duration::from_secs(args.wait_seconds.into());
    let leader = match tokio::time::timeout(deadline, renewed(&leases, name)).await {
        Ok(leader) => leader?,
        Err(_) => bail!(
            "nobody renewed the lease {namespace}/{name} within {} s: no operator leads; look at its pods and logs",
            args.wait_seconds
        ),
    };
    say(&format!("{leader} leads and has renewed its lease"))
}

/// Comes back with the holder when the lease was renewed while this process looked: no clock is compared.
async fn renewed(leases: &Api<Lease>, name: &str) -> anyhow::Result<String> {
    let mut first: Option<(String, Option<MicroTime>)> = None;
    loop {
        let lease = within("read the lease", leases.get_opt(name)).await?;
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        if let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) {
            let now = (holder.clone(), spec.renew_time);
            match &first {
                Some(before) if *before != now && before.0 == holder => return Ok(holder),
                Some(before) if before.0 == holder => {}
                _ => first = Some(now),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn within<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.with_context(|| format!("cannot {what}")),
        Err(_) => bail!("cannot {what}: no answer within {} s", CALL.as_secs()),
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("standard output is closed")
}
