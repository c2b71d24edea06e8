//! Where people look: a table that redraws itself in a terminal, plain lines everywhere else.
//!
//! A thread of its own writes, so that a terminal that does not read (Ctrl-S, a full pipe) holds nothing up.

use super::clock::time_of_day;
use super::rows::{NodeRow, Saying, sayings};
use super::table::frame;
use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Events that are kept for the table.
const EVENTS_KEPT: usize = 100;
/// Lines that may wait for a slow reader; more are dropped.
const LINES_WAITING_MAX: usize = 10_000;
/// Time between two lines that tell only progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Shows what happens.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    out: Option<SyncSender<String>>,
    written: Receiver<()>,
    events: VecDeque<String>,
    told: BTreeMap<String, (Saying, Instant)>,
    lines_drawn: usize,
}

impl Screen {
    /// On standard output.
    pub fn open() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        // A terminal gets whole frames: one that waits is enough, the next is newer anyway.
        let (out, lines) = sync_channel::<String>(if is_terminal { 1 } else { LINES_WAITING_MAX });
        let (done, written) = sync_channel(1);
        let write = move || {
            while let Ok(text) = lines.recv() {
                let mut stdout = std::io::stdout().lock();
                if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        };
        let out = std::thread::Builder::new().name("screen".to_owned()).spawn(write).is_ok().then_some(out);
        Self { is_terminal, out, written, events: VecDeque::new(), told: BTreeMap::new(), lines_drawn: 0 }
    }

    /// Tells something that happened, now.
    pub fn tell(&mut self, text: &str) {
        let now = time_of_day();
        for (index, line) in text.lines().enumerate() {
            let line = if index == 0 { format!("{now} {line}") } else { format!("         {line}") };
            self.plain(line);
        }
    }

    /// A line without the time of day.
    pub fn plain(&mut self, line: String) {
        if !self.is_terminal {
            self.send(format!("{line}\n"));
        }
        self.events.push_back(line);
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }

    /// Tells what changed since it was told last.
    pub fn tell_changes(&mut self, rows: &[NodeRow], now: Instant) {
        let current: Vec<Saying> = rows.iter().flat_map(sayings).collect();
        self.told.retain(|subject, _| current.iter().any(|saying| saying.subject == *subject));
        for saying in current {
            let is_new = match self.told.get(&saying.subject) {
                Some((last, at)) => is_worth_telling(last, &saying, now.duration_since(*at), self.is_terminal),
                None => true,
            };
            if is_new {
                self.tell(&saying.line);
                self.told.insert(saying.subject.clone(), (saying, now));
            }
        }
    }

    /// Draws the table, if this is a terminal.
    pub fn draw(&mut self, title: &str, rows: &[NodeRow]) {
        if !self.is_terminal {
            return;
        }
        let size =
            rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, lines) = size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let events: Vec<String> = self.events.iter().cloned().collect();
        let frame = frame(title, rows, &events, columns, lines);
        let up = self.lines_drawn.min(lines.saturating_sub(1));
        if self.send(redraw(&frame, up)) {
            self.lines_drawn = frame.len();
        }
    }

    /// Whether the text was taken.
    fn send(&self, text: String) -> bool {
        self.out.as_ref().is_some_and(|out| out.try_send(text).is_ok())
    }

    /// Leaves the terminal as it was, and waits a moment for what is still to be written.
    pub fn close(mut self) {
        if let Some(out) = self.out.take() {
            if self.is_terminal {
                let begun = Instant::now();
                let mut text = SHOW_CURSOR.to_owned();
                while let Err(std::sync::mpsc::TrySendError::Full(back)) = out.try_send(text) {
                    if begun.elapsed() > Duration::from_secs(1) {
                        break;
                    }
                    text = back;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            drop(out);
            let _ = self.written.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// One write for a whole frame: each line over its former self, then nothing below.
fn redraw(frame: &[String], lines_up: usize) -> String {
    let mut text = HIDE_CURSOR.to_owned();
    if lines_up > 0 {
        text += &format!("\x1b[{lines_up}A");
    }
    text.push('\r');
    for line in frame {
        text += line;
        text += "\x1b[K\r\n";
    }
    text + "\x1b[J"
}

fn is_worth_telling(last: &Saying, now: &Saying, since: Duration, is_terminal: bool) -> bool {
    if last.state != now.state {
        return true;
    }
    // In a terminal the table shows the progress.
    last.line != now.line && !is_terminal && since >= PROGRESS_EVERY
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::rows::tests::{progress, row};
    use super::*;
    use crate::controller::node_status::ShownStatus;
    use coequal_types::DatabaseStatus;

    #[test]
    fn changes_of_state_are_told_at_once_and_progress_now_and_then() {
        let saying = |done| {
            let databases = [("orders", DatabaseStatus::Synchronizing, Some(progress(done)))];
            sayings(&row(ShownStatus::Synchronizing, &databases)).remove(0)
        };
        let online = sayings(&row(ShownStatus::Online, &[])).remove(0);
        let second = Duration::from_secs(1);
        assert!(is_worth_telling(&saying(1), &online, Duration::ZERO, true));
        assert!(!is_worth_telling(&saying(1), &saying(500), Duration::ZERO, false));
        assert!(is_worth_telling(&saying(1), &saying(500), second, false));
        assert!(!is_worth_telling(&saying(1), &saying(500), second, true));
        assert!(!is_worth_telling(&saying(1), &saying(1), second, false));
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_one() {
        let text = redraw(&["a".to_owned(), "b".to_owned()], 3);
        assert_eq!(text, "\x1b[?25l\x1b[3A\ra\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
