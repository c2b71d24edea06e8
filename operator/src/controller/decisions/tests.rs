//! One table: what is wished and seen, and the step that follows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::controller::validate::validate;
use coequal_types::rest::{
    ClusterDescription, DatabaseDescription, NodeDescription, NodeView, ReplicaView, ReplicationDescription, Role,
};
use coequal_types::{DatabaseStatus, NodeStatus, WriteQuorum};
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(7);

fn wish(spec: &str) -> ValidatedDatabaseCluster {
    let head = "apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: o}";
    validate(&format!("{{{head}, spec: {spec}}}")).unwrap()
}

fn name(ordinal: u32) -> NodeName {
    format!("o-{ordinal}").parse().unwrap()
}

fn database(settings: DatabaseSettings) -> DatabaseDescription {
    DatabaseDescription {
        name: "o".parse().unwrap(),
        uuid: Uuid::from_u128(1),
        configuration: settings,
        epoch: 1,
        status: DatabaseStatus::Online,
        progress: None,
        message: None,
        documents: 0,
        tombstones: 0,
    }
}

fn listed(ordinal: u32) -> NodeView {
    NodeView {
        id: NodeId(u64::from(ordinal) + 1),
        name: name(ordinal),
        peer_address: format!("127.0.0.1:{}", 7700 + ordinal),
        api_address: format!("127.0.0.1:{}", 7600 + ordinal),
        status: NodeStatus::Online,
        reachable: true,
        last_contact_seconds: Some(0.1),
        leaving: false,
        databases: Vec::new(),
    }
}

fn healthy(ordinal: u32, members: &[NodeView]) -> ObservedNode {
    let mut node = ObservedNode::unseen(name(ordinal), ordinal);
    let entry = listed(ordinal);
    node.carrier = Carrier::Running;
    node.has_data = true;
    node.ready = Some(true);
    node.report = Some(NodeDescription {
        id: entry.id,
        name: entry.name,
        incarnation: 1,
        status: NodeStatus::Online,
        version: "0.1.0".to_owned(),
        cluster_id: Some(CLUSTER),
        peer_address: entry.peer_address,
        api_address: entry.api_address,
        databases: Vec::new(),
        message: None,
    });
    node.view = Some(ClusterDescription { id: Some(CLUSTER), nodes: members.to_vec(), recovery: None });
    node.databases = Some(vec![database(DatabaseSettings::default())]);
    node
}

/// All of `nodes` healthy, each listing `members`.
fn cluster(nodes: u32, members: &[NodeView]) -> Observed {
    let nodes = (0..nodes).map(|ordinal| healthy(ordinal, members)).collect();
    Observed { beginning: Beginning::Initialized(CLUSTER), nodes }
}

fn members(count: u32) -> Vec<NodeView> {
    (0..count).map(listed).collect()
}

fn with(mut seen: Observed, change: impl FnOnce(&mut Observed)) -> Observed {
    change(&mut seen);
    seen
}

fn running(ordinal: u32) -> ObservedNode {
    let mut node = ObservedNode::unseen(name(ordinal), ordinal);
    node.carrier = Carrier::Running;
    node
}

fn absent_with_data(ordinal: u32) -> ObservedNode {
    ObservedNode { carrier: Carrier::Absent, has_data: true, ..ObservedNode::unseen(name(ordinal), ordinal) }
}

fn leaving(ordinal: u32) -> NodeView {
    NodeView { leaving: true, ..listed(ordinal) }
}

fn wait(what: &str) -> Step {
    Step::WaitFor(what.to_owned())
}

fn remove(ordinal: u32) -> Step {
    Step::Remove { via: name(0), name: name(ordinal), id: NodeId(u64::from(ordinal) + 1) }
}

fn table_of_beginnings() -> Vec<(&'static str, &'static str, Observed, Step)> {
    let none = Observed { beginning: Beginning::NotBegun, nodes: vec![] };
    let started = with(none.clone(), |seen| seen.nodes = (0..3).map(running).collect());
    let unjoined = |seen: &mut Observed| {
        seen.nodes[0] = healthy(0, &[]);
        seen.nodes[0].report.as_mut().unwrap().cluster_id = None;
    };
    let answers = with(started.clone(), unjoined);
    vec![
        ("nothing runs", "{}", none.clone(), Step::Start(name(0))),
        ("one runs", "{}", with(none, |seen| seen.nodes = vec![running(0)]), Step::Start(name(1))),
        ("all run, the first is silent", "{}", started.clone(), wait("o-0 to answer; it initialises the cluster")),
        ("the first answers", "{}", answers.clone(), Step::Initialize(name(0))),
        (
            "an old volume may hold a cluster",
            "{}",
            with(answers.clone(), |seen| seen.nodes[2].may_hold_cluster = true),
            wait("o-2 to answer; its volume may hold a cluster already"),
        ),
        (
            "an old volume beyond those that are wished is asked too",
            "{}",
            with(answers.clone(), |seen| {
                seen.nodes.push(ObservedNode { may_hold_cluster: true, ..absent_with_data(3) });
            }),
            Step::Start(name(3)),
        ),
        (
            "another was chosen before",
            "{}",
            with(answers.clone(), |seen| seen.beginning = Beginning::Chosen(name(1))),
            wait("o-1 to answer; it initialises the cluster"),
        ),
        (
            "the chosen one is asked again",
            "{}",
            with(answers.clone(), |seen| seen.beginning = Beginning::Chosen(name(0))),
            Step::Initialize(name(0)),
        ),
        (
            "a lost first disk never makes a second cluster",
            "{}",
            with(answers, |seen| seen.beginning = Beginning::Initialized(CLUSTER)),
            wait("a node that takes part in the cluster"),
        ),
    ]
}

fn table_of_databases() -> Vec<(&'static str, &'static str, Observed, Step)> {
    let three = || cluster(3, &members(3));
    let four = DatabaseSettings { write_quorum: WriteQuorum::Count(4), ..DatabaseSettings::default() };
    let cold = DatabaseSettings { hot_alignment: false, ..DatabaseSettings::default() };
    let patch = |patch: SettingsPatch| Step::ChangeSettings { via: name(0), name: "o".parse().unwrap(), patch };
    vec![
        ("all as wished", "{}", three(), Step::Nothing),
        (
            "database missing",
            "{databases: [{name: o, hotAlignment: false}]}",
            with(three(), |seen| seen.nodes[0].databases = Some(vec![])),
            Step::CreateDatabase { via: name(0), name: "o".parse().unwrap(), settings: cold },
        ),
        (
            "database missing, the first node is ill: ask the second",
            "{}",
            with(three(), |seen| {
                seen.nodes[0].ready = Some(false);
                seen.nodes[1].databases = Some(vec![]);
            }),
            Step::CreateDatabase { via: name(1), name: "o".parse().unwrap(), settings: DatabaseSettings::default() },
        ),
        (
            "settings differ",
            "{databases: [{name: o, autoDeploy: false}]}",
            three(),
            patch(SettingsPatch { auto_deploy: Some(false), ..SettingsPatch::default() }),
        ),
        (
            "grace differs",
            "{unreachableGracePeriodSeconds: 9}",
            three(),
            patch(SettingsPatch { unreachable_grace_period_seconds: Some(9), ..SettingsPatch::default() }),
        ),
        (
            "a number that the nodes of now cannot take waits",
            "{replicas: 5, databases: [{name: o, writeQuorum: 4}]}",
            with(cluster(5, &members(3)), |seen| seen.nodes.truncate(3)),
            Step::Start(name(3)),
        ),
        (
            "and does not hold up removals",
            "{replicas: 3, databases: [{name: o, writeQuorum: 2}]}",
            with(cluster(5, &members(5)), |seen| seen.nodes[0].databases = Some(vec![database(four)])),
            remove(4),
        ),
        (
            "a database that is no longer declared stays",
            "{databases: [{name: p}]}",
            with(three(), |seen| {
                let mut p = database(DatabaseSettings::default());
                p.name = "p".parse().unwrap();
                seen.nodes[0].databases.as_mut().unwrap().push(p);
            }),
            Step::Nothing,
        ),
    ]
}

fn table_of_memberships() -> Vec<(&'static str, &'static str, Observed, Step)> {
    let three = || cluster(3, &members(3));
    let four_leaves = [listed(0), listed(1), listed(2), listed(3), leaving(4)];
    let readmit = Step::Admit { via: name(0), name: name(4), peer_address: "127.0.0.1:7704".to_owned() };
    vec![
        ("a node aligns", "{}", with(three(), |seen| seen.nodes[2].ready = Some(false)), wait("o-2 to be ONLINE")),
        (
            "a node waits for its next start",
            "{}",
            with(three(), |seen| seen.nodes[1].carrier = Carrier::BackingOff),
            wait("o-1 to be ONLINE"),
        ),
        ("3 to 5", "{replicas: 5}", three(), Step::Start(name(3))),
        ("5 to 3: the highest first", "{}", cluster(5, &members(5)), remove(4)),
        (
            "5 to 3, one that stays is ill",
            "{}",
            with(cluster(5, &members(5)), |seen| seen.nodes[1].ready = Some(false)),
            Step::HoldRemoval { name: name(4), ill: name(1) },
        ),
        (
            "5 to 3, the leaving one is ill",
            "{}",
            with(cluster(5, &members(5)), |seen| seen.nodes[4].carrier = Carrier::BackingOff),
            remove(4),
        ),
        ("5 to 3, it leaves", "{}", cluster(5, &four_leaves), wait("o-4 to hand over and leave")),
        ("5 to 3, it is out", "{}", cluster(5, &members(4)), Step::Stop { name: name(4), set_aside: true }),
        (
            "5 to 3, one view is late",
            "{}",
            with(cluster(5, &members(4)), |seen| seen.nodes[2].view.as_mut().unwrap().nodes.push(leaving(4))),
            wait("o-4 to hand over and leave"),
        ),
        (
            "5 to 3, it stops",
            "{}",
            with(cluster(5, &members(4)), |seen| seen.nodes[4].carrier = Carrier::Stopping),
            wait("o-4 to stop"),
        ),
        ("5 to 3, then the next", "{}", cluster(4, &members(4)), remove(3)),
        (
            "5 to 3, none that stays takes part",
            "{}",
            with(cluster(5, &members(5)), |seen| seen.nodes[..3].iter_mut().for_each(|node| node.report = None)),
            Step::HoldRemoval { name: name(4), ill: name(0) },
        ),
        ("5 to 3 and back before it finished", "{replicas: 5}", cluster(5, &four_leaves), readmit),
        (
            "5 to 3 and back when it was just out: it begins anew",
            "{replicas: 5}",
            with(cluster(5, &members(4)), |seen| seen.nodes[4].view.as_mut().unwrap().nodes.push(leaving(4))),
            Step::Stop { name: name(4), set_aside: true },
        ),
        (
            "just joined: the others have not heard of it yet",
            "{replicas: 5}",
            with(cluster(5, &members(4)), |seen| seen.nodes[4].view.as_mut().unwrap().nodes.push(listed(4))),
            Step::Nothing,
        ),
    ]
}

fn table_of_restarts() -> Vec<(&'static str, &'static str, Observed, Step)> {
    let three = || cluster(3, &members(3));
    let lost = NodeView { id: NodeId(99), reachable: false, ..listed(1) };
    vec![
        (
            "restart in the middle: it is still in",
            "{}",
            with(cluster(3, &members(4)), |seen| seen.nodes.push(absent_with_data(3))),
            Step::Start(name(3)),
        ),
        (
            "restart in the middle: it is out",
            "{}",
            with(three(), |seen| seen.nodes.push(absent_with_data(3))),
            Step::Stop { name: name(3), set_aside: true },
        ),
        (
            "too few answer to be sure",
            "{}",
            with(three(), |seen| {
                seen.nodes.push(absent_with_data(3));
                seen.nodes[1].report = None;
                seen.nodes[2].report = None;
            }),
            Step::Start(name(3)),
        ),
        ("listed without process or data", "{}", cluster(3, &members(4)), remove(3)),
        (
            "a new disk under an old name",
            "{}",
            cluster(3, &[listed(0), listed(1), listed(2), lost]),
            Step::Remove { via: name(0), name: name(1), id: NodeId(99) },
        ),
        ("hibernate", "{replicas: 0}", three(), Step::Stop { name: name(0), set_aside: false }),
        (
            "hibernating",
            "{replicas: 0}",
            with(three(), |seen| seen.nodes.iter_mut().for_each(|node| node.carrier = Carrier::Stopping)),
            wait("o-0 to stop"),
        ),
        (
            "hibernated",
            "{replicas: 0}",
            with(three(), |seen| seen.nodes = (0..3).map(absent_with_data).collect()),
            Step::Nothing,
        ),
        (
            "awake again",
            "{}",
            with(three(), |seen| seen.nodes = (0..3).map(absent_with_data).collect()),
            Step::Start(name(0)),
        ),
    ]
}

/// What o-0 says of its database: the role of each node, and whether that is being changed.
fn roles(roles: &[Role], changing: bool, auto_deploy: bool) -> Observed {
    let count = u32::try_from(roles.len()).unwrap();
    let mut seen = cluster(count, &members(count));
    let replica = |(ordinal, role): (u32, &Role)| ReplicaView {
        node: listed(ordinal).id,
        name: name(ordinal),
        role: *role,
        status: DatabaseStatus::Online,
        progress: None,
        reachable: true,
        last_contact_seconds: None,
        backlog_entries: 0,
        backlog_bound_entries: 0,
    };
    seen.nodes[0].databases = Some(vec![database(DatabaseSettings { auto_deploy, ..DatabaseSettings::default() })]);
    seen.nodes[0].replication = vec![ReplicationDescription {
        tombstone_collection: Default::default(),
        name: "o".parse().unwrap(),
        uuid: Uuid::from_u128(1),
        epoch: 4,
        changing,
        node: listed(0).id,
        status: DatabaseStatus::Online,
        progress: None,
        aligned: None,
        nodes: (0..).zip(roles).map(replica).collect(),
    }];
    seen
}

fn table_of_votes() -> Vec<(&'static str, &'static str, Observed, Step)> {
    use Role::{Learner, None, Voter};
    let by_hand = "{databases: [{name: o, autoDeploy: false}]}";
    let mut old_view = roles(&[Voter, Voter, Voter], false, true);
    old_view.nodes[1].replication = roles(&[Voter, Learner, Voter], true, true).nodes[0].replication.clone();
    old_view.nodes[1].replication[0].epoch = 3;
    vec![
        ("all vote", "{}", roles(&[Voter, Voter, Voter], false, true), Step::Nothing),
        ("one learns", "{}", roles(&[Voter, Learner, Voter], false, true), wait("o-1 to vote in o")),
        ("one has no copy", "{}", roles(&[Voter, Voter, None], false, true), wait("o-2 to vote in o")),
        ("one need not have a copy", by_hand, roles(&[Voter, Voter, None], false, false), Step::Nothing),
        ("two majorities count", "{}", roles(&[Voter, Voter, Voter], true, true), wait("the nodes of o to settle")),
        ("only the newest word counts", "{}", old_view, Step::Nothing),
        (
            "none is removed beside one that learns",
            "{replicas: 2}",
            roles(&[Voter, Learner, Voter], false, true),
            wait("o-1 to vote in o before o-2 is removed"),
        ),
        ("one that learns can be removed", "{replicas: 2}", roles(&[Voter, Voter, Learner], false, true), remove(2)),
    ]
}

#[test]
fn each_situation_has_its_next_step() {
    for (case, spec, seen, step) in table_of_beginnings()
        .into_iter()
        .chain(table_of_databases())
        .chain(table_of_memberships())
        .chain(table_of_restarts())
        .chain(table_of_votes())
    {
        assert_eq!(next_step(&wish(spec), &seen), step, "{case}");
    }
}

#[test]
fn databases_that_are_no_longer_declared_are_named() {
    let names = undeclared(&wish("{databases: [{name: p}]}"), &cluster(3, &members(3)));
    assert_eq!(names.iter().map(DatabaseName::as_str).collect::<Vec<_>>(), ["o"]);
}

#[test]
fn a_copy_that_was_asked_for_is_made_where_it_is_missing_and_can_be() {
    let wish = |text: &str| {
        let metadata = format!("{{name: o, annotations: {{coequal.dev/deploy: '{text}'}}}}");
        let head = format!("apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {metadata}");
        validate(&format!("{{{head}, spec: {{databases: [{{name: o, autoDeploy: false}}]}}}}")).unwrap()
    };
    let settings = DatabaseSettings { auto_deploy: false, ..DatabaseSettings::default() };
    let seen = |change: &dyn Fn(&mut NodeView)| {
        let mut members = members(3);
        change(&mut members[2]);
        with(cluster(3, &members), |seen| {
            for node in &mut seen.nodes {
                node.databases = Some(vec![database(settings.clone())]);
            }
        })
    };
    let copy = |status| {
        let (name, uuid) = ("o".parse().unwrap(), Uuid::from_u128(1));
        coequal_types::rest::DatabaseOnNode { name, uuid, status, progress: None, message: None }
    };
    let deploy = Step::Deploy { via: name(0), name: "o".parse().unwrap(), node: name(2) };
    type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&mut NodeView), Step);
    let cases: [Case<'_>; 8] = [
        ("missing", "o@o-2", &|_| {}, deploy.clone()),
        (
            "told as not there",
            "o@o-2",
            &|node| node.databases = vec![copy(DatabaseStatus::NotAvailable)],
            deploy.clone(),
        ),
        ("on its way", "o@o-2", &|node| node.databases = vec![copy(DatabaseStatus::Synchronizing)], Step::Nothing),
        ("there", "o@o-2", &|node| node.databases = vec![copy(DatabaseStatus::Online)], Step::Nothing),
        ("not reached", "o@o-2", &|node| node.reachable = false, Step::Nothing),
        ("not asked for", "", &|_| {}, Step::Nothing),
        ("a node that is not wished", "o@o-7", &|_| {}, Step::Nothing),
        ("a database that does not exist", "x@o-2", &|_| {}, Step::Nothing),
    ];
    for (case, text, change, expected) in cases {
        assert_eq!(next_step(&wish(text), &seen(change)), expected, "{case}");
    }
}
