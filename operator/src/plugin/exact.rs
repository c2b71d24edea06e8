//! Exact numbers in place of the rounded ones of status, from the nodes themselves.

use super::connect::Connection;
use super::error::PluginError;
use super::reach::{self, Pass};
use super::report::Report;
use crate::controller::observed::{Beginning, Observed, ObservedNode};
use crate::nodes::{Look, look};
use coequal_types::Progress;
use std::time::Duration;

/// Longest wait for one node.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks every node that runs, and puts what they say into the report. What is wrong is said, and the rest stays.
pub async fn ask(connection: &Connection, report: &mut Report) {
    let nodes: Vec<String> =
        report.nodes.iter().filter(|node| node.status != "OFFLINE").map(|node| node.name.clone()).collect();
    let pass = match reach::pass(connection, &report.name).await {
        Ok(pass) => pass,
        Err(error) => return report.not_asked.push(error.to_string()),
    };
    let looks = nodes.iter().map(|node| one(connection, node, pass.clone()));
    let mut seen = Vec::new();
    for (node, look) in nodes.iter().zip(futures::future::join_all(looks).await) {
        match look {
            Ok(look) => seen.push((node.clone(), look)),
            Err(error) => report.not_asked.push(format!("{node}: {error}")),
        }
    }
    refine(report, &seen);
}

async fn one(connection: &Connection, node: &str, pass: Pass) -> Result<Look, PluginError> {
    let asked = async {
        let reached = reach::node(connection, node, pass).await?;
        let look = look(&reached.client).await;
        match look.report.is_some() {
            true => Ok(look),
            false => Err(PluginError::NoAnswer("the node does not answer, or takes another token".to_owned())),
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(result) => result,
        Err(_) => Err(PluginError::NoAnswer(format!("nothing came within {} s", PATIENCE.as_secs()))),
    }
}

/// Puts exact numbers into a report. Pure.
pub fn refine(report: &mut Report, seen: &[(String, Look)]) {
    let nodes = seen.iter().filter_map(|(name, look)| {
        let mut node = ObservedNode::unseen(name.parse().ok()?, 0);
        node.report = look.report.clone();
        node.replication = look.replication.clone();
        Some(node)
    });
    let observed = Observed { beginning: Beginning::NotBegun, nodes: nodes.collect() };
    let mut backlog = 0;
    for node in &mut report.nodes {
        let Some(own) = observed.nodes.iter().find(|known| known.name.as_str() == node.name) else { continue };
        let Some(told) = &own.report else { continue };
        backlog += observed.backlog_entries(told.id).unwrap_or(0);
        for copy in &mut node.databases {
            let Some(database) = told.databases.iter().find(|known| known.name.as_str() == copy.name) else { continue };
            let queues = observed.nodes.iter().flat_map(|peer| &peer.replication);
            let queues = queues.filter(|seen| seen.uuid == database.uuid && seen.node != told.id);
            let queues = queues.flat_map(|seen| &seen.nodes).filter(|replica| replica.node == told.id);
            copy.status = database.status.to_string();
            copy.lag_entries =
                queues.map(|replica| replica.backlog_entries).max().and_then(|lag| i64::try_from(lag).ok());
            copy.progress_percent = database.progress.as_ref().and_then(percent);
            copy.progress = database.progress.as_ref().map(words);
        }
    }
    report.exact = !observed.nodes.is_empty();
    if report.exact {
        report.backlog_entries = i64::try_from(backlog).ok();
    }
}

fn percent(progress: &Progress) -> Option<i32> {
    let Progress { entries_done, entries_total, .. } = *progress;
    let percent = entries_done.min(entries_total).saturating_mul(100).checked_div(entries_total)?;
    i32::try_from(percent).ok()
}

/// `40000/100000, 12000/s, 5 s left`
fn words(progress: &Progress) -> String {
    let mut text = format!("{}/{}", progress.entries_done, progress.entries_total);
    if progress.entries_per_second >= 1.0 {
        text += &format!(", {:.0}/s", progress.entries_per_second);
    }
    if let Some(left) = progress.eta_seconds.filter(|eta| eta.is_finite()) {
        text += &format!(", {:.0} s left", left.ceil());
    }
    text
}
