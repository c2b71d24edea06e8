//! Showing something again at each change, until Ctrl-C. On a terminal the last picture is replaced, elsewhere the
//! next one follows behind an empty line.

use super::args::{Output, StatusArgs};
use super::connect::Connection;
use super::error::{PluginError, Tried};
use super::report::{Report, report};
use super::{fetch, json, nodes, render, say, shown};
use crate::crd::ReplicatedDatabase;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

/// A watch that is silent for this long is begun anew, in seconds: a dead connection is noticed.
const WATCH_SECONDS: u32 = 120;
/// Cursor home, and everything below it erased.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What is known now, after each change; ends when the watch may not be had.
fn resources(
    api: Api<ReplicatedDatabase>,
    name: Option<&str>,
    namespace: Option<String>,
) -> impl Stream<Item = Result<Vec<ReplicatedDatabase>, PluginError>> {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if let Some(name) = name {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut known: BTreeMap<(Option<String>, String), ReplicatedDatabase> = BTreeMap::new();
    let mut next = known.clone();
    watcher(api, config)
        .default_backoff()
        .map_err(move |error| match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                Tried::on_resources("watch", namespace.as_deref()).failed(error)
            }
            other => PluginError::NoAnswer(other.to_string()),
        })
        .try_filter_map(move |event| {
            let key = |resource: &ReplicatedDatabase| (resource.namespace(), resource.name_any());
            let changed = match event {
                watcher::Event::Init => {
                    next.clear();
                    false
                }
                watcher::Event::InitApply(resource) => {
                    next.insert(key(&resource), resource);
                    false
                }
                watcher::Event::InitDone => {
                    let differs = known != next || known.is_empty();
                    known = std::mem::take(&mut next);
                    differs
                }
                watcher::Event::Apply(resource) => known.insert(key(&resource), resource.clone()) != Some(resource),
                watcher::Event::Delete(resource) => known.remove(&key(&resource)).is_some(),
            };
            let now = changed.then(|| known.values().cloned().collect());
            async move { Ok(now) }
        })
}

fn picture(text: &str) -> Result<(), PluginError> {
    match std::io::stdout().is_terminal() {
        true => say(&format!("{CLEAR}{text}")),
        false => say(&format!("{text}\n")),
    }
}

/// Follows what `stream` brings until Ctrl-C; the last picture decides about the exit code.
async fn follow<T>(
    stream: impl Stream<Item = Result<T, PluginError>>,
    mut show: impl AsyncFnMut(T) -> Result<bool, PluginError>,
) -> Result<bool, PluginError> {
    let mut stream = std::pin::pin!(stream);
    let mut well = true;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(well),
            next = stream.next() => match next {
                Some(Ok(now)) => well = show(now).await?,
                // The watch is begun again by itself; a missing right stays missing.
                Some(Err(PluginError::NoAnswer(why))) => eprintln!("kubectl coequal: {why}; trying again"),
                Some(Err(error)) => return Err(error),
                None => return Ok(well),
            },
        }
    }
}

/// `status --watch`
pub async fn status(connection: &Connection, args: &StatusArgs) -> Result<bool, PluginError> {
    let everywhere = args.all_namespaces;
    if let Some(name) = &args.name {
        // A name that is not there is an error now, not something to wait for.
        fetch::one(connection, name).await?;
    }
    let api = if everywhere { Api::all(connection.client.clone()) } else { connection.resources() };
    let stream = resources(api, args.name.as_deref(), (!everywhere).then(|| connection.namespace.clone()));
    follow(stream, async |found: Vec<ReplicatedDatabase>| {
        let reports: Vec<Report> = found.iter().map(report).collect();
        let text = match (&args.name, args.output, reports.first()) {
            (Some(_), output, Some(report)) => shown(report, output)?,
            (Some(name), Output::Text, None) => format!("{name} was deleted.\n"),
            (_, Output::Json, _) => json(&reports)?,
            (None, Output::Text, _) => render::list(&reports, everywhere, &connection.namespace),
        };
        picture(&text)?;
        Ok(reports.iter().all(|report| report.ok))
    })
    .await
}

/// `nodes --watch`
pub async fn nodes(connection: &Connection, name: &str, output: Output) -> Result<bool, PluginError> {
    fetch::one(connection, name).await?;
    let stream = resources(connection.resources(), Some(name), Some(connection.namespace.clone()));
    follow(stream, async |found: Vec<ReplicatedDatabase>| {
        if found.is_empty() {
            picture(&format!("{name} was deleted.\n"))?;
            return Ok(false);
        }
        let (text, well) = nodes::shown(connection, name, output).await?;
        picture(&text)?;
        Ok(well)
    })
    .await
}
