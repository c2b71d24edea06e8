//! A closed-loop load generator for the HTTP API.
//!
//! ```text
//! args ─► prepare (database, documents) ─► one task a connection ─► histograms, added ─► report
//! ```

mod args;
mod connection;
mod load;
mod report;

use args::BenchArgs;
use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&BenchArgs::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coequal-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let addresses = args.addresses()?;
    load::prepare(args, &addresses).await?;
    let measured = load::run(args, &addresses).await?;
    writeln!(std::io::stdout(), "{}", report::report(args, &measured))?;
    Ok(())
}
