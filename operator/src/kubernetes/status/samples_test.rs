//! Resources as they stand in the API server in each situation, made by the functions that write status. They are
//! committed under `tests/gitops/samples`, where other tools' own judges (kstatus, Argo CD) and the plugin read them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::controller::validate::validate;
use crate::crd::{ReplicatedDatabase, UNSEEN};
use coequal_types::rest::{
    DatabaseDescription, DatabaseOnNode, NodeDescription, ReplicaView, ReplicationDescription, Role,
};
use coequal_types::{DatabaseSettings, NodeId, NodeName, NodeStatus, Progress, SynchronizationPhase};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const DATABASE: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002);
/// 1 January 2026.
const NOW: i64 = 1_767_225_600;

fn now() -> Time {
    Time(Timestamp::from_second(NOW).unwrap())
}

fn name(ordinal: u32) -> NodeName {
    format!("orders-{ordinal}").parse().unwrap()
}

fn on_node(status: DatabaseStatus, progress: Option<Progress>) -> DatabaseOnNode {
    DatabaseOnNode { name: "orders".parse().unwrap(), uuid: DATABASE, status, progress, message: None }
}

fn node(ordinal: u32) -> ObservedNode {
    let mut node = ObservedNode::unseen(name(ordinal), ordinal);
    node.carrier = Carrier::Running;
    node.ready = Some(true);
    node.report = Some(NodeDescription {
        message: None,
        id: NodeId(0x1000 + u64::from(ordinal)),
        name: name(ordinal),
        incarnation: 1,
        status: NodeStatus::Online,
        version: "0.1.0".to_owned(),
        cluster_id: Some(CLUSTER),
        peer_address: String::new(),
        api_address: String::new(),
        databases: vec![on_node(DatabaseStatus::Online, None)],
    });
    node.databases = Some(vec![DatabaseDescription {
        name: "orders".parse().unwrap(),
        uuid: DATABASE,
        configuration: DatabaseSettings::default(),
        epoch: 3,
        status: DatabaseStatus::Online,
        progress: None,
        message: None,
        documents: 171_075,
        tombstones: 0,
    }]);
    node
}

fn cluster(nodes: u32) -> Observed {
    Observed { beginning: Beginning::Initialized(CLUSTER), nodes: (0..nodes).map(node).collect() }
}

/// `orders-2` behind by 3456 entries, in the eyes of `orders-0`.
fn behind(observed: &mut Observed) {
    observed.nodes[0].replication = vec![ReplicationDescription {
        tombstone_collection: Default::default(),
        name: "orders".parse().unwrap(),
        uuid: DATABASE,
        epoch: 3,
        changing: false,
        node: NodeId(0x1000),
        status: DatabaseStatus::Online,
        progress: None,
        aligned: None,
        nodes: vec![ReplicaView {
            node: NodeId(0x1002),
            name: name(2),
            role: Role::Voter,
            status: DatabaseStatus::Synchronizing,
            progress: None,
            reachable: true,
            last_contact_seconds: None,
            backlog_entries: 3456,
            backlog_bound_entries: 171_075,
        }],
    }];
}

fn offline(observed: &mut Observed, ordinal: u32) {
    let id = usize::try_from(ordinal).unwrap();
    observed.nodes[id] = ObservedNode { carrier: Carrier::BackingOff, ..ObservedNode::unseen(name(ordinal), ordinal) };
}

/// What is written about a cluster of `replicas` nodes that looks like this.
fn written(replicas: u32, observed: &Observed, activity: Option<(R, &str)>, obstacles: &[Obstacle]) -> Value {
    let head = "apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: orders}";
    let wish = validate(&format!("{{{head}, spec: {{replicas: {replicas}}}}}")).unwrap();
    let words = |node: &ObservedNode| PodWords {
        trouble: None,
        should_answer: true,
        probe_passes: node.carrier == Carrier::Running && node.report.is_some(),
    };
    let words: BTreeMap<u32, PodWords> = observed.nodes.iter().map(|node| (node.ordinal, words(node))).collect();
    let facts = Facts {
        generation: Some(4),
        wish: &wish,
        observed,
        pods: &words,
        activity: activity.map(|(reason, text)| (reason, text.to_owned())),
        obstacles,
        certificates: &(true, R::CertificatesIssued, "until then".to_owned()),
    };
    let initialized = observed.beginning != Beginning::NotBegun;
    let old = ReplicatedDatabaseStatus { initialized, ..first(Some(4), &now()) };
    serde_json::to_value(status(&old, &facts, &now())).unwrap()
}

fn object(generation: i64, replicas: u32, status: Value) -> Value {
    json!({
        "apiVersion": crate::crd::API_VERSION,
        "kind": crate::crd::KIND,
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "uid": "0a3c3b0e-0000-4000-8000-000000000000",
            "resourceVersion": "1234",
            "generation": generation,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "replicas": replicas,
            "unreachableGracePeriodSeconds": 60,
            "storage": { "size": "1Gi" },
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Retain" },
        },
        "status": status,
    })
}

/// What the API server itself gives to a resource that no operator has seen.
fn fresh() -> Value {
    let status = ReplicatedDatabaseStatus { observed_generation: Some(UNSEEN), ..Default::default() };
    serde_json::to_value(status).unwrap()
}

fn starting() -> Value {
    let mut observed = cluster(3);
    observed.beginning = Beginning::NotBegun;
    for node in &mut observed.nodes {
        (node.ready, node.report, node.databases) = (Some(false), None, None);
    }
    let waits = "waiting for orders-0 to answer; it initialises the cluster";
    written(3, &observed, Some((R::NodesStarting, waits)), &[])
}

/// All nodes begin again at the same time, as after a power failure.
fn waking() -> Value {
    let mut observed = cluster(3);
    for node in &mut observed.nodes {
        node.ready = Some(false);
        node.report.as_mut().unwrap().status = NodeStatus::Starting;
    }
    written(3, &observed, Some((R::NodesStarting, "waiting for orders-0 to be ONLINE")), &[])
}

fn synchronizing() -> Value {
    let mut observed = cluster(3);
    let progress = Progress {
        phase: SynchronizationPhase::Draining,
        entries_done: 40_000,
        entries_total: 100_000,
        entries_per_second: 12_000.0,
        eta_seconds: Some(5.0),
    };
    observed.nodes[2].ready = Some(false);
    let report = observed.nodes[2].report.as_mut().unwrap();
    report.databases = vec![on_node(DatabaseStatus::Synchronizing, Some(progress))];
    behind(&mut observed);
    written(3, &observed, Some((R::NodesStarting, "waiting for orders-2 to be ONLINE")), &[])
}

fn one_offline() -> Value {
    let mut observed = cluster(3);
    offline(&mut observed, 2);
    behind(&mut observed);
    written(3, &observed, Some((R::NodesStarting, "waiting for orders-2 to be ONLINE")), &[])
}

fn no_quorum() -> Value {
    let mut observed = cluster(3);
    offline(&mut observed, 1);
    offline(&mut observed, 2);
    written(3, &observed, Some((R::NodesStarting, "waiting for orders-1 to be ONLINE")), &[])
}

fn stalled() -> Value {
    let mut observed = cluster(3);
    offline(&mut observed, 2);
    let message =
        "orders-2: the image registry.example.com/coequal-node:0.2 cannot be fetched: not found; correct spec.image";
    let obstacle = Obstacle { reason: R::ImageNotAvailable, message: message.to_owned() };
    written(3, &observed, Some((R::UpdatingNodes, "waiting for orders-2 to be ONLINE")), &[obstacle])
}

fn invalid_spec() -> Value {
    let before = serde_json::from_value(written(3, &cluster(3), None, &[])).unwrap();
    let faults = "spec.databases[0].writeQuorum: is 1; it is at least a majority of 3 replicas, which is 2";
    serde_json::to_value(invalid(&before, Some(5), faults, &now())).unwrap()
}

/// Name and resource of each situation.
fn all() -> Vec<(&'static str, Value)> {
    let ready = || written(3, &cluster(3), None, &[]);
    let hibernated = Observed { nodes: vec![], ..cluster(0) };
    let updating = Some((R::UpdatingNodes, "orders-2 restarts with what the manifest says now"));
    let mut deleting = object(4, 3, ready());
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    deleting["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    vec![
        ("fresh", object(1, 3, fresh())),
        ("begun", object(4, 3, serde_json::to_value(first(Some(4), &now())).unwrap())),
        ("starting", object(4, 3, starting())),
        ("waking", object(4, 3, waking())),
        ("synchronizing", object(4, 3, synchronizing())),
        ("ready", object(4, 3, ready())),
        ("changed", object(5, 5, ready())),
        ("updating", object(4, 3, written(3, &cluster(3), updating, &[]))),
        ("one-offline", object(4, 3, one_offline())),
        ("no-quorum", object(4, 3, no_quorum())),
        ("stalled", object(4, 3, stalled())),
        ("invalid", object(5, 3, invalid_spec())),
        ("hibernated", object(4, 0, written(0, &hibernated, None, &[]))),
        ("deleting", deleting),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/gitops/samples/{name}.yaml"))
}

fn text(name: &str, value: &Value) -> String {
    // Through JSON text: serde_json keeps numbers as written, in a form that only its own writer understands.
    let value: serde_yaml::Value = serde_json::from_str(&value.to_string()).unwrap();
    let head = "Written by the tests of operator/src/kubernetes/status; to write it anew set COEQUAL_WRITE_SAMPLES=1.";
    format!("# {name}. {head}\n{}", serde_yaml::to_string(&value).unwrap())
}

#[test]
fn the_committed_samples_are_what_is_written() {
    for (name, value) in all() {
        let text = text(name, &value);
        if std::env::var_os("COEQUAL_WRITE_SAMPLES").is_some() {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(path(name)).unwrap_or_default();
        assert!(committed == text, "{name} differs; look at it, and set COEQUAL_WRITE_SAMPLES=1 to write:\n{text}");
        serde_json::from_value::<ReplicatedDatabase>(value).expect(name);
    }
}
