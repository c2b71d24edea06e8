//! What a person reads in each situation, on the samples that the operator's own functions write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::change::{Change, deployed, removed, restarted};
use super::fetch::hint;
use super::report::report;
use super::{logs, render};
use crate::controller::validate::DEPLOY;
use crate::crd::ReplicatedDatabase;
use kube::ResourceExt as _;
use std::path::PathBuf;

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn sample(name: &str) -> ReplicatedDatabase {
    let text = std::fs::read_to_string(folder(&format!("tests/gitops/samples/{name}.yaml"))).expect(name);
    serde_yaml::from_str(&text).expect(name)
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder("tests/gitops/samples")).unwrap();
    let mut names: Vec<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_situation_reads_as_committed() {
    let mut differ = Vec::new();
    for name in names() {
        let text = render::report(&report(&sample(&name)));
        let path = folder(&format!("operator/src/plugin/shown/{name}.txt"));
        if std::env::var_os("COEQUAL_WRITE_SAMPLES").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            differ.push(format!("{name}:\n{text}"));
        }
    }
    assert!(differ.is_empty(), "look at them, and set COEQUAL_WRITE_SAMPLES=1 to write:\n{}", differ.join("\n"));
    assert!(names().len() > 10);
}

#[test]
fn only_what_is_as_asked_for_is_well() {
    let well: Vec<String> = names().into_iter().filter(|name| report(&sample(name)).ok).collect();
    assert_eq!(well, ["hibernated", "ready"]);
}

#[test]
fn a_person_is_called_when_one_is_needed_and_only_then() {
    let called = |name: &String| report(&sample(name)).advice.iter().any(|advice| advice.needs_a_person);
    let called: Vec<String> = names().into_iter().filter(called).collect();
    assert_eq!(called, ["invalid", "no-quorum", "stalled"]);
    for name in names() {
        let report = report(&sample(&name));
        assert_eq!(report.ok, report.advice.is_empty(), "{name}: what is not well is explained");
    }
}

#[test]
fn bars_are_as_long_as_the_progress() {
    assert_eq!(render::bar(40), "[########............]  40 %");
    assert_eq!(render::bar(0), "[....................]   0 %");
    assert_eq!(render::bar(100), "[####################] 100 %");
    assert_eq!(render::bar(-5), render::bar(0));
    assert_eq!(render::bar(900), render::bar(100));
}

#[test]
fn nothing_that_a_node_says_reaches_the_terminal_as_a_command() {
    let mut resource = sample("one-offline");
    resource.status.as_mut().unwrap().nodes[0].message = Some("\u{1b}[31mred\r\nline".to_owned());
    let text = render::report(&report(&resource));
    assert!(text.contains("red") && !text.contains(['\u{1b}', '\r']), "{text:?}");
}

#[test]
fn a_list_has_a_line_for_each() {
    let reports = [report(&sample("ready")), report(&sample("stalled"))];
    let text = render::list(&reports, true, "shop");
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("shop       orders  3/3     AllNodesOnline     0"), "{text}");
    assert_eq!(render::list(&[], false, "shop"), "There is no ReplicatedDatabase in namespace shop.\n");
}

fn with_database(auto_deploy: bool) -> ReplicatedDatabase {
    let mut resource = sample("ready");
    let spec = serde_json::json!([{ "name": "orders" }, { "name": "archive", "autoDeploy": auto_deploy }]);
    resource.spec.databases = serde_json::from_value(spec).unwrap();
    resource
}

fn words(change: Result<Change, super::PluginError>) -> String {
    match change {
        Ok(Change::Nothing(words)) => format!("nothing: {words}"),
        Ok(Change::Write { patch, .. }) => format!("write: {patch}"),
        Err(error) => format!("refused: {error}"),
    }
}

#[test]
fn a_copy_is_asked_for_once_and_only_where_it_makes_sense() {
    let resource = with_database(false);
    let ask = |resource: &ReplicatedDatabase, database: &str, node: &str| words(deployed(resource, database, node));
    let wish = r#"write: {"metadata":{"annotations":{"coequal.dev/deploy":"archive@orders-1"}}}"#;
    assert_eq!(ask(&resource, "archive", "orders-1"), wish);
    let mut asked = resource.clone();
    asked.annotations_mut().insert(DEPLOY.to_owned(), "archive@orders-1".to_owned());
    assert!(ask(&asked, "archive", "orders-1").starts_with("nothing: archive@orders-1 was asked for already"));
    assert!(ask(&asked, "archive", "orders-2").contains("archive@orders-1,archive@orders-2"));
    for (database, node, expected) in [
        ("orders", "orders-1", "nothing: orders-1 has a copy of orders already; it is ONLINE"),
        ("archiv", "orders-1", "refused: orders declares no database \"archiv\"; did you mean archive?"),
        (
            "archive",
            "orders-7",
            "refused: orders has no node \"orders-7\"; did you mean orders-0? There are orders-0, orders-1, orders-2",
        ),
    ] {
        let text = ask(&resource, database, node);
        assert!(text.starts_with(expected), "{text}");
    }
    let text = ask(&with_database(true), "archive", "orders-1");
    assert!(text.starts_with("nothing: orders-1 gets archive by itself"), "{text}");
}

#[test]
fn only_the_highest_nodes_go_and_only_when_it_is_safe() {
    let ask = |name: &str, nodes: &[&str], yes: bool| {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        words(removed(&sample(name), &nodes, yes))
    };
    assert_eq!(ask("ready", &["orders-2"], true), r#"write: {"spec":{"replicas":2}}"#);
    assert_eq!(ask("ready", &["orders-2", "orders-1"], true), r#"write: {"spec":{"replicas":1}}"#);
    for (name, nodes, yes, expected) in [
        ("ready", &["orders-2"][..], false, "2 nodes tolerate the loss of none; if that is what you want, add --yes"),
        ("ready", &["orders-1"], true, "nodes go from the highest on, and the highest is orders-2"),
        ("ready", &["orders-0", "orders-1", "orders-2"], true, "that would remove every node"),
        ("ready", &["order-2"], true, "orders has no node \"order-2\"; did you mean orders-2?"),
        ("no-quorum", &["orders-2"], true, "orders-1 is OFFLINE and stays"),
        ("invalid", &["orders-2"], true, "the manifest breaks a rule"),
    ] {
        let text = ask(name, nodes, yes);
        assert!(text.starts_with("refused: ") && text.contains(expected), "{name} {nodes:?}: {text}");
    }
    let mut deletes = sample("ready");
    deletes.spec.persistent_volume_claim_retention_policy.when_scaled = crate::crd::VolumeRetention::Delete;
    assert!(
        words(removed(&deletes, &["orders-2".to_owned()], false)).contains("the volumes of removed nodes are deleted")
    );
}

#[test]
fn a_restart_is_a_new_text_in_the_annotation() {
    let change = words(Ok(restarted(&sample("ready"), "2026-01-01T00:00:00Z")));
    assert_eq!(change, r#"write: {"metadata":{"annotations":{"coequal.dev/restart":"2026-01-01T00:00:00Z"}}}"#);
    assert!(words(Ok(restarted(&sample("hibernated"), "now"))).starts_with("nothing: all nodes are stopped"));
}

#[test]
fn a_name_that_is_not_there_gets_a_hint() {
    let orders = sample("ready");
    let here = std::slice::from_ref(&orders);
    assert_eq!(hint("order", "shop", here, here), "; did you mean orders?");
    assert_eq!(hint("orders", "other", &[], here), "; there is one in namespace shop: add -n shop");
    assert_eq!(hint("payments", "shop", here, here), "; there are orders");
    assert!(hint("payments", "other", &[], &[]).starts_with("; there is none in it"));
}

#[test]
fn logs_are_commands_and_a_wrong_node_is_named() {
    let text = logs::pointers(&sample("ready"), Some("orders-1")).unwrap();
    assert!(text.contains("kubectl logs -n shop orders-1 --previous"), "{text}");
    let lines = text.lines();
    assert!(lines.clone().all(|line| line.starts_with("# ") || line.starts_with("kubectl ")), "{text}");
    assert!(logs::pointers(&sample("ready"), Some("orders-9")).is_err());
}

#[test]
fn what_nodes_say_replaces_what_status_rounds() {
    use coequal_types::rest::{DatabaseOnNode, NodeDescription, ReplicaView, ReplicationDescription, Role};
    use coequal_types::{DatabaseStatus, NodeId, NodeStatus, Progress, SynchronizationPhase};
    let uuid = uuid::Uuid::from_u128(2);
    let look = |ordinal: u64, status: DatabaseStatus, progress: Option<Progress>| crate::nodes::Look {
        begun: std::time::Instant::now(),
        ready: Some(true),
        report: Some(NodeDescription {
            message: None,
            id: NodeId(ordinal),
            name: format!("orders-{ordinal}").parse().unwrap(),
            incarnation: 1,
            status: NodeStatus::Online,
            version: "0.1.0".to_owned(),
            cluster_id: None,
            peer_address: String::new(),
            api_address: String::new(),
            databases: vec![DatabaseOnNode { name: "orders".parse().unwrap(), uuid, status, progress, message: None }],
        }),
        view: None,
        databases: None,
        replication: Vec::new(),
    };
    let progress = Progress {
        phase: SynchronizationPhase::Draining,
        entries_done: 41_234,
        entries_total: 100_000,
        entries_per_second: 12_000.4,
        eta_seconds: Some(4.2),
    };
    let mut first = look(0, DatabaseStatus::Online, None);
    first.replication.push(ReplicationDescription {
        tombstone_collection: Default::default(),
        name: "orders".parse().unwrap(),
        uuid,
        epoch: 3,
        changing: false,
        node: NodeId(0),
        status: DatabaseStatus::Online,
        progress: None,
        aligned: None,
        nodes: vec![ReplicaView {
            node: NodeId(2),
            name: "orders-2".parse().unwrap(),
            role: Role::Voter,
            status: DatabaseStatus::Synchronizing,
            progress: None,
            reachable: true,
            last_contact_seconds: None,
            backlog_entries: 3456,
            backlog_bound_entries: 171_075,
        }],
    });
    let seen = [
        ("orders-0".to_owned(), first),
        ("orders-2".to_owned(), look(2, DatabaseStatus::Synchronizing, Some(progress))),
    ];
    let mut report = report(&sample("synchronizing"));
    super::exact::refine(&mut report, &seen);
    let text = render::report(&report);
    let line = "[########............]  41 % 41234/100000, 12000/s, 5 s left  3456";
    assert!(text.contains(line) && text.contains("backlog 3456,") && !text.contains("about"), "{text}");
}
