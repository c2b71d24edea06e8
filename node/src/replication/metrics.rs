//! Numbers for `/metrics`. Labels come from bounded sets: databases, nodes, statuses.

use super::node::{Node, Place};
use super::service::{MetricKind, MetricSample, user_databases};
use coequal_types::{DatabaseStatus, NodeStatus};
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
            "coequal_network_dropped_messages_total",
            "Messages not queued for a slow or dead peer.",
            labels,
            float(peer.dropped_messages),
        ));
    }
    samples
}

fn open_database(
    samples: &mut Vec<MetricSample>,
    name: &str,
    handle: &super::database_loop::ReplicaHandle,
    peer_name: impl Fn(&coequal_types::NodeId) -> String,
) {
    let view = handle.view();
    let labels = || vec![("database", name.to_owned())];
    let counts = handle.store.counts();
    let read = |value: &AtomicU64| float(value.load(Ordering::Relaxed));
    samples.push(gauge("coequal_documents", "Live documents in the local store.", labels(), float(counts.documents)));
    samples.push(gauge(
        "coequal_tombstones",
        "Deleted documents that the local store remembers.",
        labels(),
        float(counts.tombstones),
    ));
    samples.push(gauge("coequal_epoch", "Epoch of the database's configuration.", labels(), float(view.epoch)));
    samples.push(gauge(
        "coequal_writes_in_flight",
        "Documents with writes under way on this node.",
        labels(),
        float(view.writes_in_flight),
    ));
    samples.push(gauge(
        "coequal_disk_full",
        "Whether writes are refused because the disk is full.",
        labels(),
        f64::from(u8::from(view.disk_full)),
    ));
    samples.push(gauge(
        "coequal_overlay_pressure_ratio",
        "Memory of writes not yet in a checkpoint, relative to its setting.",
        labels(),
        f64::from(handle.store.overlay_pressure()),
    ));
    samples.push(counter(
        "coequal_log_commits_total",
        "Commits (fsyncs) of the log.",
        labels(),
        read(&handle.counters.commits),
    ));
    samples.push(counter(
        "coequal_log_commit_seconds_total",
        "Time spent in commits of the log.",
        labels(),
        read(&handle.counters.commit_micros) / 1e6,
    ));
    samples.push(counter(
        "coequal_checkpoints_total",
        "Checkpoints written.",
        labels(),
        read(&handle.counters.checkpoints),
    ));
    samples.push(counter(
        "coequal_learned_revisions_total",
        "Chosen revisions that became known here.",
        labels(),
        read(&handle.counters.learned),
    ));
    samples.push(counter(
        "coequal_status_changes_total",
        "Changes of the database's status here.",
        labels(),
        read(&handle.counters.status_changes),
    ));
    for (peer, backlog) in &view.backlog {
        let labels = vec![("database", name.to_owned()), ("peer", peer_name(peer))];
        samples.push(gauge(
            "coequal_feed_backlog_entries",
            "Entries of this node's change feed that the peer has not confirmed: its durable queue.",
            labels,
            float(*backlog),
        ));
    }
}
