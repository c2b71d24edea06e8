//! The live table as lines of text. Pure.

use super::rows::{NodeRow, database_cell};

const HEADS: [&str; 7] = ["NODE", "API", "PID", "STATUS", "BACKLOG", "RESTARTS", "DATABASES"];

/// Title, one line a node, and recent events, cut to the size of the terminal.
pub fn frame(title: &str, rows: &[NodeRow], events: &[String], columns: usize, lines: usize) -> Vec<String> {
    let mut frame = vec![title.to_owned(), String::new()];
    frame.extend(table(rows));
    frame.push(String::new());
    // One line is left for the cursor; the newest events are worth most.
    let room = lines.saturating_sub(1).saturating_sub(frame.len());
    let first = events.len().saturating_sub(room);
    frame.extend(events.iter().skip(first).cloned());
    frame.truncate(lines.saturating_sub(1).max(1));
    frame.into_iter().map(|line| cut(&line, columns)).collect()
}

fn table(rows: &[NodeRow]) -> Vec<String> {
    let mut cells: Vec<[String; 7]> = vec![HEADS.map(str::to_owned)];
    cells.extend(rows.iter().map(line_cells));
    let width = |column: usize| cells.iter().map(|line| line.get(column).map_or(0, |cell| cell.chars().count())).max();
    let widths: Vec<usize> = (0..HEADS.len()).map(|column| width(column).unwrap_or(0)).collect();
    let joined = |line: &[String; 7]| {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(joined).collect()
}

fn line_cells(row: &NodeRow) -> [String; 7] {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let mut status = row.status.to_string();
    if row.leaving {
        status += " leaving";
    }
    let mut restarts = row.restarts.to_string();
    if let Some(seconds) = row.next_start_seconds {
        restarts += &format!(", next in {seconds} s");
    }
    let mut databases: Vec<String> =
        row.databases.iter().filter(|database| !database.name.is_system()).map(database_cell).collect();
    databases.extend(row.message.iter().map(|message| format!("({message})")));
    [
        row.name.clone(),
        row.url.clone().unwrap_or_else(|| "-".to_owned()),
        number(row.pid.map(u64::from)),
        status,
        number(row.backlog_entries),
        restarts,
        databases.join(", "),
    ]
}

/// Cut to the width, with a sign that it was. A line never wraps, so that the next frame finds its place.
fn cut(line: &str, columns: usize) -> String {
    let clean = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    if line.chars().count() <= columns {
        return clean.collect();
    }
    clean.take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::rows::tests::{progress, row};
    use super::*;
    use crate::controller::node_status::ShownStatus;
    use coequal_types::DatabaseStatus;

    #[test]
    fn the_table_lines_up_and_shows_progress_and_the_next_start() {
        let busy = row(ShownStatus::Synchronizing, &[("orders", DatabaseStatus::Synchronizing, Some(progress(400)))]);
        let mut down = row(ShownStatus::Offline, &[]);
        (down.pid, down.backlog_entries, down.restarts, down.next_start_seconds) = (None, None, 2, Some(4));
        down.message = Some("ended".to_owned());
        let frame = frame("title", &[busy, down], &["event".to_owned()], 200, 40);
        let expected = [
            "title",
            "",
            "NODE      API                    PID   STATUS         BACKLOG  RESTARTS        DATABASES",
            "orders-1  http://127.0.0.1:7601  4711  SYNCHRONIZING  0        0               orders SYNCHRONIZING draining 40 % 1 s left",
            "orders-1  http://127.0.0.1:7601  -     OFFLINE        -        2, next in 4 s  (ended)",
            "",
            "event",
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        let rows = vec![row(ShownStatus::Online, &[("orders", DatabaseStatus::Online, None)]); 5];
        let events: Vec<String> = (0..20).map(|n| format!("event {n} ä\u{1b}[31m")).collect();
        for (columns, lines) in [(80, 24), (20, 12), (1, 3), (500, 500)] {
            let frame = frame("a title that is rather long", &rows, &events, columns, lines);
            assert!(frame.len() < lines.max(2), "{columns}x{lines}");
            assert!(frame.iter().all(|line| line.chars().count() <= columns && !line.contains('\u{1b}')));
        }
        let frame = frame("t", &rows, &events, 80, 24);
        assert!(frame.last().unwrap().starts_with("event 19"), "the newest event is kept");
    }
}
