//! Numbers for `/metrics`. Labels come from bounded sets: databases, nodes, statuses.

use super::caretaker;
use super::node::{Node, Place, State};
use super::service::{MetricKind, MetricSample, user_databases};
use coequal_protocol::forced_recovery::recoveries;
use coequal_types::{DatabaseName, DatabaseStatus, NodeStatus};
use std::sync::atomic::{AtomicU64, Ordering};

type Labels = Vec<(&'static str, String)>;

fn gauge(name: &'static str, help: &'static str, labels: Labels, value: f64) -> MetricSample {
    MetricSample { name, help, kind: MetricKind::Gauge, labels, value }
}

fn counter(name: &'static str, help: &'static str, labels: Labels, value: f64) -> MetricSample {
    MetricSample { name, help, kind: MetricKind::Counter, labels, value }
}

#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

/// All samples of this room.
pub(super) fn samples(node: &Node) -> Vec<MetricSample> {
    let mut samples = Vec::new();
    let state = node.state();
    let online = f64::from(u8::from(state.status == NodeStatus::Online));
    samples.push(gauge("coequal_node_online", "Whether the node is ONLINE (1) or not (0).", vec![], online));
    for entry in state.nodes.values().filter(|entry| entry.id != node.id && !entry.removed) {
        let reachable = f64::from(u8::from(state.detector.reaches(entry.id)));
        let labels = vec![("peer", entry.name.to_string())];
        samples.push(gauge("coequal_peer_reachable", "Whether this node reaches the peer.", labels, reachable));
    }
    samples.extend(troubles(&state));
    for known in user_databases(&state.databases) {
        let name = known.configuration.name.to_string();
        let (status, _, _) = known.status();
        for candidate in DatabaseStatus::ALL {
            let labels = vec![("database", name.clone()), ("status", candidate.to_string())];
            let value = f64::from(u8::from(candidate == status));
            samples.push(gauge(
                "coequal_database_status",
                "1 for the status that the database has on this node.",
                labels,
                value,
            ));
        }
        if let Place::Open(handle) = &known.place {
            let names = |peer: &coequal_types::NodeId| {
                state.nodes.get(peer).map_or_else(|| peer.to_string(), |e| e.name.to_string())
            };
            open_database(&mut samples, &name, handle, names);
            samples.push(gauge(
                "coequal_low_bound_missing_nodes",
                "Nodes without which the collection of tombstones does not go on.",
                vec![("database", name.clone())],
                float(super::tombstones::waits_for(node, &state, &known.configuration).len() as u64),
            ));
        }
    }
    drop(state);
    for peer in node.network.stats() {
        let labels = vec![("peer", peer.node.to_string())];
        samples.push(counter(
            "coequal_network_sent_bytes_total",
            "Bytes sent to the peer.",
            labels.clone(),
            float(peer.sent_bytes),
        ));
        samples.push(counter(
            "coequal_network_sent_frames_total",
            "Frames sent to the peer; each has the messages that waited together.",
            labels.clone(),
            float(peer.sent_frames),
        ));
        samples.push(counter(
            "coequal_network_dropped_messages_total",
            "Messages not queued for a slow or dead peer.",
            labels,
            float(peer.dropped_messages),
        ));
    }
    samples
}

/// What a person has to know of even if everything serves.
fn troubles(state: &State) -> [MetricSample; 3] {
    let forced = caretaker::newest(state, &DatabaseName::system()).map_or(0, |system| recoveries(system.epoch));
    let lost = "Nodes that were given up in forced recoveries.";
    let used_twice =
        "Times that a connection was refused because two processes use one node identity, here or of peers.";
    [
        gauge("coequal_forced_recoveries", "How often the cluster was recovered by force.", vec![], float(forced)),
        gauge("coequal_lost_nodes", lost, vec![], float(state.lost.len() as u64)),
        counter("coequal_identity_conflicts_total", used_twice, vec![], float(state.identity_conflicts)),
    ]
}

fn open_database(
    samples: &mut Vec<MetricSample>,
    name: &str,
    handle: &super::database_loop::ReplicaHandle,
    peer_name: impl Fn(&coequal_types::NodeId) -> String,
) {
    let labels = || vec![("database", name.to_owned())];
    samples.extend(gauges(handle).into_iter().map(|(metric, help, value)| gauge(metric, help, labels(), value)));
    samples.extend(counters(handle).into_iter().map(|(metric, help, value)| counter(metric, help, labels(), value)));
    comparison(samples, handle, labels);
    for (peer, backlog) in &handle.view().backlog {
        let labels = vec![("database", name.to_owned()), ("peer", peer_name(peer))];
        let help = "Entries of this node's change feed that the peer has not confirmed: its durable queue.";
        samples.push(gauge("coequal_feed_backlog_entries", help, labels, float(*backlog)));
    }
}

fn comparison(
    samples: &mut Vec<MetricSample>,
    handle: &super::database_loop::ReplicaHandle,
    labels: impl Fn() -> Labels,
) {
    let view = handle.view();
    let (totals, last) = (view.comparison.totals, &view.comparison.last);
    let rows: [Row; 7] = [
        ("coequal_comparisons_total", "Comparisons of ranges that ended on this node.", float(totals.ended)),
        ("coequal_comparison_keys_total", "Keys compared with other nodes' copies.", float(totals.keys)),
        (
            "coequal_comparison_differences_total",
            "Silent differences that this node's comparisons found.",
            float(totals.differences),
        ),
        ("coequal_comparison_repaired_total", "Of those: repaired, here or at the peer.", float(totals.repaired)),
        (
            "coequal_comparison_quarantined_total",
            "Of those: copies with another content than a quorum.",
            float(totals.quarantined),
        ),
        ("coequal_comparison_unresolved_total", "Of those: left as they are.", float(totals.unresolved)),
        (
            "coequal_comparison_received_repairs_total",
            "Revisions that other nodes' comparisons brought to this copy.",
            float(totals.received),
        ),
    ];
    samples.extend(rows.into_iter().map(|(name, help, value)| counter(name, help, labels(), value)));
    let running = f64::from(u8::from(view.comparison.running.is_some()));
    samples.push(gauge("coequal_comparison_running", "Whether a comparison is under way.", labels(), running));
    if let Some(ended_ms) = last.as_ref().and_then(|last| last.ended_unix_ms) {
        let help = "Unix time at which the last comparison ended.";
        samples.push(gauge("coequal_comparison_last_end_timestamp_seconds", help, labels(), float(ended_ms) / 1000.0));
        let left = last.as_ref().map_or(0, |last| last.unresolved);
        let help = "Differences that the last comparison left.";
        samples.push(gauge("coequal_comparison_last_unresolved", help, labels(), float(left)));
    }
}

/// Name, help and value.
type Row = (&'static str, &'static str, f64);

fn gauges(handle: &super::database_loop::ReplicaHandle) -> [Row; 9] {
    let (view, counts) = (handle.view(), handle.store.counts());
    let pressure = f64::from(handle.store.overlay_pressure());
    [
        ("coequal_documents", "Live documents in the local store.", float(counts.documents)),
        ("coequal_tombstones", "Deleted documents that the local store remembers.", float(counts.tombstones)),
        ("coequal_epoch", "Epoch of the database's configuration.", float(view.epoch)),
        ("coequal_writes_in_flight", "Documents with writes under way on this node.", float(view.writes_in_flight)),
        (
            "coequal_undecided_documents",
            "Documents of which something is accepted here that is not known to be chosen.",
            float(handle.store.pending_count() as u64),
        ),
        (
            "coequal_disk_full",
            "Whether writes are refused because the disk is full.",
            f64::from(u8::from(view.disk_full)),
        ),
        (
            "coequal_overlay_pressure_ratio",
            "Memory of writes not yet in a checkpoint, relative to its setting.",
            pressure,
        ),
        (
            "coequal_low_bound_agreed_timestamp_seconds",
            "Unix time before which no write is taken any more, agreed on to collect tombstones.",
            seconds(view.configuration.low_bound.agreed),
        ),
        (
            "coequal_low_bound_collected_timestamp_seconds",
            "Unix time before which deleted documents are forgotten.",
            seconds(view.configuration.low_bound.collected),
        ),
    ]
}

/// Unix seconds of a ballot's time.
fn seconds(time: u64) -> f64 {
    float(coequal_protocol::clock::physical_ms(time)) / 1e3
}

fn counters(handle: &super::database_loop::ReplicaHandle) -> [Row; 7] {
    let read = |value: &AtomicU64| float(value.load(Ordering::Relaxed));
    let counters = &handle.counters;
    let seconds = read(&counters.commit_micros) / 1e6;
    let view = handle.view();
    [
        ("coequal_log_commits_total", "Commits (fsyncs) of the log.", read(&counters.commits)),
        ("coequal_log_commit_seconds_total", "Time spent in commits of the log.", seconds),
        ("coequal_checkpoints_total", "Checkpoints written.", read(&counters.checkpoints)),
        ("coequal_learned_revisions_total", "Chosen revisions that became known here.", read(&counters.learned)),
        ("coequal_status_changes_total", "Changes of the database's status here.", read(&counters.status_changes)),
        ("coequal_collected_tombstones_total", "Tombstones collected here.", float(view.collected_tombstones)),
        (
            "coequal_collected_promises_total",
            "Promises without a value collected here.",
            float(view.collected_promises),
        ),
    ]
}
