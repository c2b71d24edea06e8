//! What is shown of each node, and the words for it. Pure.

use crate::controller::node_status::ShownStatus;
use coequal_types::rest::DatabaseOnNode;
use coequal_types::{DatabaseStatus, Progress, SynchronizationPhase};
use std::time::Duration;

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Name of the node.
    pub name: String,
    /// Where its API is; absent before it has ports.
    pub url: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// Its status.
    pub status: ShownStatus,
    /// Why.
    pub message: Option<String>,
    /// Databases on it.
    pub databases: Vec<DatabaseOnNode>,
    /// Entries that others keep for it.
    pub backlog_entries: Option<u64>,
    /// Starts after the first one.
    pub restarts: u32,
    /// Seconds to its next start.
    pub next_start_seconds: Option<u64>,
    /// Whether it is on its way out of the cluster.
    pub leaving: bool,
}

/// A phase as it is shown.
pub fn phase_word(phase: SynchronizationPhase) -> &'static str {
    match phase {
        SynchronizationPhase::Connecting => "connecting",
        SynchronizationPhase::Deploying => "deploying",
        SynchronizationPhase::Draining => "draining",
        SynchronizationPhase::Settling => "settling",
    }
}

/// Percent done; 100 only when all is.
pub fn percent(progress: &Progress) -> Option<u64> {
    let Progress { entries_done, entries_total, .. } = *progress;
    (entries_total > 0).then(|| entries_done.min(entries_total).saturating_mul(100) / entries_total)
}

/// `draining 40 % (400/1000, 12000/s, 1 s left)`.
pub fn progress_words(progress: &Progress) -> String {
    let phase = phase_word(progress.phase);
    let Some(percent) = percent(progress) else { return phase.to_owned() };
    let mut inside = format!("{}/{}", progress.entries_done, progress.entries_total);
    if progress.entries_per_second >= 1.0 {
        inside += &format!(", {:.0}/s", progress.entries_per_second);
    }
    if let Some(eta) = progress.eta_seconds.filter(|eta| eta.is_finite()) {
        inside += &format!(", {} left", duration_words(eta));
    }
    format!("{phase} {percent} % ({inside})")
}

/// `1 s`, `2 min 5 s`, `3 h 20 min`; rounded up, so that "0 s left" is not said before it is true.
pub fn duration_words(seconds: f64) -> String {
    let seconds = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_millis().div_ceil(1000);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// A database in the table: `orders SYNCHRONIZING draining 40 % 1 s left`.
pub fn database_cell(database: &DatabaseOnNode) -> String {
    let mut cell = format!("{} {}", database.name, database.status);
    if let Some(progress) = database.progress.as_ref().filter(|_| database.status == DatabaseStatus::Synchronizing) {
        cell += &format!(" {}", phase_word(progress.phase));
        if let Some(percent) = percent(progress) {
            cell += &format!(" {percent} %");
        }
        if let Some(eta) = progress.eta_seconds.filter(|eta| eta.is_finite()) {
            cell += &format!(" {} left", duration_words(eta));
        }
    }
    cell
}

/// Something about a node that is worth a line when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saying {
    /// Of whom: `orders-1` or `orders-1 payments`.
    pub subject: String,
    /// A change of this is always told.
    pub state: String,
    /// The whole line; a change of it alone is told now and then.
    pub line: String,
}

/// What can be said of a node: with one database its progress stands on the node's own line.
pub fn sayings(row: &NodeRow) -> Vec<Saying> {
    let mut found = Vec::new();
    let users: Vec<&DatabaseOnNode> = row.databases.iter().filter(|database| !database.name.is_system()).collect();
    let mut node = said(&row.name, row.status.as_str());
    if row.leaving {
        node.line += " (leaving the cluster)";
        node.state = node.line.clone();
    }
    if let Some(message) = &row.message {
        node.line += &format!(" ({message})");
        node.state = node.line.clone();
    }
    for database in &users {
        let status = database.status;
        let ill = matches!(status, DatabaseStatus::Conflict | DatabaseStatus::Faulty | DatabaseStatus::Offline);
        let alone = users.len() == 1 && !ill;
        if alone && (row.status != ShownStatus::Synchronizing || status != DatabaseStatus::Synchronizing) {
            continue;
        }
        let mut entry = said(&format!("{} {}", row.name, database.name), status.as_str());
        let target = if alone { &mut node } else { &mut entry };
        if let Some(progress) = database.progress.as_ref().filter(|_| status == DatabaseStatus::Synchronizing) {
            target.state += &format!(" {}", phase_word(progress.phase));
            target.line += &format!(" {}", progress_words(progress));
        }
        if let Some(message) = &database.message {
            target.line += &format!(": {message}");
            target.state += message;
        }
        if !alone {
            found.push(entry);
        }
    }
    found.insert(0, node);
    found
}

fn said(subject: &str, status: &str) -> Saying {
    let line = format!("{subject} {status}");
    Saying { subject: subject.to_owned(), state: line.clone(), line }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn progress(done: u64) -> Progress {
        Progress {
            phase: SynchronizationPhase::Draining,
            entries_done: done,
            entries_total: 1000,
            entries_per_second: 12_000.0,
            eta_seconds: Some(0.05),
        }
    }

    pub(crate) fn row(status: ShownStatus, databases: &[(&str, DatabaseStatus, Option<Progress>)]) -> NodeRow {
        let databases = databases.iter().map(|(name, status, progress)| DatabaseOnNode {
            name: name.parse().unwrap(),
            uuid: uuid::Uuid::nil(),
            status: *status,
            progress: *progress,
            message: None,
        });
        NodeRow {
            name: "orders-1".to_owned(),
            url: Some("http://127.0.0.1:7601".to_owned()),
            pid: Some(4711),
            status,
            message: None,
            databases: databases.collect(),
            backlog_entries: Some(0),
            restarts: 0,
            next_start_seconds: None,
            leaving: false,
        }
    }

    #[test]
    fn the_progress_of_an_only_database_stands_on_the_line_of_its_node() {
        let row = row(ShownStatus::Synchronizing, &[("orders", DatabaseStatus::Synchronizing, Some(progress(400)))]);
        let sayings = sayings(&row);
        assert_eq!(sayings.len(), 1);
        assert_eq!(sayings[0].line, "orders-1 SYNCHRONIZING draining 40 % (400/1000, 12000/s, 1 s left)");
        assert_eq!(sayings[0].state, "orders-1 SYNCHRONIZING draining");
    }

    #[test]
    fn several_databases_have_lines_of_their_own() {
        let mut row = row(
            ShownStatus::Offline,
            &[("a", DatabaseStatus::Online, None), ("b", DatabaseStatus::Synchronizing, Some(progress(999)))],
        );
        row.message = Some("why".to_owned());
        let lines: Vec<String> = sayings(&row).into_iter().map(|saying| saying.line).collect();
        let expected = [
            "orders-1 OFFLINE (why)",
            "orders-1 a ONLINE",
            "orders-1 b SYNCHRONIZING draining 99 % (999/1000, 12000/s, 1 s left)",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_conflict_is_told_even_if_it_is_the_only_database() {
        let row = row(ShownStatus::Synchronizing, &[("orders", DatabaseStatus::Conflict, None)]);
        let lines: Vec<String> = sayings(&row).into_iter().map(|saying| saying.line).collect();
        assert_eq!(lines, ["orders-1 SYNCHRONIZING", "orders-1 orders CONFLICT"]);
    }

    #[test]
    fn durations_are_words() {
        for (seconds, words) in
            [(0.0, "0 s"), (0.1, "1 s"), (59.9, "1 min 0 s"), (125.0, "2 min 5 s"), (12_000.0, "3 h 20 min")]
        {
            assert_eq!(duration_words(seconds), words);
        }
    }
}
