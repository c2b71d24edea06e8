//! Reports as text. Pure; no line depends on a clock or a terminal.

use super::advice::Advice;
use super::report::{CopyReport, DatabaseReport, NodeReport, Report};

/// Characters of a progress bar.
const BAR: usize = 20;

/// A report for a person.
pub fn report(report: &Report) -> String {
    let mut text = format!("{}\n", headline(report));
    let mut facts = Vec::new();
    facts.extend(report.version.as_ref().map(|version| format!("version {version}")));
    facts.extend(report.backlog_entries.map(|backlog| format!("backlog {}", number(backlog, report.exact))));
    facts.extend(report.cluster_id.as_ref().map(|id| format!("cluster {id}")));
    if !facts.is_empty() {
        text += &format!("{}\n", facts.join(", "));
    }
    if !report.nodes.is_empty() {
        text += &format!("\n{}", table(&nodes(&report.nodes, report.exact)));
    }
    if report.databases.iter().any(|database| database.uuid.is_some()) {
        text += &format!("\n{}", table(&databases(report)));
    }
    for why in &report.not_asked {
        text += &format!("\nNot asked: {why}\n");
    }
    for advice in &report.advice {
        text += &format!("\n{}", advised(advice));
    }
    text
}

fn headline(report: &Report) -> String {
    let word = match (report.ok, report.advice.iter().any(|advice| advice.needs_a_person)) {
        (true, _) => "Ready",
        (false, true) => "NEEDS A PERSON",
        (false, false) => "not ready yet",
    };
    let Report { name, namespace, state, summary, .. } = report;
    format!("{name} in {namespace}: {word} ({state}): {summary}")
}

/// Numbers of status are rounded there, to the leading digit from a thousand on.
fn number(number: i64, exact: bool) -> String {
    if number >= 1000 && !exact { format!("about {number}") } else { number.to_string() }
}

fn nodes(nodes: &[NodeReport], exact: bool) -> Vec<Vec<String>> {
    let mut lines =
        vec![["NODE", "STATUS", "DATABASE", "STATUS THERE", "PROGRESS", "BEHIND"].map(str::to_owned).to_vec()];
    for node in nodes {
        let mut lead = [node.name.clone(), node.status.clone()];
        if node.databases.is_empty() {
            lines.push([lead.as_slice(), &["-", "-", "", "-"].map(str::to_owned)].concat());
        }
        for copy in &node.databases {
            lines.push([lead.as_slice(), &cells(copy, exact)].concat());
            // The node's own words stand once.
            lead = [String::new(), String::new()];
        }
        if let Some(message) = &node.message {
            lines.push(vec![String::new(), format!("└ {message}")]);
        }
    }
    lines
}

fn cells(copy: &CopyReport, exact: bool) -> [String; 4] {
    let progress = copy.progress_percent.filter(|_| copy.status == "SYNCHRONIZING");
    [
        copy.name.clone(),
        copy.status.clone(),
        progress.map(bar).into_iter().chain(copy.progress.clone()).collect::<Vec<_>>().join(" "),
        copy.lag_entries.map_or_else(|| "-".to_owned(), |lag| number(lag, exact)),
    ]
}

/// `[########............]  40 %`
pub fn bar(percent: i32) -> String {
    let percent = usize::try_from(percent.clamp(0, 100)).unwrap_or(0);
    let done = percent * BAR / 100;
    format!("[{}{}] {percent:>3} %", "#".repeat(done), ".".repeat(BAR - done))
}

fn databases(report: &Report) -> Vec<Vec<String>> {
    let heads = ["DATABASE", "ONLINE ON", "A WRITE NEEDS", "A READ ASKS", "NEW NODES", "ABSENT NODES"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let all = report.replicas;
    let line = |database: &DatabaseReport| {
        let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "not declared".to_owned());
        let of = |value: Option<bool>, yes: &str, no: &str| match value {
            Some(true) => yes.to_owned(),
            Some(false) => no.to_owned(),
            None => "-".to_owned(),
        };
        vec![
            database.name.clone(),
            format!("{} of {all}", database.online),
            words(&database.write_quorum),
            database.read_quorum.clone().unwrap_or_else(|| "-".to_owned()),
            of(database.auto_deploy, "get it by themselves", "when asked: kubectl coequal deploy"),
            of(database.hot_alignment, "keep their place", "are removed, and deployed anew"),
        ]
    };
    lines.extend(report.databases.iter().map(line));
    lines
}

fn advised(advice: &Advice) -> String {
    let head = if advice.needs_a_person { "What is wrong" } else { "Under way" };
    let mut text = format!("{head}: {}\n", advice.reason);
    for line in advice.what.lines() {
        text += &format!("  {line}\n");
    }
    if !advice.what_to_do.is_empty() {
        text += "What to do\n";
    }
    for line in &advice.what_to_do {
        let indent = if line.starts_with("kubectl ") { "    " } else { "  " };
        text += &format!("{indent}{line}\n");
    }
    text
}

/// A line for each resource.
pub fn list(reports: &[Report], everywhere: bool, namespace: &str) -> String {
    if reports.is_empty() {
        let place = if everywhere { "any namespace".to_owned() } else { format!("namespace {namespace}") };
        return format!("There is no ReplicatedDatabase in {place}.\n");
    }
    let heads = ["NAMESPACE", "NAME", "ONLINE", "STATE", "BACKLOG", "SUMMARY"].map(str::to_owned).to_vec();
    let line = |report: &Report| {
        vec![
            report.namespace.clone(),
            report.name.clone(),
            format!("{}/{}", report.online, report.replicas),
            report.state.clone(),
            report.backlog_entries.map_or_else(|| "-".to_owned(), |backlog| backlog.to_string()),
            report.summary.clone(),
        ]
    };
    table(&std::iter::once(heads).chain(reports.iter().map(line)).collect::<Vec<_>>())
}

/// Columns that line up. A line with fewer cells ends with one that may be as long as it likes.
pub fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let whole = lines.iter().filter(|line| line.len() == columns);
    let width =
        |column: usize| whole.clone().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| {
            let clean: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("{clean:<width$}")
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
