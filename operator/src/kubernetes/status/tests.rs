//! Status in each situation: what a person, a pipeline and an autoscaler read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::controller::validate::validate;
use coequal_types::rest::{DatabaseDescription, NodeDescription};
use coequal_types::rest::{DatabaseOnNode, ReplicaView, ReplicationDescription, Role};
use coequal_types::{DatabaseSettings, NodeId, NodeName, NodeStatus};
use k8s_openapi::jiff::Timestamp;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(7);
const DATABASE: Uuid = Uuid::from_u128(1);

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn wish(replicas: u32) -> ValidatedDatabaseCluster {
    let head = "apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: o}";
    validate(&format!("{{{head}, spec: {{replicas: {replicas}}}}}")).unwrap()
}

fn name(ordinal: u32) -> NodeName {
    format!("o-{ordinal}").parse().unwrap()
}

fn node(ordinal: u32) -> ObservedNode {
    let mut node = ObservedNode::unseen(name(ordinal), ordinal);
    node.carrier = Carrier::Running;
    node.ready = Some(true);
    node.report = Some(NodeDescription {
        message: None,
        id: NodeId(u64::from(ordinal) + 1),
        name: name(ordinal),
        incarnation: 1,
        status: NodeStatus::Online,
        version: "0.1.0".to_owned(),
        cluster_id: Some(CLUSTER),
        peer_address: String::new(),
        api_address: String::new(),
        databases: vec![DatabaseOnNode {
            name: "o".parse().unwrap(),
            uuid: DATABASE,
            status: DatabaseStatus::Online,
            progress: None,
            message: None,
        }],
    });
    node.databases = Some(vec![DatabaseDescription {
        name: "o".parse().unwrap(),
        uuid: DATABASE,
        configuration: DatabaseSettings::default(),
        epoch: 3,
        status: DatabaseStatus::Online,
        progress: None,
        message: None,
        documents: 0,
        tombstones: 0,
    }]);
    node
}

fn cluster(nodes: u32) -> Observed {
    Observed { beginning: Beginning::Initialized(CLUSTER), nodes: (0..nodes).map(node).collect() }
}

/// The status, with nothing under way and nothing in the way unless said.
fn of(
    replicas: u32,
    observed: &Observed,
    activity: Option<(R, &str)>,
    obstacles: &[Obstacle],
) -> ReplicatedDatabaseStatus {
    let facts = Facts {
        generation: Some(4),
        wish: &wish(replicas),
        observed,
        pods: &BTreeMap::new(),
        activity: activity.map(|(reason, text)| (reason, text.to_owned())),
        obstacles,
        certificates: &(true, R::CertificatesIssued, "until then".to_owned()),
    };
    status(&ReplicatedDatabaseStatus { initialized: true, ..Default::default() }, &facts, &at(1))
}

fn condition<'a>(status: &'a ReplicatedDatabaseStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).expect(kind)
}

fn values(status: &ReplicatedDatabaseStatus) -> [(&str, &str); 5] {
    ["Ready", "Available", "Reconciling", "Stalled", "Replicated"].map(|kind| {
        let condition = condition(status, kind);
        (condition.status.as_str(), condition.reason.as_str())
    })
}

#[test]
fn each_situation_has_its_conditions() {
    let mut one_down = cluster(3);
    one_down.nodes[2] = ObservedNode { carrier: Carrier::BackingOff, ..ObservedNode::unseen(name(2), 2) };
    let mut two_down = one_down.clone();
    two_down.nodes[1] = ObservedNode { carrier: Carrier::BackingOff, ..ObservedNode::unseen(name(1), 1) };
    let mut aligning = cluster(3);
    aligning.nodes[1].ready = Some(false);
    let stopped = Observed { nodes: vec![], ..cluster(0) };
    let foreign = [Obstacle { reason: R::ForeignObject, message: "Service o exists".to_owned() }];
    let (t, f) = ("True", "False");
    let table = [
        (
            "all as wished",
            of(3, &cluster(3), None, &[]),
            [(t, "AllNodesOnline"), (t, "QuorumOnline"), (f, "Settled"), (f, "NothingBlocks"), (t, "AllNodesOnline")],
        ),
        (
            "an update runs",
            of(3, &cluster(3), Some((R::UpdatingNodes, "o-2 restarts")), &[]),
            [
                (f, "UpdatingNodes"),
                (t, "QuorumOnline"),
                (t, "UpdatingNodes"),
                (f, "NothingBlocks"),
                (t, "AllNodesOnline"),
            ],
        ),
        (
            "one is down",
            of(3, &one_down, Some((R::NodesStarting, "waiting for o-2 to be ONLINE")), &[]),
            [(f, "NodesOffline"), (t, "QuorumOnline"), (t, "NodesOffline"), (f, "NothingBlocks"), (f, "NodesOffline")],
        ),
        (
            "two are down",
            of(3, &two_down, Some((R::NodesStarting, "x")), &[]),
            [(f, "NoQuorum"), (f, "NoQuorum"), (t, "NoQuorum"), (f, "NothingBlocks"), (f, "NoQuorum")],
        ),
        (
            "one aligns",
            of(3, &aligning, Some((R::NodesStarting, "x")), &[]),
            [
                (f, "Synchronizing"),
                (t, "QuorumOnline"),
                (t, "Synchronizing"),
                (f, "NothingBlocks"),
                (f, "Synchronizing"),
            ],
        ),
        (
            "something is in the way",
            of(3, &cluster(3), None, &foreign),
            [(f, "ForeignObject"), (t, "QuorumOnline"), (f, "Settled"), (t, "ForeignObject"), (t, "AllNodesOnline")],
        ),
        (
            "hibernated",
            of(0, &stopped, None, &[]),
            [(t, "Hibernated"), (f, "Hibernated"), (f, "Settled"), (f, "NothingBlocks"), (f, "Hibernated")],
        ),
    ];
    for (case, status, expected) in table {
        assert_eq!(values(&status), expected, "{case}");
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(4)), "{case}");
    }
}

#[test]
fn the_first_status_is_never_taken_for_the_last() {
    let first = first(Some(1), &at(1));
    assert_eq!(condition(&first, "Ready").status, "Unknown");
    assert_eq!(condition(&first, "Reconciling").status, "True");
    assert_eq!((first.observed_generation, first.initialized), (Some(1), false));
}

#[test]
fn an_invalid_manifest_stalls_and_keeps_what_is_known() {
    let before = of(3, &cluster(3), None, &[]);
    let invalid = invalid(&before, Some(5), "spec.replicas: is the number 100", &at(2));
    assert_eq!(condition(&invalid, "Stalled").reason, "InvalidSpec");
    assert_eq!(condition(&invalid, "Ready").message, "spec.replicas: is the number 100");
    assert_eq!((invalid.nodes.len(), invalid.cluster_id.is_some()), (3, true));
}

#[test]
fn what_did_not_change_is_written_the_same() {
    let facts_of = |observed: &Observed, old: &ReplicatedDatabaseStatus, second| {
        let facts = Facts {
            generation: Some(4),
            wish: &wish(3),
            observed,
            pods: &BTreeMap::new(),
            activity: None,
            obstacles: &[],
            certificates: &(true, R::CertificatesIssued, "until then".to_owned()),
        };
        status(old, &facts, &at(second))
    };
    let before = facts_of(&cluster(3), &ReplicatedDatabaseStatus::default(), 1);
    assert_eq!(facts_of(&cluster(3), &before, 99), before, "time alone writes nothing");
    let mut busy = cluster(3);
    busy.nodes[0].replication = vec![ReplicationDescription {
        tombstone_collection: Default::default(),
        name: "o".parse().unwrap(),
        uuid: DATABASE,
        epoch: 3,
        changing: false,
        node: NodeId(1),
        status: DatabaseStatus::Online,
        progress: None,
        aligned: None,
        nodes: vec![ReplicaView {
            node: NodeId(2),
            name: name(1),
            role: Role::Voter,
            status: DatabaseStatus::Online,
            progress: None,
            reachable: true,
            last_contact_seconds: None,
            backlog_entries: 0,
            backlog_bound_entries: 0,
        }],
    }];
    let before = facts_of(&busy, &before, 2);
    busy.nodes[0].replication[0].nodes[0].backlog_entries = 57;
    assert_eq!(facts_of(&busy, &before, 99), before, "a few entries on the way write nothing");
    busy.nodes[0].replication[0].nodes[0].backlog_entries = 5_700;
    let changed = facts_of(&busy, &before, 99);
    assert_eq!((changed.backlog_entries, changed.nodes[1].databases[0].lag_entries), (Some(5000), Some(5000)));
}

#[test]
fn what_scaling_and_people_need_stands_in_status() {
    let status = of(3, &cluster(3), None, &[]);
    assert_eq!((status.replicas, status.ready_replicas), (3, 3));
    assert_eq!(
        status.selector.as_deref(),
        Some("app.kubernetes.io/name=coequal,app.kubernetes.io/instance=o,app.kubernetes.io/component=node")
    );
    assert_eq!((status.cluster_id, status.version), (Some(CLUSTER.to_string()), Some("0.1.0".to_owned())));
    assert_eq!((status.databases[0].online, status.databases[0].epoch), (3, Some(3)));
    let even = of(4, &cluster(4), None, &[]);
    assert!(condition(&even, "Ready").message.contains("4 nodes tolerate the loss of 1, as 3 do"));
}

#[test]
fn a_time_moves_only_with_its_value() {
    let mut conditions = Vec::new();
    set(&mut conditions, Some(1), &at(1), C::Ready, ("False", R::NodesStarting, "a"));
    set(&mut conditions, Some(2), &at(2), C::Ready, ("False", R::Synchronizing, "b"));
    assert_eq!((conditions[0].last_transition_time.clone(), conditions[0].reason.as_str()), (at(1), "Synchronizing"));
    set(&mut conditions, Some(2), &at(3), C::Ready, ("True", R::AllNodesOnline, "c"));
    assert_eq!((conditions.len(), conditions[0].last_transition_time.clone()), (1, at(3)));
}

#[test]
fn what_waits_for_a_node_that_is_away_is_told() {
    let mut away = cluster(3);
    away.nodes[2] = ObservedNode { carrier: Carrier::Running, ..ObservedNode::unseen(name(2), 2) };
    let told = |uuid: u128, database: &str, role: &str, entries: u64| {
        let replica = serde_json::json!({ "node": NodeId(3), "name": "o-2", "role": role, "status": "OFFLINE",
            "reachable": false, "backlogEntries": entries, "backlogBoundEntries": 999 });
        let seen = serde_json::json!({ "name": database, "uuid": uuid::Uuid::from_u128(uuid), "epoch": 3,
            "changing": false, "node": NodeId(1), "status": "ONLINE", "nodes": [replica] });
        serde_json::from_value(seen).unwrap()
    };
    away.nodes[0].replication =
        vec![told(1, "o", "voter", 47), told(2, "_system", "voter", 3), told(3, "later", "learner", 99)];
    away.nodes[1].replication = vec![told(1, "o", "voter", 38)];
    let written = of(3, &away, None, &[]);
    assert_eq!(written.backlog_entries, Some(50), "the longest queue of each database, rounded");
    let node = &written.nodes[2];
    assert_eq!(node.id.as_deref(), Some(NodeId(3).to_string().as_str()), "its place is known");
    let databases: Vec<_> =
        node.databases.iter().map(|on| (on.name.as_str(), on.status.as_str(), on.lag_entries)).collect();
    assert_eq!(databases, [("o", "OFFLINE", Some(40))]);
}

#[test]
fn numbers_are_coarse() {
    assert_eq!((coarse(999), coarse(1999), one_digit(0), one_digit(7), one_digit(171_075)), (0, 1000, 0, 7, 100_000));
    assert_eq!((percent(0, 0), percent(49, 100), percent(3, 2)), (0, 45, 100));
}
