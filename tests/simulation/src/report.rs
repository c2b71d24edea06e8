//! What was searched, in figures.

use crate::faults::FaultKind;
use std::collections::BTreeMap;
use std::io::Write as _;

/// Counts of one schedule, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Schedules.
    pub schedules: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Writes that were acknowledged.
    pub written: u64,
    /// Calls whose outcome nobody knew.
    pub unknown: u64,
    /// Things that happened.
    pub events: u64,
    /// Packets that were sent.
    pub packets: u64,
    /// Commits of logs.
    pub commits: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Changes to ONLINE.
    pub onlines: u64,
    /// Microseconds of simulated time.
    pub simulated_us: u64,
    /// Faults by kind.
    pub faults: BTreeMap<FaultKind, u64>,
}

impl Statistics {
    /// One more fault of a kind.
    pub fn count(&mut self, kind: FaultKind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Adds the counts of others.
    pub fn add(&mut self, other: &Self) {
        let Self { schedules, calls, written, unknown, events, packets, commits, checkpoints, onlines, .. } = other;
        self.schedules += schedules;
        self.calls += calls;
        self.written += written;
        self.unknown += unknown;
        self.events += events;
        self.packets += packets;
        self.commits += commits;
        self.checkpoints += checkpoints;
        self.onlines += onlines;
        self.simulated_us += other.simulated_us;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }
}

impl std::fmt::Display for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "schedules {}", self.schedules)?;
        writeln!(f, "calls of clients {} (written {}, unknown {})", self.calls, self.written, self.unknown)?;
        writeln!(f, "events {}, packets {}, commits {}", self.events, self.packets, self.commits)?;
        writeln!(f, "checkpoints {}, changes to ONLINE {}", self.checkpoints, self.onlines)?;
        writeln!(f, "simulated seconds {}", self.simulated_us / 1_000_000)?;
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        write!(f, "faults and what followed: {}", faults.join(", "))
    }
}

/// Writes a line for people; one that cannot be written is nobody's loss.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
