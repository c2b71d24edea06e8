//! The definition's rules on a real API server, and the same manifests in local mode: one verdict, and words that help.

use crate::reconcile_rows::{accepted, accepted_changes, refused, refused_changes};
use coequal_tests::apiserver::{Namespace, database, documents};
use coequal_tests::binaries::program;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

const DEFINITION: &str = "crds/replicateddatabases.coequal.dev.yaml";
/// Nothing is stored, and fields that nobody knows are refused as `kubectl` refuses them.
const TRY: &str = "?dryRun=All&fieldValidation=Strict";

fn schema() -> Value {
    documents(DEFINITION)[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Every rule below a schema, as rows name them.
fn rules(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    const WORDS: &[&str] =
        &["minimum", "maximum", "minLength", "maxLength", "pattern", "enum", "minItems", "maxItems", "format"];
    // The width of a number is no rule of ours: its bounds are narrower.
    let is_rule = |word: &&&str| {
        schema.get(**word).is_some()
            && !(**word == "format" && ["int32", "int64"].map(Value::from).contains(&schema["format"]))
    };
    found.extend(WORDS.iter().filter(is_rule).map(|word| format!("{path}.{word}")));
    if schema.get("x-kubernetes-list-map-keys").is_some() {
        found.insert(format!("{path}.listMapKeys"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        found.insert(format!("{path}.required {name}"));
    }
    let expressions = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
    found.extend((0..expressions).map(|at| format!("{path}.rule[{at}]")));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        rules(&format!("{path}.{name}"), field, found);
    }
    if let Some(items) = schema.get("items") {
        rules(&format!("{path}[]"), items, found);
    }
}

fn rules_of_the_definition() -> BTreeSet<String> {
    let schema = schema();
    let mut found = BTreeSet::new();
    let expressions = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
    found.extend((0..expressions).map(|at| format!("root.rule[{at}]")));
    rules("spec", &schema["properties"]["spec"], &mut found);
    found
}

#[test]
fn no_rule_of_the_definition_is_without_a_row() {
    let rows = refused().into_iter().map(|row| row.rule);
    let covered: BTreeSet<String> = rows.chain(refused_changes().into_iter().map(|row| row.0.to_owned())).collect();
    let rules = rules_of_the_definition();
    assert!(rules.len() > 40, "{rules:?}");
    let missing: Vec<_> = rules.difference(&covered).collect();
    assert!(missing.is_empty(), "rules without a row in reconcile_rows.rs: {missing:#?}");
    let unknown: Vec<_> = covered.difference(&rules).collect();
    assert!(unknown.is_empty(), "rows for rules that the definition does not have: {unknown:#?}");
}

/// What `coequal-operator local` says of a manifest; `None` when it takes it (and then fails for want of a directory).
fn local_verdict(manifest: &Value) -> Option<String> {
    let directory = tempfile::tempdir().expect("directory");
    let (file, no_directory) = (directory.path().join("m.yaml"), directory.path().join("m.yaml/data"));
    std::fs::write(&file, manifest.to_string()).expect("manifest");
    let mut command = Command::new(program("coequal-operator"));
    let output = command.arg("local").arg("-f").arg(&file).arg("--data").arg(no_directory).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(2) => Some(said),
        Some(1) => None,
        other => panic!("exit code {other:?}: {said}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_refuses_with_words_that_help_here_and_locally() {
    let Some(namespace) = Namespace::new("every_rule_refuses_with_words_that_help_here_and_locally").await else {
        return;
    };
    let mut wrong = Vec::new();
    for row in refused() {
        let manifest = database(&row.name, &row.spec);
        let here = match namespace.try_create(&manifest, TRY).await {
            Ok(_) => "accepted".to_owned(),
            Err((422, message)) => message,
            Err(other) => format!("{other:?}"),
        };
        let locally = local_verdict(&manifest).unwrap_or_else(|| "accepted".to_owned());
        println!("REFUSED {}: {here}", row.rule);
        if !here.contains(row.says) {
            wrong.push(format!("{}: the API server does not say {:?}: {here}", row.rule, row.says));
        }
        let says_locally = row.says_locally.unwrap_or(row.says);
        if !locally.contains(says_locally) {
            wrong.push(format!("{}: local mode does not say {says_locally:?}: {locally}", row.rule));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_at_the_edge_is_accepted_here_and_locally() {
    let Some(namespace) = Namespace::new("what_is_at_the_edge_is_accepted_here_and_locally").await else { return };
    for (name, spec) in accepted() {
        let manifest = database(&name, &spec);
        let here = namespace.try_create(&manifest, TRY).await;
        assert!(here.is_ok(), "{manifest}: {here:?}");
        assert_eq!(local_verdict(&manifest), None, "{manifest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_cannot_be_carried_out_are_refused() {
    let Some(namespace) = Namespace::new("changes_that_cannot_be_carried_out_are_refused").await else { return };
    for (at, (rule, before, after, says)) in refused_changes().into_iter().enumerate() {
        let name = format!("r{at}");
        namespace.create(&name, &before).await;
        let refused = namespace.api.try_patch(&namespace.databases(&name), &json!({ "spec": after })).await;
        let said = refused.expect_err(rule);
        println!("REFUSED {rule}: {said}");
        assert!(said.contains(says), "{rule}: {said}");
    }
    for (at, (before, after)) in accepted_changes().into_iter().enumerate() {
        let name = format!("a{at}");
        namespace.create(&name, &before).await;
        namespace.change(&name, after).await;
    }
}

/// A value of another type than the schema wants.
fn of_wrong_type(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("string") => json!(7),
        Some("array" | "object" | "integer") => json!("text"),
        _ => json!({ "no": "such" }),
    }
}

/// Every field with a value of a wrong type, as a spec.
fn wrong_types(schema: &Value, put: &dyn Fn(Value) -> Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let put = |value: Value| put(json!({ name: value }));
        found.push((path.clone(), put(of_wrong_type(field))));
        wrong_types(field, &put, &path, found);
        if let Some(items) = field.get("items") {
            let put = |value: Value| {
                let mut entry = json!({ "name": "a" });
                if let (Some(entry), Some(value)) = (entry.as_object_mut(), value.as_object()) {
                    entry.extend(value.clone());
                }
                put(json!([entry]))
            };
            wrong_types(items, &put, &format!("{path}[]"), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_a_wrong_type_and_unknown_fields_are_refused_here_and_locally() {
    let test = "values_of_a_wrong_type_and_unknown_fields_are_refused_here_and_locally";
    let Some(namespace) = Namespace::new(test).await else { return };
    let mut cases = Vec::new();
    wrong_types(&schema()["properties"]["spec"], &|value| value, "spec", &mut cases);
    assert!(cases.len() > 20, "{cases:?}");
    for path in ["spec", "spec.storage", "spec.resources.limits", "spec.databases[]"] {
        let field = match path {
            "spec" => json!({ "replica": 3 }),
            "spec.storage" => json!({ "storage": { "sise": "1Gi" } }),
            "spec.resources.limits" => json!({ "resources": { "limits": { "disk": "1Gi" } } }),
            _ => json!({ "databases": [{ "name": "a", "hotalignment": true }] }),
        };
        cases.push((format!("{path}: unknown field"), field));
    }
    for (path, spec) in cases {
        let manifest = database("o", &spec);
        let here = namespace.try_create(&manifest, TRY).await;
        assert!(matches!(here, Err((400 | 422, _))), "{path}: {spec}: {here:?}");
        let locally = local_verdict(&manifest);
        assert!(locally.is_some(), "{path}: {spec} is accepted locally");
        // Both name the field.
        let field = path.trim_end_matches(": unknown field").rsplit('.').next().unwrap_or_default();
        let field = field.trim_end_matches("[]");
        assert!(locally.is_some_and(|said| said.contains(field)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_are_selected_by_size_and_scaled_like_a_deployment() {
    let test = "clusters_are_selected_by_size_and_scaled_like_a_deployment";
    let Some(namespace) = Namespace::new(test).await else { return };
    namespace.create("awake", &json!({})).await;
    namespace.create("asleep", &json!({ "replicas": 0 })).await;
    let select = format!("{}?fieldSelector=spec.replicas%3D0", namespace.databases(""));
    let found = namespace.api.get(&select).await.expect("a list");
    let names: Vec<&str> =
        found["items"].as_array().expect("items").iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["asleep"]);
    let scale = format!("{}/scale", namespace.databases("awake"));
    namespace.api.patch(&scale, &json!({ "spec": { "replicas": 5 } })).await;
    assert_eq!(namespace.read("awake").await["spec"]["replicas"], 5);
    let too_many = json!({ "spec": { "replicas": 100 } });
    let refused = namespace.api.try_patch(&scale, &too_many);
    let refused = refused.await.expect_err("100 replicas by scaling");
    assert!(refused.contains("less than or equal to 99"), "{refused}");
}
