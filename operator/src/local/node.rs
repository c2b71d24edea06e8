//! One replica as the supervisor knows it.

use super::backoff::Backoff;
use super::log_file::LogFile;
use super::ports::Ports;
use super::process::Process;
use super::rows::NodeRow;
use crate::controller::node_status::{ShownStatus, Views, node_status};
use crate::controller::observed::{Carrier, Observed, ObservedNode};
use crate::nodes::Look;
use coequal_types::{NodeName, NodeStatus};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// One answer that fails to come is no news yet.
const SILENCE_IS_NEWS_AFTER: Duration = Duration::from_secs(3);

/// A replica, running or not.
#[derive(Debug)]
pub struct LocalNode {
    /// Its name.
    pub name: NodeName,
    /// The number at the end of the name.
    pub ordinal: u32,
    /// Its ports, once it has some.
    pub ports: Option<Ports>,
    /// Its process, while there is one.
    pub process: Option<Process>,
    /// Counts its processes, so that a late message of an old one is known as such.
    pub generation: u64,
    /// Its log.
    pub log: LogFile,
    /// Waits after failures.
    pub backoff: Backoff,
    /// When it may start again after a failure.
    pub next_start: Option<Instant>,
    /// Starts after failures.
    pub restarts: u32,
    /// Whether its data is set aside once it has stopped.
    pub set_aside: bool,
    /// Whether it has a directory.
    pub has_data: bool,
    /// The task that looks at it.
    pub looker: Option<AbortHandle>,
    look: Option<Look>,
    answered_at: Option<Instant>,
    healthy_since: Option<Instant>,
}

impl LocalNode {
    /// A replica that does not run yet.
    pub fn new(name: NodeName, ordinal: u32, log: LogFile) -> Self {
        Self {
            name,
            ordinal,
            ports: None,
            process: None,
            generation: 0,
            log,
            backoff: Backoff::default(),
            next_start: None,
            restarts: 0,
            set_aside: false,
            has_data: false,
            looker: None,
            look: None,
            answered_at: None,
            healthy_since: None,
        }
    }

    /// A process of it has begun.
    pub fn begun(&mut self, process: Process, looker: AbortHandle) {
        self.process = Some(process);
        self.looker = Some(looker);
        self.next_start = None;
        self.has_data = true;
    }

    /// Its process is gone; whatever was seen of it is too.
    pub fn ended(&mut self) {
        self.process = None;
        if let Some(looker) = self.looker.take() {
            looker.abort();
        }
        (self.look, self.answered_at, self.healthy_since) = (None, None, None);
    }

    /// It failed: when it starts again.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.backoff.after_failure();
        self.next_start = Some(now + wait);
        self.restarts = self.restarts.saturating_add(1);
        wait
    }

    /// Takes in what a look saw.
    pub fn saw(&mut self, look: Look, now: Instant) {
        if look.report.is_some() {
            self.answered_at = Some(now);
        } else if let Some(last) = &mut self.look
            && self.answered_at.is_some_and(|at| now.duration_since(at) < SILENCE_IS_NEWS_AFTER)
        {
            last.begun = look.begun;
            return;
        }
        let online = look.report.as_ref().is_some_and(|report| report.status == NodeStatus::Online);
        if online && look.ready == Some(true) {
            let since = *self.healthy_since.get_or_insert(now);
            self.backoff.note_healthy(now.duration_since(since));
        } else {
            self.healthy_since = None;
        }
        self.look = Some(look);
    }

    /// Whether it answered since it was started.
    pub fn has_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Whether what is known of it was seen after `moment`.
    pub fn seen_after(&self, moment: Instant) -> bool {
        self.look.as_ref().is_none_or(|look| look.begun > moment)
    }

    /// What carries it now.
    pub fn carrier(&self, now: Instant) -> Carrier {
        match &self.process {
            Some(process) if process.is_stopping() => Carrier::Stopping,
            Some(_) => Carrier::Running,
            None if self.next_start.is_some_and(|at| at > now) => Carrier::BackingOff,
            None => Carrier::Absent,
        }
    }

    /// The replica as the decisions see it.
    pub fn observed(&self, now: Instant) -> ObservedNode {
        let mut seen = ObservedNode::unseen(self.name.clone(), self.ordinal);
        seen.carrier = self.carrier(now);
        seen.has_data = self.has_data;
        if let Some(look) = &self.look {
            seen.ready = look.ready;
            seen.report = look.report.clone();
            seen.view = look.view.clone();
            seen.databases = look.databases.clone();
            seen.replication = look.replication.clone();
        }
        seen
    }

    /// Its status, and why.
    pub fn status(&self, seen: &Observed, now: Instant) -> (ShownStatus, Option<&'static str>) {
        let look = self.look.as_ref();
        node_status(Views {
            carrier: self.carrier(now),
            report: look.and_then(|look| look.report.as_ref()).map(|report| report.status),
            should_answer: self.has_answered(),
            ready: look.is_some_and(|look| look.ready == Some(true)),
            reached_by_peers: seen.reached_by_peers(&self.name),
            probe_passes: false,
        })
    }

    /// Its line of the table.
    pub fn row(&self, seen: &Observed, now: Instant) -> NodeRow {
        let (status, why) = self.status(seen, now);
        let report = self.look.as_ref().and_then(|look| look.report.as_ref());
        let id = report.map(|report| report.id);
        let next = self.next_start.filter(|_| self.process.is_none());
        NodeRow {
            name: self.name.to_string(),
            url: self.ports.map(Ports::url),
            pid: self.process.as_ref().map(|process| process.pid),
            status,
            message: why.map(str::to_owned),
            databases: report.map(|report| report.databases.clone()).unwrap_or_default(),
            backlog_entries: id.and_then(|id| seen.backlog_entries(id)),
            restarts: self.restarts,
            next_start_seconds: next.map(|at| at.saturating_duration_since(now).as_secs_f64().ceil() as u64),
            leaving: self.is_leaving(seen),
        }
    }

    /// Whether any node knows that it is on its way out of the cluster.
    pub fn is_leaving(&self, seen: &Observed) -> bool {
        let Some(id) = self.look.as_ref().and_then(|look| look.report.as_ref()).map(|report| report.id) else {
            return false;
        };
        let views = seen.nodes.iter().filter_map(|node| node.view.as_ref());
        views.flat_map(|view| &view.nodes).any(|entry| entry.id == id && entry.leaving)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn nothing_seen(begun: Instant) -> Look {
        Look { begun, ready: None, report: None, view: None, databases: None, replication: Vec::new() }
    }

    #[test]
    fn a_failed_replica_waits_and_is_then_absent_so_that_it_is_started_again() {
        let mut node = LocalNode::new("a-0".parse().unwrap(), 0, LogFile::new("x.log".into()));
        let now = Instant::now();
        assert_eq!(node.carrier(now), Carrier::Absent);
        let wait = node.failed(now);
        assert_eq!(node.carrier(now), Carrier::BackingOff);
        assert_eq!(node.carrier(now + wait), Carrier::Absent);
        assert_eq!(node.restarts, 1);
        let seen = Observed { beginning: crate::controller::observed::Beginning::NotBegun, nodes: vec![] };
        assert_eq!(node.row(&seen, now).next_start_seconds, Some(1));
    }

    #[test]
    fn what_was_seen_before_a_change_is_known_to_be_old() {
        let mut node = LocalNode::new("a-0".parse().unwrap(), 0, LogFile::new("x.log".into()));
        let now = Instant::now();
        assert!(node.seen_after(now), "nothing was seen, so nothing is old");
        node.saw(nothing_seen(now), now);
        assert!(!node.seen_after(now + Duration::from_secs(1)));
        assert!(!node.has_answered());
    }
}
