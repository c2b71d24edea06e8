//! The objects of a resource: as designed, under one name, put back when somebody changes them, and no others touched.
//! No node ever answers here.

use coequal_tests::apiserver::{Namespace, Operator};
use coequal_tests::kubernetes::{at, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Everything that a resource `o` becomes.
const CHILDREN: &[&str] = &[
    "v1 serviceaccounts/o-nodes",
    "v1 services/o-nodes",
    "v1 services/o",
    "networking.k8s.io/v1 networkpolicies/o-nodes",
    "policy/v1 poddisruptionbudgets/o-nodes",
    "apps/v1 statefulsets/o",
];

async fn begin(test: &str, spec: Value) -> Option<(Namespace, Operator)> {
    let namespace = Namespace::new(test).await?;
    let mut operator = namespace.operator().await;
    operator.start();
    namespace.create("o", &spec).await;
    Some((namespace, operator))
}

async fn until_there(namespace: &Namespace, child: &str) -> Value {
    let what = format!("{child} is there");
    let found = until(&what, async || namespace.api.get(&namespace.path(child)).await.ok_or("it is not".to_owned()));
    found.await.0
}

/// Waits for some more reconciles and says how many changes there were meanwhile.
async fn changes_while_it_looks_again(operator: &Operator, times: u64) -> usize {
    let (before, changes) = (operator.metric("reconciles_total").await, operator.gate.changes().len());
    let before = before.expect("metrics");
    until(&format!("{times} more reconciles"), async || {
        let now = operator.metric("reconciles_total").await.unwrap_or(0);
        if now >= before + times { Ok(()) } else { Err(format!("{before}, now {now}")) }
    })
    .await;
    operator.gate.changes().len() - changes
}

/// Waits until what was set off has ended.
async fn until_quiet(operator: &Operator) {
    until("looks that change nothing", async || match changes_while_it_looks_again(operator, 2).await {
        0 => Ok(()),
        changes => Err(format!("{changes} changes")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_as_designed_and_nobody_else_wrote_them() {
    let test = "children_are_as_designed_and_nobody_else_wrote_them";
    let Some((namespace, operator)) = begin(test, json!({ "replicas": 3 })).await else { return };
    let owner = at(&namespace.read("o").await, "/metadata/uid");
    for path in CHILDREN {
        let child = until_there(&namespace, path).await;
        assert_eq!(at(&child, "/metadata/ownerReferences/0/uid"), owner, "{path}");
        assert_eq!(child["metadata"]["ownerReferences"][0]["controller"], true, "{path}");
        for (label, value) in [("managed-by", "coequal-operator"), ("instance", "o"), ("name", "coequal")] {
            assert_eq!(child["metadata"]["labels"][format!("app.kubernetes.io/{label}")], value, "{path}");
        }
        let writers = child["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let mut writers = writers.iter().filter(|writer| writer.get("subresource").is_none());
        assert!(writers.all(|w| w["manager"] == "coequal-operator" && w["operation"] == "Apply"), "{path}: {child:#}");
    }
    let set = until_there(&namespace, "apps/v1 statefulsets/o").await;
    let of_set = |field: &str| at(&set, &format!("/spec/{field}"));
    assert_eq!((of_set("replicas"), of_set("podManagementPolicy")), ("3".to_owned(), "Parallel".to_owned()));
    assert_eq!(of_set("updateStrategy/type"), "OnDelete");
    let headless = until_there(&namespace, "v1 services/o-nodes").await;
    assert_eq!(
        (at(&headless, "/spec/clusterIP"), &headless["spec"]["publishNotReadyAddresses"]),
        ("None".to_owned(), &json!(true))
    );
    assert_eq!(until_there(&namespace, "policy/v1 poddisruptionbudgets/o-nodes").await["spec"]["maxUnavailable"], 1);
    let resource = namespace.read("o").await;
    assert_eq!(resource["metadata"]["generation"], 1, "spec is never written");
    let managers = resource["metadata"]["managedFields"].as_array().expect("managers");
    let mut own = managers.iter().filter(|manager| manager["manager"] == "coequal-operator");
    assert!(own.all(|manager| manager["subresource"] == "status"), "{managers:?}");
    let refused: Vec<_> = operator.gate.changes().into_iter().filter(|change| change.code >= 400).collect();
    assert!(refused.is_empty(), "deploy/operator.yaml gives too few rights, or something is wrong: {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_by_hand_is_put_back() {
    let test = "what_somebody_changes_by_hand_is_put_back";
    let Some((namespace, _operator)) = begin(test, json!({ "replicas": 3 })).await else { return };
    let foreign_port = json!([{ "op": "add", "path": "/spec/ports/-", "value": { "name": "x", "port": 9 } }]);
    let label = json!([{ "op": "remove", "path": "/metadata/labels/app.kubernetes.io~1managed-by" }]);
    let changes: [(&str, Value); 6] = [
        ("v1 services/o", foreign_port),
        ("v1 services/o-nodes", json!([{ "op": "replace", "path": "/spec/selector", "value": { "a": "b" } }])),
        ("networking.k8s.io/v1 networkpolicies/o-nodes", json!([{ "op": "remove", "path": "/spec/ingress/1" }])),
        (
            "policy/v1 poddisruptionbudgets/o-nodes",
            json!([{ "op": "replace", "path": "/spec/maxUnavailable", "value": 3 }]),
        ),
        (
            "apps/v1 statefulsets/o",
            json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other" }]),
        ),
        ("v1 serviceaccounts/o-nodes", label),
    ];
    let facts = |object: &Value| {
        let mut spec = object["spec"].clone();
        // Numbers that the API server gives.
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|key, _| !key.starts_with("clusterIP"));
        }
        (spec, object["metadata"]["labels"].clone())
    };
    for (path, change) in changes {
        let before = until_there(&namespace, path).await;
        let kind = "application/json-patch+json";
        let url = namespace.path(path);
        let changed = namespace.api.request(Method::PATCH, &url, kind, Some(&change)).await.expect(path);
        assert_ne!(facts(&changed), facts(&before), "{path}");
        until(&format!("{path} is put back"), async || {
            let now = until_there(&namespace, path).await;
            if facts(&now) == facts(&before) { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
    for path in CHILDREN {
        let before = until_there(&namespace, path).await;
        namespace.api.delete(&namespace.path(path), None).await;
        until(&format!("{path} is made again"), async || {
            let now = namespace.api.get(&namespace.path(path)).await.ok_or("it is gone")?;
            let is_new = now["metadata"]["uid"] != before["metadata"]["uid"] && facts(&now) == facts(&before);
            if is_new { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_somebody_else_is_left_alone_and_that_is_said() {
    let test = "an_object_of_somebody_else_is_left_alone_and_that_is_said";
    let Some(namespace) = Namespace::new(test).await else { return };
    let spec = json!({ "ports": [{ "port": 80 }], "selector": { "app": "theirs" } });
    // Even one with our own labels is not ours.
    let labels = json!({ "app.kubernetes.io/managed-by": "coequal-operator", "app.kubernetes.io/component": "node", "app.kubernetes.io/instance": "o" });
    let theirs = json!({ "metadata": { "name": "o", "labels": labels }, "spec": spec });
    let theirs = namespace.api.create(&namespace.path("v1 services"), &theirs).await;
    let mut operator = namespace.operator().await;
    operator.start();
    namespace.create("o", &json!({ "replicas": 3 })).await;
    let said = namespace.until_condition("o", "Stalled", "True", "ForeignObject").await;
    assert!(said.contains("Service o exists and does not belong to this resource; it was not touched"), "{said}");
    assert_eq!(namespace.until_condition("o", "Ready", "False", "ForeignObject").await, said);
    until_quiet(&operator).await;
    assert_eq!(namespace.events("ForeignObject").await, [said]);
    let now = until_there(&namespace, "v1 services/o").await;
    assert_eq!(now["metadata"]["resourceVersion"], theirs["metadata"]["resourceVersion"]);
    until_there(&namespace, "apps/v1 statefulsets/o").await;
    namespace.delete("o").await;
    until("the resource is gone", async || match namespace.api.get(&namespace.databases("o")).await {
        None => Ok(()),
        Some(still) => Err(still.to_string()),
    })
    .await;
    namespace.create("o", &json!({ "replicas": 3 })).await;
    namespace.until_condition("o", "Stalled", "True", "ForeignObject").await;
    namespace.api.delete(&namespace.path("v1 services/o"), None).await;
    let said = namespace.until_condition("o", "Stalled", "False", "NothingBlocks").await;
    assert_eq!(said, "nothing waits for a person");
    let ours = until_there(&namespace, "v1 services/o").await;
    assert_eq!(ours["metadata"]["ownerReferences"][0]["kind"], "ReplicatedDatabase");
}

/// What was stored before a rule was made reaches the operator although the API server would refuse it now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_manifest_that_breaks_a_rule_changes_nothing_and_is_said() {
    let test = "a_stored_manifest_that_breaks_a_rule_changes_nothing_and_is_said";
    let Some((namespace, operator)) = begin(test, json!({ "replicas": 3 })).await else { return };
    until_there(&namespace, "apps/v1 statefulsets/o").await;
    let mut stored = namespace.read("o").await;
    stored["spec"]["replicas"] = json!(2);
    stored["spec"]["databases"] = json!([{ "name": "a", "writeQuorum": 1 }]);
    stored["metadata"]["generation"] = json!(2);
    namespace.store("o", &stored).await;
    let said = namespace.until_condition("o", "Stalled", "True", "InvalidSpec").await;
    assert!(said.contains("spec.databases[0].writeQuorum: writeQuorum 1 is below a majority of 2 nodes"), "{said}");
    namespace.until_condition("o", "Reconciling", "False", "InvalidSpec").await;
    assert_eq!(namespace.events("InvalidSpec").await, [said]);
    assert_eq!(until_there(&namespace, "apps/v1 statefulsets/o").await["spec"]["replicas"], 3, "nothing is changed");
    let looks = operator.metric("reconciles_total").await;
    namespace.change("o", json!({ "databases": [{ "name": "a", "writeQuorum": 2 }], "replicas": 3 })).await;
    namespace.until_condition("o", "Stalled", "False", "NothingBlocks").await;
    assert!(operator.metric("reconciles_total").await > looks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_happens_nothing_is_written() {
    let test = "while_nothing_happens_nothing_is_written";
    let Some((namespace, operator)) = begin(test, json!({ "replicas": 3 })).await else { return };
    until("three pods that nobody runs", async || match namespace.list("v1 pods").await.len() {
        3 => Ok(()),
        count => Err(format!("{count} pods")),
    })
    .await;
    until_quiet(&operator).await;
    assert_eq!(changes_while_it_looks_again(&operator, 6).await, 0, "{:?}", operator.gate.changes());
}
