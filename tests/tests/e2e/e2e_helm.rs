//! The operator by Helm: installed, tested, upgraded and taken away, and no node notices.

use coequal_tests::binaries::root;
use coequal_tests::helm;
use coequal_tests::kubernetes::{Load, OPERATOR_NAMESPACE, Place, With, is_ready, run, scenario};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const RELEASE: &str = "coequal-operator";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/replicateddatabases.coequal.dev";

/// Helm, as somebody uses it who has put the images where every machine finds them.
fn helm(place: &Place, program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(place.cluster.directory.join("in"));
    run(command.arg(program).args(["-n", OPERATOR_NAMESPACE, "--timeout=180s"]).args(arguments))
}

/// A setting that only an operator that runs takes note of.
async fn until_answered(place: &Place, seconds: u32) {
    place.patch(json!({ "spec": { "unreachableGracePeriodSeconds": seconds } })).await;
    place.until_orders("the operator has answered", |orders| is_ready(orders, 3)).await;
}

fn restarts(pods: &Value) -> u64 {
    let items = pods["items"].as_array().into_iter().flatten();
    items.filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64()).sum()
}

#[test]
fn helm_installs_tests_upgrades_and_uninstalls_and_no_node_notices() {
    let Some(program) = helm::program("helm_installs_tests_upgrades_and_uninstalls_and_no_node_notices") else {
        return;
    };
    scenario("e2e-helm", With::Operator, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let (pods, load) = (place.pods().await, Load::start(place, 0).await);
        let chart = root().join("charts/coequal-operator").display().to_string();
        let values = ["--set", "imageRegistry=localhost", "--set", "image.pullPolicy=Never", "--wait"];
        // The definition, with all databases, and what plain manifests installed become the release's.
        let install = ["install", RELEASE, &chart, "--take-ownership", "--force-conflicts"];
        helm(place, &program, &[&install[..], &values].concat());
        until_answered(place, 61).await;
        let said = helm(place, &program, &["test", RELEASE, "--logs"]);
        assert!(said.contains("Succeeded"), "{said}");
        let upgrade = ["upgrade", RELEASE, &chart, "--set", "replicaCount=2", "--force-conflicts"];
        helm(place, &program, &[&upgrade[..], &values].concat());
        until_answered(place, 62).await;
        assert_eq!(place.operators().await.len(), 2);

        helm(place, &program, &["uninstall", RELEASE, "--wait"]);
        assert!(place.operators().await.is_empty(), "operators run on");
        load.goes_on().await;
        let definition = place.api.get(DEFINITION).await.expect("the definition stays");
        assert_eq!(definition["metadata"]["deletionTimestamp"], Value::Null);
        place.deploy_operator("0.1.0");
        until_answered(place, 63).await;
        assert_eq!(place.pods().await, pods, "the same pods");
        let list = place.object("pods?labelSelector=app.kubernetes.io/component%3Dnode").await;
        assert_eq!(restarts(&list), 0, "and none was restarted");
        load.finish(place, "operator by Helm and without", 3).await;
    });
}
