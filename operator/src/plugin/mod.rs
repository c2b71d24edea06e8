//! `kubectl coequal`: a look at a ReplicatedDatabase in words, and the changes that a person asks for.
//!
//! ```text
//! args ─► connect ─► fetch ─► report (with advice) ─► render
//!                         └─► change (a decision: what to write, or why not) ─► patch
//! ```
//!
//! It speaks to the API server alone and needs no more than rights on `replicateddatabases`: what a node has to do is
//! written into the resource, and the operator, which knows how to reach nodes and when it is safe, asks them. Only
//! `status --exact` looks at the nodes themselves, through `reach`.
//! `report`, `advice`, `render`, `logs` and the decisions of `change` are pure.

mod advice;
mod args;
mod change;
mod complete;
mod connect;
mod error;
mod exact;
mod fetch;
mod logs;
mod nodes;
mod reach;
mod render;
mod report;
#[cfg(test)]
mod tests;
mod watch;

use args::{EXIT_NOT_WELL, Output, PluginArgs, PluginCommand, StatusArgs};
use clap::Parser as _;
use connect::Connection;
use error::PluginError;
use report::Report;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Runs the plugin. The only place that turns a failure into an exit code.
pub fn main() -> ExitCode {
    // Two providers, or none, would be a panic at the first connection.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = PluginArgs::parse_from(complete::as_command(std::env::args_os().collect::<Vec<OsString>>()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(PluginError::Output(error)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOT_WELL),
        Err(error) => {
            eprintln!("kubectl coequal: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// True when all is well.
async fn run(args: PluginArgs) -> Result<bool, PluginError> {
    if let PluginCommand::Complete(complete) = &args.command {
        say(&complete::answer(&complete.words, &args.cluster).await)?;
        return Ok(true);
    }
    let connection = connect::connect(&args.cluster).await?;
    match args.command {
        PluginCommand::Status(args) => status(&connection, &args).await,
        PluginCommand::Nodes(args) if args.watch => watch::nodes(&connection, &args.name, args.output).await,
        PluginCommand::Nodes(args) => {
            let (text, well) = nodes::shown(&connection, &args.name, args.output).await?;
            say(&text)?;
            Ok(well)
        }
        PluginCommand::Deploy(args) => change::deploy(&connection, &args).await,
        PluginCommand::Remove(args) => change::remove(&connection, &args).await,
        PluginCommand::Restart(args) => change::restart(&connection, &args).await,
        PluginCommand::Logs(args) => {
            let resource = fetch::one(&connection, &args.name).await?;
            say(&logs::pointers(&resource, args.node.as_deref())?)?;
            Ok(true)
        }
        PluginCommand::Complete(_) => Ok(true),
    }
}

async fn status(connection: &Connection, args: &StatusArgs) -> Result<bool, PluginError> {
    match &args.name {
        _ if args.watch => watch::status(connection, args).await,
        Some(name) => {
            let mut report = report::report(&fetch::one(connection, name).await?);
            if args.exact {
                exact::ask(connection, &mut report).await;
            }
            say(&shown(&report, args.output)?)?;
            Ok(report.ok)
        }
        None => {
            let found = fetch::all(connection, args.all_namespaces).await?;
            let reports: Vec<Report> = found.iter().map(report::report).collect();
            match args.output {
                Output::Json => say(&json(&reports)?)?,
                Output::Text => say(&render::list(&reports, args.all_namespaces, &connection.namespace))?,
            }
            Ok(reports.iter().all(|report| report.ok))
        }
    }
}

fn shown(report: &Report, output: Output) -> Result<String, PluginError> {
    match output {
        Output::Json => json(report),
        Output::Text => Ok(render::report(report)),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, PluginError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| PluginError::Output(error.into()))?;
    Ok(text + "\n")
}

/// Writes to standard output; a reader that has gone away is no failure of ours.
fn say(text: &str) -> Result<(), PluginError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(PluginError::Output),
    }
}
