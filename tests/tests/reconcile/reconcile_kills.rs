//! The operator is killed at each step of each flow; the next one ends what was begun.

use coequal_tests::apiserver::{Change, Machine, Namespace, Operator};
use coequal_tests::kubernetes::{at, until};
use serde_json::{Value, json};

/// Kinds that the operator makes or has made for it.
const KINDS: &[&str] = &[
    "v1 serviceaccounts",
    "v1 services",
    "networking.k8s.io/v1 networkpolicies",
    "policy/v1 poddisruptionbudgets",
    "apps/v1 statefulsets",
    "v1 persistentvolumeclaims",
    "v1 pods",
];

/// Everything in a namespace that two runs of one flow have in common: no identities, times or addresses.
async fn snapshot(namespace: &Namespace) -> Value {
    let mut found = json!({});
    for kind in KINDS {
        for object in namespace.list(kind).await {
            let mut labels = object["metadata"]["labels"].clone();
            if labels.get("app.kubernetes.io/instance").is_none() {
                continue;
            }
            // A fingerprint of the template, in which the namespace is named.
            labels.as_object_mut().expect("labels").remove("controller-revision-hash");
            let name = format!("{kind}/{}", at(&object, "/metadata/name"));
            let mut spec = if *kind == "v1 pods" { Value::Null } else { object["spec"].clone() };
            if let Some(spec) = spec.as_object_mut() {
                spec.retain(|key, _| !key.starts_with("clusterIP"));
            }
            let text = json!({ "labels": labels, "spec": spec }).to_string();
            let text = text.replace(&format!(".{}.svc", namespace.name), ".NAMESPACE.svc");
            found[name] = serde_json::from_str(&text).expect("JSON");
        }
    }
    let resource = namespace.read("o").await;
    let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &conditions {
        let mut said = ["status", "reason", "message", "observedGeneration"].map(|field| condition[field].clone());
        // How long certificates last is a matter of when the run began.
        if condition["type"] == "CertificatesValid" && said[2].to_string().contains("is valid until") {
            said[2] = json!("valid");
        }
        found[at(condition, "/type")] = json!(said);
    }
    found
}

/// A step in words: what was changed, without the namespace.
fn words(change: &Change) -> String {
    let path =
        change.path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/')).map_or("", |(_, rest)| rest);
    format!("{} {path} {}", change.method, change.note).trim().to_owned()
}

async fn first_start(test: &str) -> Option<(Namespace, Operator)> {
    let namespace = Namespace::new(test).await?;
    let operator = namespace.operator().await;
    namespace.create("o", &json!({ "replicas": 2 })).await;
    Some((namespace, operator))
}

async fn until_like(namespace: &Namespace, expected: &Value, what: &str) {
    until(what, async || {
        let found = snapshot(namespace).await;
        let kinds = expected.as_object().into_iter().chain(found.as_object()).flatten();
        let differs = |(kind, _): &(&String, &Value)| found.get(*kind) != expected.get(*kind);
        match kinds
            .filter(differs)
            .map(|(kind, _)| format!("{kind}: {} instead of {}", found[kind], expected[kind]))
            .next()
        {
            None => Ok(()),
            Some(difference) => Err(difference),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_and_after_each_step_of_the_first_start() {
    let test = "killed_before_and_after_each_step_of_the_first_start";
    let Some((namespace, mut operator)) = first_start(test).await else { return };
    operator.start();
    let waits = "waiting for o-0 to answer";
    until("all that can be done without nodes", async || {
        let (found, pods) = (snapshot(&namespace).await, namespace.list("v1 pods").await.len());
        if pods == 2 && found["Reconciling"].to_string().contains(waits) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    let expected = snapshot(&namespace).await;
    let steps: Vec<String> = operator.gate.changes().iter().map(words).collect();
    operator.kill();
    assert!(steps.len() > 7, "{steps:?}");
    for (number, step) in (1..).zip(&steps) {
        for before in [true, false] {
            println!("STEP {} {step}", if before { "killed before" } else { "killed after " });
            let Some((namespace, mut operator)) = first_start(test).await else { return };
            operator.start();
            match before {
                true => operator.gate.kill_before(number),
                false => operator.gate.kill_after(number),
            }
            // Two runs need not come to the very same number of changes of status.
            until("killed, or done", async || match operator.has_ended() || snapshot(&namespace).await == expected {
                true => Ok(()),
                false => Err(String::new()),
            })
            .await;
            operator.kill();
            operator.start();
            until_like(
                &namespace,
                &expected,
                &format!("the next one ends what was begun before step {number}, {step}"),
            )
            .await;
        }
    }
    delete_while_nobody_looks(&namespace).await;
}

/// Nothing holds a deletion up, not even that there is no operator; volumes stay.
async fn delete_while_nobody_looks(namespace: &Namespace) {
    namespace.delete("o").await;
    for kind in KINDS.iter().filter(|kind| !kind.contains("claims")) {
        until(&format!("{kind} are collected"), async || {
            let left = namespace.list(kind).await;
            let mut ours =
                left.iter().filter(|object| object["metadata"]["labels"].get("app.kubernetes.io/instance").is_some());
            ours.next().map_or(Ok(()), |object| Err(object.to_string()))
        })
        .await;
    }
    assert_eq!(namespace.list("v1 persistentvolumeclaims").await.len(), 2, "volumes are kept");
}

/// One stage of a day: a change, and how it is known that it was carried out.
struct Stage {
    name: &'static str,
    patch: Value,
    nodes: usize,
}

fn a_day() -> Vec<Stage> {
    let stage = |name, patch, nodes| Stage { name, patch, nodes };
    let restart = json!({ "metadata": { "annotations": { "coequal.dev/restart": "today" } } });
    vec![
        stage("first start", json!({}), 2),
        stage("change of settings", json!({ "spec": { "databases": [{ "name": "o", "readQuorum": "majority" }] } }), 2),
        stage("another database", json!({ "spec": { "databases": [{ "name": "o" }, { "name": "p" }] } }), 2),
        stage("2 to 3", json!({ "spec": { "replicas": 3 } }), 3),
        stage("restart", restart, 3),
        stage("another image", json!({ "spec": { "image": "coequal-node:next" } }), 3),
        stage("3 to 2", json!({ "spec": { "replicas": 2 } }), 2),
        stage("to sleep", json!({ "spec": { "replicas": 0 } }), 0),
        stage("awake", json!({ "spec": { "replicas": 2 } }), 2),
    ]
}

/// Whether everything that is asked for now is there, told by the objects themselves.
async fn is_done(namespace: &Namespace, stage: &Stage) -> Result<(), String> {
    let resource = namespace.read("o").await;
    let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
    let pods = namespace.list("v1 pods").await;
    let revision = |pod: &Value| pod["metadata"]["annotations"]["coequal.dev/revision"].clone();
    let set = namespace.api.get(&namespace.path("apps/v1 statefulsets/o")).await.unwrap_or_default();
    let wanted = revision(&set["spec"]["template"]);
    let are_current =
        pods.iter().all(|pod| revision(pod) == wanted && pod["metadata"].get("deletionTimestamp").is_none());
    let is_told = ready["status"] == "True" && ready["observedGeneration"] == resource["metadata"]["generation"];
    // What the last operator wrote may be from before its last deed: the pods are asked themselves.
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let serve = |pod: &Value| pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready));
    let are_ready = pods.iter().all(serve);
    let image = at(&resource, "/spec/image");
    let has_image = image.is_empty() || pods.iter().all(|pod| at(pod, "/spec/containers/0/image") == image);
    let restart = &resource["metadata"]["annotations"]["coequal.dev/restart"];
    let is_restarted =
        restart.is_null() || !pods.iter().any(|pod| at(pod, "/metadata/annotations/made-before") == "yes");
    match is_told && pods.len() == stage.nodes && are_ready && are_current && has_image && is_restarted {
        true => Ok(()),
        false => Err(format!("{} pods, {}", pods.len(), resource["status"])),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_single_change_of_a_whole_day() {
    let Some(namespace) = Namespace::new("killed_after_every_single_change_of_a_whole_day").await else { return };
    let machine = Machine::start(&namespace);
    let mut operator = namespace.operator().await;
    let mut cluster = String::new();
    for stage in a_day() {
        if cluster.is_empty() {
            namespace.create("o", &json!({ "replicas": 2 })).await;
        }
        // Whoever is restarted is another pod than this one.
        for pod in namespace.list("v1 pods").await.iter().filter(|_| stage.name == "restart") {
            let mark = json!({ "metadata": { "annotations": { "made-before": "yes" } } });
            namespace.api.patch(&namespace.path(&format!("v1 pods/{}", at(pod, "/metadata/name"))), &mark).await;
        }
        namespace.api.patch(&namespace.databases("o"), &stage.patch).await;
        let (lives, changes) = (operator.lives(), operator.gate.changes().len());
        let (_, took) = until(stage.name, async || {
            if operator.has_ended() {
                operator.start();
                operator.gate.kill_after_each();
            }
            is_done(&namespace, &stage).await
        })
        .await;
        let kills = operator.lives() - lives;
        println!("STAGE {}: {kills} kills, {:.0} s", stage.name, took.as_secs_f64());
        let changes = operator.gate.changes().split_off(changes);
        changes.iter().for_each(|change| println!("  killed after {}", words(change)));
        let now = at(&namespace.read("o").await, "/status/clusterId");
        if cluster.is_empty() {
            cluster = now;
            let put = machine.client(0).put("/v1/databases/o/collections/things/documents/a", "{\"n\":1}").await;
            assert_eq!(put.status, 201);
        } else {
            assert_eq!(now, cluster, "never a second cluster");
        }
        for ordinal in 0..u32::try_from(stage.nodes).expect("few") {
            check_node(&machine, ordinal, &cluster, stage.nodes).await;
        }
    }
    operator.kill();
    for claim in namespace.list("v1 persistentvolumeclaims").await {
        let is_marked = claim["metadata"]["annotations"].get("coequal.dev/removed-node").is_some();
        assert_eq!(is_marked, at(&claim, "/metadata/name") == "data-o-2", "{claim}");
    }
    drop(machine);
}

/// A node is in the one cluster, with exactly the members that were asked for, and has what was written at the beginning.
async fn check_node(machine: &Machine, ordinal: u32, cluster: &str, nodes: usize) {
    let client = machine.client(ordinal);
    let view = client.get("/v1/cluster").await.json();
    assert_eq!((at(&view, "/id").as_str(), view["nodes"].as_array().map_or(0, Vec::len)), (cluster, nodes), "{view}");
    let read = client.get("/v1/databases/o/collections/things/documents/a?consistency=linearizable").await;
    assert_eq!((read.status.as_u16(), read.json()["n"].as_u64()), (200, Some(1)), "{read:?}");
}
