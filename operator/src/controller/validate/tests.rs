//! One test per refusal: each has its path, and its message names the value and the way out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use super::*;
use coequal_types::{ReadQuorum, WriteQuorum};

const HEAD: &str = "apiVersion: coequal.dev/v1alpha1\nkind: ReplicatedDatabase\nmetadata: {name: orders}\n";

fn with_spec(spec: &str) -> String {
    format!("{HEAD}spec: {spec}\n")
}

fn with_database(fields: &str) -> String {
    with_spec(&format!("{{replicas: 3, databases: [{{{fields}}}]}}"))
}

/// What is refused: a name for the case, the text, the path and a part of the message.
type Refusal = (&'static str, String, &'static str, &'static str);

fn refusals_of_files() -> Vec<Refusal> {
    vec![
        ("empty file", String::new(), "", "the manifest is empty"),
        ("only comments", "# nothing\n---\n".into(), "", "the manifest is empty"),
        ("not a mapping", "- a\n- b\n".into(), "", "is a list of 2; it has to be a mapping"),
        ("a word", "orders".into(), "", "is the text \"orders\""),
        ("YAML syntax", "apiVersion: [a\nkind: x\n".into(), "", "line 2 column"),
        ("YAML tab", "spec:\n\treplicas: 3\n".into(), "", "line 2 column 1: not valid YAML"),
        ("field twice", with_spec("{replicas: 3, replicas: 4}"), "", "duplicate"),
        ("two documents", format!("{0}---\n{0}", with_spec("{}")), "", "holds 2 YAML documents"),
    ]
}

fn refusals_of_heads() -> Vec<Refusal> {
    vec![
        (
            "no apiVersion",
            with_spec("{}").replace("apiVersion: coequal.dev/v1alpha1\n", ""),
            "apiVersion",
            "is missing; write apiVersion: coequal.dev/v1alpha1",
        ),
        (
            "other apiVersion",
            with_spec("{}").replace("v1alpha1", "v2"),
            "apiVersion",
            "is \"coequal.dev/v2\"; this program knows only coequal.dev/v1alpha1",
        ),
        (
            "no kind",
            with_spec("{}").replace("kind: ReplicatedDatabase\n", ""),
            "kind",
            "is missing; write kind: ReplicatedDatabase",
        ),
        (
            "other kind",
            with_spec("{}").replace("kind: ReplicatedDatabase", "kind: Deployment"),
            "kind",
            "is \"Deployment\"; this program knows only ReplicatedDatabase",
        ),
        ("no metadata", with_spec("{}").replace("metadata: {name: orders}\n", ""), "metadata", "is missing"),
    ]
}

fn refusals_of_names() -> Vec<Refusal> {
    let long = "x".repeat(41);
    let named = |name: &str| HEAD.replace("name: orders", &format!("name: {name}")) + "spec: {}";
    vec![
        ("no name", with_spec("{}").replace("name: orders", ""), "metadata.name", "is missing"),
        ("empty name", named("''"), "metadata.name", "is empty"),
        ("long name", named(&long), "metadata.name", "has 41 characters; use 1 to 40"),
        ("capital in name", named("Orders"), "metadata.name", "\"Orders\" contains 'O'"),
        ("digit first", named("1orders"), "metadata.name", "does not begin with a letter"),
        ("dash last", named("orders-"), "metadata.name", "ends with '-'"),
        ("name is a number", named("7"), "metadata.name", "is the number 7; write a text"),
        ("no spec", HEAD.into(), "spec", "is missing; write spec: {}"),
        ("spec is a list", with_spec("[]"), "spec", "is a list of 0; write a mapping"),
        ("unknown at the top", with_spec("{}") + "specs: 1\n", "specs", "is not a known field; did you mean spec?"),
        ("unknown in spec", with_spec("{replica: 3}"), "spec.replica", "did you mean replicas?"),
        ("unknown, nothing near", with_spec("{colour: red}"), "spec.colour", "known here are replicas, databases"),
        (
            "unknown in database",
            with_database("name: a, hotalignement: true"),
            "spec.databases[0].hotalignement",
            "did you mean hotAlignment?",
        ),
        ("unknown in storage", with_spec("{storage: {sise: 1Gi}}"), "spec.storage.sise", "did you mean size?"),
    ]
}

fn refusals_of_containers() -> Vec<Refusal> {
    let resources = |fields: &str| with_spec(&format!("{{resources: {fields}}}"));
    vec![
        ("image with a space", with_spec("{image: 'a b'}"), "spec.image", "\"a b\" is no name of an image"),
        ("empty image", with_spec("{image: ''}"), "spec.image", "is no name of an image"),
        ("unknown kind of amounts", resources("{limit: {}}"), "spec.resources.limit", "did you mean limits?"),
        ("unknown amount", resources("{limits: {disk: 1Gi}}"), "spec.resources.limits.disk", "known here are cpu"),
        ("bad memory", resources("{limits: {memory: 1GB}}"), "spec.resources.limits.memory", "write 512Mi or 2Gi"),
        (
            "more asked for than allowed",
            resources("{requests: {memory: 2Gi}, limits: {memory: 1024Mi}}"),
            "spec.resources",
            "requests.memory \"2Gi\" is more than limits.memory \"1024Mi\"",
        ),
        ("bad cpu", resources("{requests: {cpu: lots}}"), "spec.resources.requests.cpu", "write 500m"),
    ]
}

fn refusals_of_replicas_and_databases() -> Vec<Refusal> {
    vec![
        (
            "replicas out of range",
            with_spec("{replicas: 100}"),
            "spec.replicas",
            "is the number 100; write a whole number from 0 to 99",
        ),
        ("replicas negative", with_spec("{replicas: -1}"), "spec.replicas", "is the number -1"),
        (
            "replicas a text",
            with_spec("{replicas: \"3\"}"),
            "spec.replicas",
            "is the text \"3\"; write a whole number from 0 to 99, without quotes",
        ),
        ("replicas a fraction", with_spec("{replicas: 2.5}"), "spec.replicas", "is the number 2.5"),
        ("replicas empty", with_spec("{replicas: }"), "spec.replicas", "is empty"),
        ("no databases", with_spec("{databases: []}"), "spec.databases", "is an empty list"),
        ("databases a mapping", with_spec("{databases: {name: a}}"), "spec.databases", "is a mapping; write a list"),
        (
            "database a word",
            with_spec("{databases: [orders]}"),
            "spec.databases[0]",
            "is the text \"orders\"; write a mapping",
        ),
        ("database without name", with_database("autoDeploy: true"), "spec.databases[0].name", "is missing"),
        ("bad database name", with_database("name: Orders"), "spec.databases[0].name", "does not begin with a letter"),
        ("system name", with_database("name: _system"), "spec.databases[0].name", "\"_system\""),
        (
            "same database twice",
            with_spec("{databases: [{name: a}, {name: b}, {name: a}]}"),
            "spec.databases[2].name",
            "is already the name of spec.databases[0]",
        ),
    ]
}

fn refusals_of_settings() -> Vec<Refusal> {
    vec![
        (
            "not a truth value",
            with_database("name: a, autoDeploy: yes"),
            "spec.databases[0].autoDeploy",
            "is the text \"yes\"; write true or false",
        ),
        (
            "quorum below a majority",
            with_database("name: a, writeQuorum: 1"),
            "spec.databases[0].writeQuorum",
            "below a majority of 3 nodes (2)",
        ),
        (
            "quorum above replicas",
            with_database("name: a, writeQuorum: 4"),
            "spec.databases[0].writeQuorum",
            "more than the 3 nodes",
        ),
        ("quorum a word", with_database("name: a, writeQuorum: most"), "spec.databases[0].writeQuorum", "\"most\""),
        (
            "quorum a truth value",
            with_database("name: a, writeQuorum: true"),
            "spec.databases[0].writeQuorum",
            "is the truth value true",
        ),
        ("read quorum", with_database("name: a, readQuorum: 2"), "spec.databases[0].readQuorum", "\"2\""),
        (
            "grace too long",
            with_spec("{unreachableGracePeriodSeconds: 604801}"),
            "spec.unreachableGracePeriodSeconds",
            "from 1 to 604800",
        ),
        (
            "quantity",
            with_spec("{storage: {size: 10GB}}"),
            "spec.storage.size",
            "\"10GB\" is no quantity; write a number with",
        ),
        ("no size at all", with_spec("{storage: {size: '0'}}"), "spec.storage.size", "\"0\" is nothing"),
        (
            "storage class",
            with_spec("{storage: {storageClassName: 'a b'}}"),
            "spec.storage.storageClassName",
            "is no name of a storage class",
        ),
        (
            "retention",
            with_spec("{persistentVolumeClaimRetentionPolicy: {whenScaled: keep}}"),
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
            "is \"keep\"; write Retain or Delete",
        ),
    ]
}

#[test]
fn every_refusal_has_its_path_and_a_message_that_helps() {
    let refusals = [
        refusals_of_files(),
        refusals_of_heads(),
        refusals_of_names(),
        refusals_of_containers(),
        refusals_of_replicas_and_databases(),
        refusals_of_settings(),
    ];
    for (case, text, path, part) in refusals.into_iter().flatten() {
        let Faults(faults) = validate(&text).expect_err(case);
        println!("| {case} | {} |", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        assert_eq!(faults.len(), 1, "{case}: {faults:?}");
        assert_eq!(faults[0].path, path, "{case}: {faults:?}");
        assert!(faults[0].message.contains(part), "{case}: {}", faults[0].message);
        assert!(!faults[0].message.contains('\n'), "{case}");
    }
}

#[test]
fn all_faults_are_found_at_once_in_the_order_of_the_file() {
    let text =
        with_spec("{replicas: 300, sorage: {}, databases: [{name: A}, {name: b, autoDeploy: 1}], storage: {size: x}}")
            .replace("kind: ReplicatedDatabase", "kind: Database");
    let Faults(faults) = validate(&text).unwrap_err();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "kind",
            "spec.sorage",
            "spec.replicas",
            "spec.databases[0].name",
            "spec.databases[1].autoDeploy",
            "spec.storage.size"
        ]
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let cluster = validate(&with_spec("{}")).unwrap();
    assert_eq!((cluster.replicas, cluster.storage.size.as_str()), (3, "1Gi"));
    assert_eq!(cluster.databases.len(), 1);
    assert_eq!(cluster.databases[0].name.as_str(), "orders");
    assert_eq!(cluster.databases[0].settings, DatabaseSettings::default());
}

#[test]
fn everything_that_is_written_arrives() {
    let cluster = validate(&with_spec(
        "{replicas: 5, unreachableGracePeriodSeconds: 7, databases: [{name: a, autoDeploy: false, hotAlignment: false, writeQuorum: 4, readQuorum: majority}]}",
    ))
    .unwrap();
    let settings = DatabaseSettings {
        auto_deploy: false,
        hot_alignment: false,
        write_quorum: WriteQuorum::Count(4),
        read_quorum: ReadQuorum::Majority,
        unreachable_grace_period_seconds: 7,
    };
    assert_eq!(cluster.databases[0].settings, settings);
    assert_eq!(cluster.node_name(4).unwrap().as_str(), "orders-4");
}

#[test]
fn a_hibernated_cluster_keeps_its_write_quorum() {
    assert!(validate(&with_spec("{replicas: 0, databases: [{name: a, writeQuorum: 2}]}")).is_ok());
}

#[test]
fn ordinals_are_read_back_from_names() {
    for (node, ordinal) in
        [("orders-0", Some(0)), ("orders-12", Some(12)), ("orders-01", None), ("orders-", None), ("other-1", None)]
    {
        assert_eq!(ordinal_of("orders", node), ordinal, "{node}");
    }
}

#[test]
fn the_examples_are_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        validate(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|faults| panic!("{}: {faults}", path.display()));
        count += 1;
    }
    assert!(count >= 4);
}
