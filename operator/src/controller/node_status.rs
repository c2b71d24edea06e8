//! Status of a node: what carries it, its own word, and its peers' word, in one table.
//!
//! | carrier | own report | peers | status |
//! |---|---|---|---|
//! | absent, backing off, unknown | — | any | OFFLINE |
//! | stopping, or says so itself | any | any | SHUTTINGDOWN |
//! | running | no answer, and none expected yet; STARTING | any | STARTING |
//! | running | ONLINE, probe fails | any | SYNCHRONIZING |
//! | running | ONLINE, probe passes | reach it, or cannot tell | ONLINE |
//! | running | ONLINE, probe passes | do not reach it | OFFLINE |
//! | running | none, though it should | reach it | ONLINE, with a message |
//! | running | none, and the kubelet's probe passes | cannot tell | ONLINE, with a message |
//! | running | none, though it should | do not reach it, or cannot tell | OFFLINE |

use super::observed::Carrier;
use coequal_types::NodeStatus;
use std::fmt;

/// Status of a node as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownStatus {
    /// Not there, or not reachable.
    Offline,
    /// Starts.
    Starting,
    /// Takes part, and aligns or receives at least one database.
    Synchronizing,
    /// Serves every database that it should.
    Online,
    /// Stops.
    ShuttingDown,
}

/// The three views of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Views {
    /// What carries it.
    pub carrier: Carrier,
    /// Its own word; `None` without an answer.
    pub report: Option<NodeStatus>,
    /// Whether it answered since it was started, or had time enough to.
    pub should_answer: bool,
    /// Whether its readiness probe passes.
    pub ready: bool,
    /// Whether a peer reaches it; `None` if nobody can tell.
    pub reached_by_peers: Option<bool>,
    /// Whether somebody else than the operator (a kubelet) finds that its readiness probe passes.
    pub probe_passes: bool,
}

/// The status, and why where the status alone does not say it.
pub fn node_status(views: Views) -> (ShownStatus, Option<&'static str>) {
    use ShownStatus as S;
    let Views { carrier, report, should_answer, ready, reached_by_peers, probe_passes } = views;
    match (carrier, report) {
        (Carrier::Absent, _) => (S::Offline, None),
        (Carrier::BackingOff, _) => (S::Offline, Some("ended by itself, waits for its next start")),
        (Carrier::Unknown, _) => (S::Offline, Some("its machine is lost")),
        (Carrier::Stopping, _) | (Carrier::Running, Some(NodeStatus::ShuttingDown)) => (S::ShuttingDown, None),
        (Carrier::Running, Some(NodeStatus::Starting | NodeStatus::Offline)) => (S::Starting, None),
        (Carrier::Running, Some(NodeStatus::Online)) if !ready => (S::Synchronizing, None),
        (Carrier::Running, Some(NodeStatus::Online)) if reached_by_peers == Some(false) => {
            (S::Offline, Some("PeersCannotReach: no other node reaches it"))
        }
        (Carrier::Running, Some(NodeStatus::Online)) => (S::Online, None),
        (Carrier::Running, None) if !should_answer => (S::Starting, None),
        (Carrier::Running, None) if reached_by_peers == Some(true) => {
            (S::Online, Some("answers its peers, but not the operator; does a NetworkPolicy keep it out?"))
        }
        // When the operator reaches no node at all, the kubelets are the only ones who can tell.
        (Carrier::Running, None) if reached_by_peers.is_none() && probe_passes => (
            S::Online,
            Some("its readiness probe passes, but it does not answer the operator; does a NetworkPolicy keep it out?"),
        ),
        (Carrier::Running, None) if reached_by_peers == Some(false) => {
            (S::Offline, Some("runs, but neither the other nodes nor the operator reach it: look at its network"))
        }
        (Carrier::Running, None) => (S::Offline, Some("runs, but does not answer")),
    }
}

impl ShownStatus {
    /// The status as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "OFFLINE",
            Self::Starting => "STARTING",
            Self::Synchronizing => "SYNCHRONIZING",
            Self::Online => "ONLINE",
            Self::ShuttingDown => "SHUTTINGDOWN",
        }
    }
}

impl fmt::Display for ShownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Carrier::*;

    #[test]
    fn the_table_of_views_gives_one_status_each() {
        use NodeStatus as N;
        use ShownStatus as S;
        // carrier, report, should answer, ready, peers, status; nobody else probes them
        let table = [
            (Absent, None, false, false, None, S::Offline),
            (Absent, Some(N::Online), true, true, Some(true), S::Offline),
            (BackingOff, None, true, false, Some(false), S::Offline),
            (Unknown, None, true, false, Some(false), S::Offline),
            (Stopping, Some(N::Online), true, true, Some(true), S::ShuttingDown),
            (Running, Some(N::ShuttingDown), true, false, Some(true), S::ShuttingDown),
            (Running, None, false, false, None, S::Starting),
            (Running, Some(N::Starting), true, false, Some(true), S::Starting),
            (Running, Some(N::Online), true, false, Some(true), S::Synchronizing),
            (Running, Some(N::Online), true, false, Some(false), S::Synchronizing),
            (Running, Some(N::Online), true, true, Some(true), S::Online),
            (Running, Some(N::Online), true, true, None, S::Online),
            (Running, Some(N::Online), true, true, Some(false), S::Offline),
            (Running, None, true, false, Some(true), S::Online),
            (Running, None, true, false, Some(false), S::Offline),
            (Running, None, true, false, None, S::Offline),
        ];
        for (carrier, report, should_answer, ready, reached_by_peers, status) in table {
            let views = Views { carrier, report, should_answer, ready, reached_by_peers, probe_passes: false };
            assert_eq!(node_status(views).0, status, "{views:?}");
        }
        // Silent to the operator, with a probe that passes: the peers' word counts where there is one.
        for (reached_by_peers, status) in [(None, S::Online), (Some(true), S::Online), (Some(false), S::Offline)] {
            let silent = Views {
                carrier: Running,
                report: None,
                should_answer: true,
                ready: false,
                reached_by_peers,
                probe_passes: true,
            };
            assert_eq!(node_status(silent).0, status, "{silent:?}");
        }
    }
}
